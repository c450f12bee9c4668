"""Signals by name: those that there are, over all tokens or over one part of them, and users' own."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from tests.logprobs.shapes import shapes
from tests.samples import draft
from tje_middleware import SequenceLogprobs, SignalError, mean_entropy, parse_logprobs
from tje_middleware.signals import CANDIDATES, SIGNALS, quantile_entropy, register_signal, resolve_signal

from .drafts import TEXTS, drafts

THINKING, ANSWER = draft(2.0, tokens=3), draft(0.5, tokens=2)
MARKED = SequenceLogprobs(
    np.concatenate([THINKING.top_logprobs, ANSWER.top_logprobs]), ("<think>", "hm", "</think>", "4", "2")
)
NAMES = sorted(SIGNALS)


@pytest.fixture(autouse=True)
def _registrations_end_with_the_test() -> Iterator[None]:
    before = dict(SIGNALS)
    yield
    SIGNALS.clear()
    SIGNALS.update(before)


def written(bits: float, tokens: int = len(TEXTS)) -> SequenceLogprobs:
    """A draft with all that any signal asks for, sampled at its most probable alternatives."""
    plain = draft(bits, tokens=tokens)
    return SequenceLogprobs(plain.top_logprobs, TEXTS[:tokens], plain.top_logprobs.max(axis=1))


def test_mean_entropy_is_the_papers_signal():
    assert resolve_signal("mean_entropy") is mean_entropy
    assert resolve_signal("mean_entropy")(MARKED) == pytest.approx((3 * 2.0 + 2 * 0.5) / 5)


def test_a_part_behind_the_name_takes_the_signal_over_that_part_alone():
    assert resolve_signal("mean_entropy@thinking")(MARKED) == pytest.approx(2.0)
    assert resolve_signal("mean_entropy@answer")(MARKED) == pytest.approx(0.5)
    assert resolve_signal("length@thinking")(MARKED) == 3
    assert resolve_signal("total_entropy@answer")(MARKED) == pytest.approx(1.0)


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


def test_an_unknown_name_may_be_a_users_own_that_this_process_does_not_know():
    with pytest.raises(SignalError, match=r"registered in this process .*register_signal\(name, function\)"):
        resolve_signal("mine")


@pytest.mark.parametrize("name", sorted({*NAMES} - {"length"}))
def test_every_signal_is_lower_for_a_more_confident_draft(name):
    assert resolve_signal(name)(written(0.1)) < resolve_signal(name)(written(2.0))


def test_length_is_lower_for_a_shorter_draft():
    assert resolve_signal("length")(written(2.0, 3)) < resolve_signal("length")(written(0.1, 4))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tokens", [None, ()])
def test_every_signal_of_nothing_is_an_error(name, tokens):
    with pytest.raises(SignalError, match="without tokens"):
        resolve_signal(name)(SequenceLogprobs(np.empty((0, 5)), tokens))


@pytest.mark.parametrize("name", CANDIDATES)
def test_every_signal_tells_its_unit_and_is_a_float(name):
    signal = SIGNALS[name.partition("@")[0]]
    assert signal.unit in (signal.function.__doc__ or "")
    assert any(unit in (signal.function.__doc__ or "") for unit in ("bit", "nats", "tokens)", "unit", "share"))
    if not name.endswith("@thinking"):
        assert type(resolve_signal(name)(written(1.0))) is float


@pytest.mark.parametrize("shape", shapes())
def test_every_payload_gives_finite_numbers_or_says_why_not(shape):
    sequence = parse_logprobs(shapes()[shape])
    for name in CANDIDATES:
        try:
            value = resolve_signal(name)(sequence)
        except SignalError:
            continue
        assert math.isfinite(value), name


EXTREMES = {
    "certain": [[0.0, -np.inf], [0.0, -np.inf]],
    "certain to rounding": [[1e-3, -9998.0], [1e-3, -9998.0]],
    "improbable": [[-9000.0, -9998.0], [-9998.0, -9998.0]],
    "ragged": [[-0.1, -np.inf, -np.inf], [-1.0, -2.0, -3.0]],
    "one alternative": [[-0.5], [-0.5]],
}


@pytest.mark.parametrize("rows", EXTREMES.values(), ids=EXTREMES.keys())
@pytest.mark.parametrize("name", NAMES)
def test_extreme_numbers_give_finite_numbers_or_say_why_not(name, rows):
    sequence = SequenceLogprobs(np.array(rows), ("4", "2"), np.array([1e-3, -9998.0]))
    try:
        assert math.isfinite(resolve_signal(name)(sequence))
    except SignalError:
        assert "margin" in name or "deepconf" in name


@settings(deadline=None, max_examples=50)
@given(drafts())
def test_asking_twice_or_in_another_order_changes_nothing(sequence):
    twin = pickle.loads(pickle.dumps(sequence))
    first = {name: resolve_signal(name)(sequence) for name in NAMES}
    assert {name: resolve_signal(name)(twin) for name in reversed(NAMES)} == first
    assert {name: resolve_signal(name)(sequence) for name in NAMES} == first


def test_the_candidates_are_every_signal_and_the_parts_that_thinking_makes():
    parts = {name for name in CANDIDATES if "@" in name}
    assert {*CANDIDATES} - parts == {*SIGNALS}
    assert parts == {
        "mean_entropy@answer",
        "total_entropy@answer",
        "mean_entropy@thinking",
        "total_entropy@thinking",
        "window_entropy@thinking",
    }
    assert len(set(CANDIDATES)) == len(CANDIDATES)


def mine(sequence: SequenceLogprobs) -> float:
    return float(len(sequence)) / 2


def test_a_registered_signal_is_found_by_name_and_over_parts():
    assert register_signal("mine", mine) is mine
    assert resolve_signal("mine")(MARKED) == 2.5
    assert resolve_signal("mine@answer")(MARKED) == 1.0


def test_registering_decorates():
    @register_signal("decorated")
    def decorated(sequence: SequenceLogprobs) -> float:
        return 7.0

    assert resolve_signal("decorated") is decorated


def test_a_partial_is_a_signal():
    register_signal("median_entropy", partial(quantile_entropy, q=0.5))
    assert resolve_signal("median_entropy")(MARKED) == pytest.approx(2.0)


def test_registering_the_same_function_again_changes_nothing():
    register_signal("mine", mine)
    assert register_signal("mine", mine) is mine
    assert register_signal("mean_entropy", mean_entropy) is mean_entropy


@pytest.mark.parametrize("taken", ["mean_entropy", "length"])
def test_a_name_that_is_taken_is_refused_and_keeps_its_meaning(taken):
    before = SIGNALS[taken]
    with pytest.raises(SignalError, match="already"):
        register_signal(taken, mine)
    assert SIGNALS[taken] is before


@pytest.mark.parametrize("name", ["", " ", "a b", "a\n", "a@answer", "@", "auto", "learned"])
def test_a_name_that_would_mean_something_else_is_refused(name):
    with pytest.raises(SignalError, match="cannot name a signal"):
        register_signal(name, mine)
    with pytest.raises(SignalError, match="cannot name a signal"):
        register_signal(name)(mine)
    assert name not in SIGNALS


def test_what_is_no_function_is_refused():
    nothing: Any = 3
    with pytest.raises(SignalError, match="must be a function"):
        register_signal("mine", nothing)


def test_a_function_that_is_defined_anew_takes_the_place_of_the_old_one():
    def defined(value):
        def again(sequence: SequenceLogprobs) -> float:
            return value

        return register_signal("again", again)

    defined(1.0)
    second = defined(2.0)
    assert resolve_signal("again") is second
