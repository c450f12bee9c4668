"""Signals by name: the paper's, over all tokens or over one part of them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.samples import draft
from tje_middleware import SequenceLogprobs, SignalError, mean_entropy
from tje_middleware.signals import SIGNALS, resolve_signal

THINKING, ANSWER = draft(2.0, tokens=3), draft(0.5, tokens=2)
MARKED = SequenceLogprobs(
    np.concatenate([THINKING.top_logprobs, ANSWER.top_logprobs]), ("<think>", "hm", "</think>", "4", "2")
)


def test_mean_entropy_is_the_papers_signal():
    assert resolve_signal("mean_entropy") is mean_entropy
    assert resolve_signal("mean_entropy")(MARKED) == pytest.approx((3 * 2.0 + 2 * 0.5) / 5)


def test_a_part_behind_the_name_takes_the_signal_over_that_part_alone():
    assert resolve_signal("mean_entropy@thinking")(MARKED) == pytest.approx(2.0)
    assert resolve_signal("mean_entropy@answer")(MARKED) == pytest.approx(0.5)


def test_the_answer_of_a_sequence_without_thinking_is_all_of_it():
    assert resolve_signal("mean_entropy@answer")(ANSWER) == pytest.approx(0.5)


def test_a_part_without_tokens_is_an_error_and_not_zero():
    with pytest.raises(SignalError, match="no thinking tokens"):
        resolve_signal("mean_entropy@thinking")(ANSWER)


@pytest.mark.parametrize(
    "name", ["", "mood", "mean_entropy@", "mean_entropy@mood", "@answer", "mean_entropy@answer@x"]
)
def test_an_unknown_name_is_refused_with_those_that_there_are(name):
    with pytest.raises(SignalError, match=r"there is no signal .*mean_entropy.*@answer or @thinking"):
        resolve_signal(name)


@pytest.mark.parametrize("name", sorted(SIGNALS))
def test_every_signal_is_lower_for_a_more_confident_draft(name):
    assert resolve_signal(name)(draft(0.1)) < resolve_signal(name)(draft(2.0))
