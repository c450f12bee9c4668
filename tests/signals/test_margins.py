from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from tje_middleware import SequenceLogprobs, SignalError
from tje_middleware.signals import margin, worst_margin

from .drafts import drafts, of_probabilities


def test_the_margin_is_between_the_two_most_probable() -> None:
    rows = [[0.1, 0.6, 0.3], [0.5, 0.5, 0.0]]
    assert margin(of_probabilities(rows)) == pytest.approx(1 - (0.3 + 0.0) / 2)
    assert worst_margin(of_probabilities(rows)) == pytest.approx(1.0)


def test_probabilities_are_renormalised_over_those_that_came() -> None:
    assert margin(of_probabilities([[0.06, 0.02]])) == pytest.approx(1 - (0.75 - 0.25))


@settings(deadline=None)
@given(drafts())
def test_it_is_that_of_sorted_rows(sequence: SequenceLogprobs) -> None:
    weights = np.sort(np.exp(sequence.top_logprobs), axis=1)
    gaps = (weights[:, -1] - weights[:, -2]) / weights.sum(axis=1)
    assert margin(sequence) == pytest.approx(1 - gaps.mean())
    assert worst_margin(sequence) == pytest.approx(1 - gaps.min())


@pytest.mark.parametrize("level", [-800.0, -9000.0])
def test_improbable_alternatives_have_a_margin_too(level: float) -> None:
    sequence = SequenceLogprobs(np.log([[0.75, 0.25]]) + level)
    assert margin(sequence) == pytest.approx(0.5)


def test_of_certain_positions_it_is_0() -> None:
    assert margin(SequenceLogprobs(np.array([[0.0, -800.0]] * 3))) == 0.0


@pytest.mark.parametrize("signal", [margin, worst_margin])
@pytest.mark.parametrize("rows", [[[0.9]], [[0.9, 0.0]], [[0.9, 0.1], [1.0, 0.0]]])
def test_the_margin_of_one_alternative_is_unknown(signal, rows) -> None:
    with pytest.raises(SignalError, match="margin"):
        signal(of_probabilities(rows))
