"""Sliding windows and tails, of entropies and of DeepConf's confidences, against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tje_middleware import SequenceLogprobs, SignalError, token_entropies
from tje_middleware.signals import (
    deepconf_bottom,
    deepconf_mean,
    deepconf_tail,
    deepconf_window,
    tail_entropy,
    window_entropy,
)

from .drafts import drafts, of_bits, of_probabilities

ALL = (deepconf_mean, deepconf_window, deepconf_bottom, deepconf_tail)


def groups(values: list[float], window: int) -> list[float]:
    window = min(window, len(values))
    return [sum(values[start : start + window]) / window for start in range(len(values) - window + 1)]


@settings(deadline=None)
@given(drafts(), st.integers(1, 50))
def test_the_worst_window_is_that_of_a_loop(sequence: SequenceLogprobs, window: int) -> None:
    expected = max(groups(token_entropies(sequence).tolist(), window))
    assert window_entropy(sequence, window) == pytest.approx(expected, abs=1e-12)


def test_a_window_finds_the_place_that_the_mean_dilutes() -> None:
    burst = of_bits([0] * 80 + [2] * 16 + [0] * 64)
    assert window_entropy(burst) == pytest.approx(2.0)
    assert tail_entropy(burst) == 0.0


def test_a_window_may_miss_what_stands_at_both_ends() -> None:
    assert window_entropy(of_bits([1] + [0] * 15 + [1])) == pytest.approx(1 / 16)


@pytest.mark.parametrize(("tokens", "last"), [(1, 1), (16, 16), (17, 16), (160, 16), (161, 17), (300, 30)])
def test_the_tail_is_the_last_tenth_but_a_window_at_least(tokens: int, last: int) -> None:
    assert tail_entropy(of_bits([3] * (tokens - last) + [1] * last)) == pytest.approx(1.0)
    if tokens > last:
        assert tail_entropy(of_bits([3] * (tokens - last + 1) + [1] * (last - 1))) > 1.0


@pytest.mark.parametrize("window", [0, -3])
@pytest.mark.parametrize("signal", [window_entropy, deepconf_window, deepconf_bottom])
def test_a_window_without_tokens_is_refused(signal, window: int) -> None:
    with pytest.raises(ValueError, match="at least 1 token"):
        signal(of_bits([1, 1]), window)


@settings(deadline=None)
@given(drafts(), st.integers(1, 50))
def test_deepconf_is_that_of_a_loop(sequence: SequenceLogprobs, window: int) -> None:
    token = [-sum(row) / len(row) for row in sequence.top_logprobs.tolist()]
    group = sorted(groups(token, window))
    lowest = group[: math.ceil(len(group) / 10)]
    assert deepconf_mean(sequence) == pytest.approx(-sum(token) / len(token))
    assert deepconf_window(sequence, window) == pytest.approx(-group[0])
    assert deepconf_bottom(sequence, window) == pytest.approx(-sum(lowest) / len(lowest))
    last = token[-16:]
    assert deepconf_tail(sequence) == pytest.approx(-sum(last) / len(last))


def test_deepconf_is_in_nats() -> None:
    assert deepconf_mean(of_probabilities([[0.5, 0.5]])) == pytest.approx(-math.log(2))


def test_a_position_with_fewer_alternatives_takes_all_to_as_many() -> None:
    ragged = of_probabilities([[0.6, 0.3, 0.1], [0.6, 0.4, 0.0]])
    assert deepconf_mean(ragged) == pytest.approx(deepconf_mean(of_probabilities([[0.6, 0.3], [0.6, 0.4]])))


@settings(deadline=None)
@given(drafts(), st.data())
def test_alternatives_that_did_not_come_never_make_a_draft_look_more_confident(
    sequence: SequenceLogprobs, data: st.DataObject
) -> None:
    """The least probable are those that a list leaves out."""
    cut = np.sort(sequence.top_logprobs, axis=1)[:, ::-1].copy()
    for row in cut:
        row[data.draw(st.integers(2, len(row))) :] = -np.inf
    for signal in ALL:
        assert signal(SequenceLogprobs(cut)) >= signal(sequence) - 1e-9


def test_a_masked_alternative_does_not_make_a_toss_look_certain() -> None:
    masked = SequenceLogprobs(np.array([[math.log(0.5), math.log(0.5), -9998.0]]))
    assert deepconf_mean(masked) == pytest.approx(-(2 * math.log(2) + 53 * math.log(2)) / 3)


@pytest.mark.parametrize("rows", [[[0.9]], [[0.9, 0.0]], [[0.9, 0.1], [1.0, 0.0]]])
@pytest.mark.parametrize("signal", ALL)
def test_deepconf_of_one_alternative_is_unknown(signal, rows) -> None:
    with pytest.raises(SignalError, match="one alternative only"):
        signal(of_probabilities(rows))
