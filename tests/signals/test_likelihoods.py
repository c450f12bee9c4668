from __future__ import annotations

import math

import numpy as np
import pytest

from tje_middleware import SequenceLogprobs, SignalError
from tje_middleware.signals import mean_nll, total_nll, worst_nll

ALL = (mean_nll, total_nll, worst_nll)


def sampled(*probabilities: float) -> SequenceLogprobs:
    with np.errstate(divide="ignore"):
        return SequenceLogprobs(np.full((len(probabilities), 2), -0.7), sampled_logprobs=np.log(probabilities))


def test_surprisals_are_in_bits() -> None:
    draft = sampled(0.5, 0.25, 0.125)
    assert total_nll(draft) == pytest.approx(6.0)
    assert mean_nll(draft) == pytest.approx(2.0)
    assert worst_nll(draft) == pytest.approx(3.0)


def test_the_mean_is_the_logarithm_of_the_perplexity() -> None:
    assert 2 ** mean_nll(sampled(0.5, 0.02)) == pytest.approx(math.sqrt(1 / 0.5 * 1 / 0.02))


@pytest.mark.parametrize("signal", ALL)
def test_a_rounding_error_above_probability_1_is_no_negative_surprisal(signal) -> None:
    draft = SequenceLogprobs(np.array([[-0.1, -3.0]]), sampled_logprobs=np.array([1e-3]))
    assert signal(draft) == 0.0


@pytest.mark.parametrize("signal", ALL)
def test_without_the_sampled_tokens_logprobs_it_is_unknown(signal) -> None:
    with pytest.raises(SignalError, match="does not know the logprobs of its sampled tokens"):
        signal(SequenceLogprobs(np.array([[-0.1, -3.0]])))


@pytest.mark.parametrize("signal", ALL)
def test_a_token_of_probability_0_is_named_and_not_infinite(signal) -> None:
    with pytest.raises(SignalError, match="position 1 was sampled with probability zero"):
        signal(sampled(0.5, 0.0))
