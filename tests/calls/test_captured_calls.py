"""What a handler has seen, as evidence for an answer that is to be a calibration record."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.samples import draft, profile
from tje_middleware import (
    CalibrationRecord,
    EntropyGate,
    MissingLogprobs,
    SequenceLogprobs,
    SignalError,
    TokenUsage,
    UnreadableLogprobs,
)
from tje_middleware.calls.aggregation import aggregated
from tje_middleware.calls.captured_calls import CapturedCalls
from tje_middleware.calls.log import MAX_CALLS, CallLog, ModelCall

RULES = ["worst", "last", "pooled"]


def captured(*evidence: SequenceLogprobs | UnreadableLogprobs, max_calls: int = MAX_CALLS) -> CapturedCalls:
    """A handler that has seen calls with this evidence."""
    seen = CapturedCalls()
    seen._log = CallLog(max_calls=max_calls)
    for number, logprobs in enumerate(evidence):
        seen._log.record(ModelCall(f"r{number}", logprobs, TokenUsage(output_tokens=4, calls=1), model="m"))
    return seen


SURE, UNSURE = draft(0.2), draft(3.0)
SILENT = MissingLogprobs("nothing came")


@pytest.mark.parametrize(("rule", "bits"), [("worst", 3.0), ("last", 0.2), ("pooled", 1.6)])
def test_a_record_of_it_is_measured_by_the_rule(rule, bits) -> None:
    record = CalibrationRecord(correct=True, sequence=captured(UNSURE, SURE).sequence(rule))
    assert record.value("mean_entropy", 20) == pytest.approx(bits)


def test_the_worst_is_that_of_the_signal_that_is_calibrated() -> None:
    seen = captured(draft(0.2, tokens=9), UNSURE)
    assert len(seen.sequence(signal="length")) == 9
    assert len(seen.sequence()) == 4


@pytest.mark.parametrize("rule", RULES)
def test_without_a_call_there_is_nothing(rule) -> None:
    with pytest.raises(MissingLogprobs, match="no model was called"):
        captured().sequence(rule)


@pytest.mark.parametrize("rule", ["worst", "pooled"])
@pytest.mark.parametrize("error", [SILENT, UnreadableLogprobs("a NaN")], ids=["missing", "unreadable"])
def test_a_call_without_logprobs_is_worse_than_any(rule, error) -> None:
    with pytest.raises(type(error), match=str(error)):
        captured(UNSURE, error, SURE).sequence(rule)


def test_it_is_no_matter_where_the_last_alone_speaks() -> None:
    assert captured(SILENT, SURE).sequence("last") is SURE
    with pytest.raises(MissingLogprobs, match="nothing came"):
        captured(SURE, SILENT).sequence("last")


def test_each_time_it_is_raised_anew_so_that_no_traceback_is_kept() -> None:
    with pytest.raises(MissingLogprobs) as raised:
        captured(SILENT).sequence()
    assert raised.value is not SILENT
    assert SILENT.__traceback__ is None


def test_calls_that_were_dropped_may_have_been_the_worst() -> None:
    seen = captured(UNSURE, SURE, SURE, max_calls=2)
    with pytest.raises(MissingLogprobs, match="1 of the model calls"):
        seen.sequence()
    assert seen.sequence("last") is SURE


def test_calls_of_unequally_many_alternatives_are_not_pooled() -> None:
    with pytest.raises(UnreadableLogprobs, match="calls of 20 and of 5 alternatives"):
        captured(SURE, draft(0.2, top_k=5)).sequence("pooled")


def test_one_that_the_signal_cannot_be_taken_of_is_worse_than_any_that_it_can() -> None:
    empty = SequenceLogprobs(np.empty((0, 20)))
    assert captured(UNSURE, empty).sequence() is empty


def test_a_rule_or_a_signal_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'best'"):
        captured(SURE).sequence("best")
    with pytest.raises(SignalError, match="'surprise'"):
        captured(SURE).sequence(signal="surprise")


@given(st.lists(st.sampled_from([0.1, 0.5, 0.9, 1.5, 3.0]), min_size=1, max_size=5), st.sampled_from(RULES))
def test_what_is_calibrated_is_what_a_gate_judges(bits, rule) -> None:
    seen = captured(*map(draft, bits))
    judged = aggregated(seen.calls, rule, EntropyGate(profile(threshold=1.0))).logprobs
    assert np.array_equal(seen.sequence(rule).top_logprobs, judged.top_logprobs)
