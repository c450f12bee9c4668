"""Samples, profiles and drafts with exactly the numbers that a test names."""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import optimize

from tje_middleware import CalibrationProfile, ProfileKey, SequenceLogprobs, Threshold
from tje_middleware.calibration.calibration import calibrate_observations
from tje_middleware.calibration.settings import CalibrationSettings
from tje_middleware.records.columns import Observations

KEY = ProfileKey(model="m", task="t")
TOP_K = KEY.top_k


def sample(mean: float, sd: float, n: int) -> np.ndarray:
    """(n,) evenly spaced values with exactly this mean and standard deviation (n - 1)."""
    ladder = np.arange(n) - (n - 1) / 2
    return mean + sd * ladder / ladder.std(ddof=1)


def observations_of(correct: np.ndarray, incorrect: np.ndarray, signal: str) -> Observations:
    """Records of one signal, from its values over correct and over incorrect drafts."""
    values = np.concatenate([correct, incorrect])
    return Observations(correct=np.arange(len(values)) < len(correct), signals={signal: values})


def calibrate_samples(
    correct: np.ndarray, incorrect: np.ndarray, *, key: ProfileKey, settings: CalibrationSettings | None = None
) -> CalibrationProfile:
    """The profile of a signal with these values over correct and over incorrect drafts."""
    return calibrate_observations(observations_of(correct, incorrect, key.signal), key=key, settings=settings)


def profile(
    threshold: float = 0.5, *, verdict: str = "usable", key: ProfileKey = KEY, version: int | None = None
) -> CalibrationProfile:
    """A profile whose method ``mean`` has this threshold."""
    made = _calibrated(key.signal)
    return made.model_copy(
        update={
            "key": key,
            "thresholds": {**made.thresholds, "mean": Threshold(value=threshold)},
            "verdict": verdict,
            "verdict_reason": f"made {verdict} for a test",
            "version": version,
        }
    )


@cache
def _calibrated(signal: str) -> CalibrationProfile:
    """Made once a signal: of all that stands in a profile, only the name depends on the rest of the key."""
    return calibrate_samples(
        sample(0.3, 0.1, 10), sample(1.5, 0.3, 10), key=ProfileKey(model="m", task="t", signal=signal)
    )


def draft(bits: float, *, tokens: int = 4, top_k: int = TOP_K) -> SequenceLogprobs:
    """A draft whose every token has this entropy over ``top_k`` alternatives."""

    def excess(p: float) -> float:
        rest = (1 - p) / (top_k - 1)
        return -p * np.log2(p) - (1 - p) * np.log2(rest) - bits

    p = optimize.brentq(excess, 1 / top_k, 1 - 1e-12)
    row = np.log([p, *[(1 - p) / (top_k - 1)] * (top_k - 1)])
    return SequenceLogprobs(np.tile(row, (tokens, 1)))
