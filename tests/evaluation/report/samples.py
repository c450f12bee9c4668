"""Records, and reports about them."""

from __future__ import annotations

from functools import cache

import numpy as np

from tje_middleware import ProfileKey
from tje_middleware.calibration.settings import CalibrationSettings, Prices
from tje_middleware.evaluation import Evaluation, replay
from tje_middleware.evaluation.report import DraftText
from tje_middleware.evaluation.sample_size import learning_curve
from tje_middleware.records.columns import Observations

SIGNAL = "mean_entropy"
HOSTILE = "</script><img src=x onerror=\"document.title='owned'\"><!--<script>"
SETTINGS = CalibrationSettings(resamples=50, prices=Prices(token=0.00002, error=0.05), alpha=0.1)


def records(n: int = 200, *, gap: float = 0.9, deeper: bool = True, seed: int = 1) -> Observations:
    """Drafts of which seven in ten are right, wrong ones more uncertain by ``gap`` bits."""
    rng = np.random.default_rng(seed)
    correct = rng.random(n) < 0.7
    signal = np.exp(rng.normal(-0.9, 0.35, n)) + gap * ~correct
    tokens = rng.integers(80, 200, n).astype(float)
    return Observations(
        correct=correct,
        signals={SIGNAL: signal},
        tokens=tokens,
        deeper_correct=np.where(correct, rng.random(n) < 0.98, rng.random(n) < 0.4) if deeper else None,
        deeper_tokens=tokens * 3.5 if deeper else None,
        ids=tuple(f"q{place}" for place in range(n)),
    )


def key(model: str = "acme-7b", task: str = "triage") -> ProfileKey:
    return ProfileKey(model=model, task=task, signal=SIGNAL)


@cache
def evaluated(observations: Observations, **named: str) -> Evaluation:
    """By folds where that can be, else on records of their own."""
    right = int(observations.correct.sum())
    test = None
    if min(right, len(observations) - right) < 2:
        ids = tuple(f"t{place}" for place in range(len(observations)))
        test = Observations(
            correct=observations.correct,
            signals=observations.signals,
            tokens=observations.tokens,
            deeper_correct=observations.deeper_correct,
            deeper_tokens=observations.deeper_tokens,
            ids=ids,
        )
    return replay(observations, key=key(**named), settings=SETTINGS, test=test)


def curve_of(observations: Observations):
    return learning_curve(observations, key=key(), settings=SETTINGS, sizes=(5, 20, 50), repeats=8)


def drafts() -> list[DraftText]:
    """One right and one wrong, with everything that a tokeniser may write."""
    odd = (
        "Hello",
        ",",
        " world",
        "\n\n",
        "  ",
        "\t",
        "<0xE2>",
        "\ufffd",
        "\u202e",
        "\u200b",
        "",
        "<b>&",
        HOSTILE,
        "é",
        "中",
    )
    return [
        DraftText("q1", True, odd, tuple(0.3 * place for place in range(len(odd))), 0.2),
        DraftText(HOSTILE, False, ("no",) * 3, (0.0, 1.0, 4.3), 2.5),
    ]
