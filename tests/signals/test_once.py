"""What signals share is computed once a sequence, and kept with it alone."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest

from tje_middleware import SequenceLogprobs, mean_entropy, token_entropies
from tje_middleware.signals import SIGNALS, positions, resolve_signal

from .drafts import TEXTS, of_bits


def complete() -> SequenceLogprobs:
    return of_bits([1] * len(TEXTS), TEXTS, sampled_logprobs=np.full(len(TEXTS), -0.5))


def counting() -> tuple[list[int], Callable[[SequenceLogprobs], int]]:
    calls: list[int] = []

    def count(sequence: SequenceLogprobs) -> int:
        calls.append(len(sequence))
        return len(calls)

    return calls, count


def test_a_function_is_asked_once_a_sequence() -> None:
    calls, count = counting()
    first, second = complete(), complete()
    assert [first.once(count), first.once(count), second.once(count)] == [1, 1, 2]
    assert len(calls) == 2


def test_an_error_is_not_kept() -> None:
    calls, count = counting()

    def reluctant(sequence: SequenceLogprobs) -> int:
        if count(sequence) == 1:
            raise ValueError("not yet")
        return len(calls)

    sequence = complete()
    with pytest.raises(ValueError, match="not yet"):
        sequence.once(reluctant)
    assert sequence.once(reluctant) == 2


@pytest.mark.parametrize("twin_of", [copy.copy, copy.deepcopy, lambda sequence: pickle.loads(pickle.dumps(sequence))])
def test_copies_start_without_it(twin_of: Any) -> None:
    calls, count = counting()
    sequence = complete()
    sequence.once(count)
    assert len(pickle.dumps(sequence)) == len(pickle.dumps(complete()))
    twin_of(sequence).once(count)
    assert len(calls) == 2


def test_threads_that_ask_at_once_get_one_value() -> None:
    sequence, start, seen = complete(), Barrier(8), []

    def ask() -> None:
        start.wait()
        seen.append(positions.entropies(sequence))

    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(array is seen[0] for array in seen)


@pytest.mark.parametrize(
    "shared",
    [positions.entropies, positions.margins, positions.confidences, positions.surprisals, positions.token_ends],
)
def test_what_signals_share_cannot_be_changed(shared: Any) -> None:
    sequence = complete()
    assert shared(sequence) is shared(sequence)
    with pytest.raises(ValueError, match="read-only"):
        shared(sequence)[0] = 1


def test_token_entropies_are_the_callers_own() -> None:
    sequence = complete()
    token_entropies(sequence)[:] = 9.0
    assert mean_entropy(sequence) == pytest.approx(1.0)


def test_parts_are_made_once_and_without_thinking_the_answer_is_the_sequence() -> None:
    plain = complete()
    assert plain.answer is plain
    thought = of_bits([1, 1, 1, 2], ["<think>", "hm", "</think>", "4"])
    assert thought.answer is thought.answer
    assert thought.thinking is thought.thinking
    assert thought.truncated(2) is thought.truncated(2)
    assert thought.truncated(3) is not thought.truncated(2)


def test_a_measured_sequence_goes_as_soon_as_nobody_holds_it() -> None:
    sequence = complete()
    for name in SIGNALS:
        resolve_signal(name)(sequence)
    gone = weakref.ref(sequence)
    gc.disable()
    try:
        del sequence
        assert gone() is None
    finally:
        gc.enable()
