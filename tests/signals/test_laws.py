"""What holds for every draft."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tje_middleware import SequenceLogprobs
from tje_middleware.signals import SIGNALS, resolve_signal
from tje_middleware.signals.entropies import WINDOW

from .drafts import drafts, sharpened

NAMES = sorted(SIGNALS)


def measured(sequence: SequenceLogprobs) -> dict[str, float]:
    return {name: resolve_signal(name)(sequence) for name in NAMES}


def with_top(sequence: SequenceLogprobs, top: np.ndarray) -> SequenceLogprobs:
    return SequenceLogprobs(top, sequence.tokens, sequence.sampled_logprobs)


@settings(deadline=None)
@given(drafts(), st.floats(1.0, 4.0))
def test_a_sharper_draft_is_never_less_confident(sequence: SequenceLogprobs, power: float) -> None:
    sharper, before = measured(sharpened(sequence, power)), measured(sequence)
    for name in NAMES:
        if not name.endswith("nll"):  # the sampled token need not be the most probable one
            assert sharper[name] <= before[name] + 1e-9, name


@settings(deadline=None)
@given(drafts(), st.integers(0, 2**32))
def test_the_order_of_alternatives_does_not_matter(sequence: SequenceLogprobs, seed: int) -> None:
    shuffled = np.random.default_rng(seed).permuted(sequence.top_logprobs, axis=1)
    assert measured(with_top(sequence, shuffled)) == pytest.approx(measured(sequence), abs=1e-9)


@settings(deadline=None)
@given(drafts(), st.integers(1, 5), st.sampled_from([-np.inf, -9999.0]))
def test_padding_equals_absence(sequence: SequenceLogprobs, columns: int, zero: float) -> None:
    padding = np.full((len(sequence), columns), zero)
    padded = with_top(sequence, np.hstack([padding, sequence.top_logprobs]))
    assert measured(padded) == pytest.approx(measured(sequence), abs=1e-9)


@settings(deadline=None)
@given(drafts())
def test_totals_are_means_times_lengths(sequence: SequenceLogprobs) -> None:
    value = measured(sequence)
    for kind in ("entropy", "nll"):
        assert value[f"total_{kind}"] == pytest.approx(value[f"mean_{kind}"] * value["length"])
    assert value["uncertain_tokens"] == pytest.approx(value["uncertain_share"] * value["length"])


@settings(deadline=None)
@given(drafts())
def test_the_worst_is_no_better_than_the_mean(sequence: SequenceLogprobs) -> None:
    value = measured(sequence)
    ladder = [
        ("mean_entropy", "max_entropy"),
        ("p90_entropy", "max_entropy"),
        ("window_entropy", "max_entropy"),
        ("tail_entropy", "max_entropy"),
        ("answer_entropy", "answer_total"),
        ("number_max", "number_entropy"),
        ("number_entropy", "total_entropy"),
        ("mean_nll", "worst_nll"),
        ("margin", "worst_margin"),
        ("deepconf_bottom", "deepconf_window"),
        ("deepconf_tail", "deepconf_window"),
    ]
    for milder, worse in ladder:
        if (milder, worse) != ("deepconf_tail", "deepconf_window") or len(sequence) <= 10 * WINDOW:
            assert value[milder] <= value[worse] + 1e-9, (milder, worse)


@settings(deadline=None)
@given(drafts(max_tokens=6))
def test_a_window_is_no_better_than_the_mean_of_whole_windows(sequence: SequenceLogprobs) -> None:
    whole = SequenceLogprobs.concatenate([sequence] * WINDOW)
    assert measured(whole)["window_entropy"] >= measured(whole)["mean_entropy"] - 1e-9
    assert measured(whole)["deepconf_window"] >= measured(whole)["deepconf_mean"] - 1e-9


@settings(deadline=None)
@given(drafts(max_tokens=WINDOW))
def test_of_a_draft_no_longer_than_a_window_all_means_are_the_mean(sequence: SequenceLogprobs) -> None:
    value = measured(sequence)
    assert value["window_entropy"] == pytest.approx(value["mean_entropy"])
    assert value["tail_entropy"] == pytest.approx(value["mean_entropy"])
    for part in ("window", "bottom", "tail"):
        assert value[f"deepconf_{part}"] == pytest.approx(value["deepconf_mean"])


@settings(deadline=None)
@given(drafts())
def test_bounds(sequence: SequenceLogprobs) -> None:
    value = measured(sequence)
    for name in ("margin", "worst_margin", "uncertain_share"):
        assert 0.0 <= value[name] <= 1.0, name
    for name in NAMES:
        assert value[name] <= 0.0 if name.startswith("deepconf") else value[name] >= 0.0, name
