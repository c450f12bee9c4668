from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tje_middleware import SequenceLogprobs, parse_logprobs, token_entropies
from tje_middleware.errors import MissingLogprobs, UnreadableLogprobs

from .shapes import ROWS, TEXT, TOKENS, chat, legacy_block, positions, vllm

INF = float("inf")
FLOAT_LOWEST = -3.4028234663852886e38  # what llama.cpp writes for a probability of zero


def test_ragged_positions_are_padded_with_minus_infinity() -> None:
    sequence = parse_logprobs([[-1.0], [-1.0, -2.0, -3.0], [-1.0, -2.0]])
    assert sequence.top_logprobs.tolist() == [[-1.0, -INF, -INF], [-1.0, -2.0, -3.0], [-1.0, -2.0, -INF]]
    assert sequence.counts.tolist() == [1, 3, 2]
    assert sequence.top_k == 3


def test_entropies_are_over_what_came() -> None:
    assert token_entropies(parse_logprobs([[-3.0], [-3.0, -3.0]])).tolist() == pytest.approx([0.0, 1.0])


@pytest.mark.parametrize("zero", [-9999.0, -10000.0, -INF, FLOAT_LOWEST])
def test_zero_probability_is_written_in_several_ways(zero: float) -> None:
    sequence = parse_logprobs([[-0.5, zero, -0.5]])
    assert sequence.top_logprobs.tolist() == [[-0.5, -INF, -0.5]]
    assert token_entropies(sequence).tolist() == [1.0]


@pytest.mark.parametrize("bad", [float("nan"), INF, 0.002, 3.0])
def test_what_is_no_logprob_is_refused_at_its_place(bad: float) -> None:
    rows = [list(row) for row in ROWS]
    rows[2][1] = bad
    for payload in (rows, np.array(rows)):
        with pytest.raises(UnreadableLogprobs, match=rf"top_logprobs\[2, 1\] is {bad}, which is no log-probability"):
            parse_logprobs(payload)


@pytest.mark.parametrize("bad", ["-0.5", None, [], 10**400, {"logprob": None}])
def test_what_is_no_number_is_refused_at_its_place(bad: Any) -> None:
    payload = chat()
    payload["choices"][0]["logprobs"]["content"][2]["top_logprobs"][1]["logprob"] = bad
    with pytest.raises(UnreadableLogprobs, match=r"top_logprobs\[2, 1\] is no log-probability"):
        parse_logprobs(payload)


def test_a_rounding_error_above_zero_is_accepted() -> None:
    assert parse_logprobs([[1e-3, -7.0]]).top_logprobs.tolist() == [[1e-3, -7.0]]


@pytest.mark.parametrize("rows", [[[0.7, 0.2, 0.1]], [[0.7, 0.3], [1.0]], np.array([[1.0, 0.0]])])
def test_probabilities_passed_by_mistake_are_recognised(rows: Any) -> None:
    with pytest.raises(UnreadableLogprobs, match="look like probabilities: take their natural logarithm"):
        parse_logprobs(rows)


def test_percentages_are_not_called_probabilities() -> None:
    with pytest.raises(UnreadableLogprobs) as caught:
        parse_logprobs([[70.0, 30.0]])
    assert "look like" not in str(caught.value)


def test_a_sampled_logprob_is_checked_too() -> None:
    entries = positions()
    entries[3]["logprob"] = float("nan")
    with pytest.raises(UnreadableLogprobs, match=r"sampled_logprobs\[3\] is nan"):
        parse_logprobs(entries)


@pytest.mark.parametrize("empty", [[], None])
def test_a_position_without_alternatives_is_named(empty: Any) -> None:
    entries = positions()
    entries[2]["top_logprobs"] = empty
    with pytest.raises(UnreadableLogprobs, match="position 2 of 4 has no alternatives") as caught:
        parse_logprobs(entries)
    assert not isinstance(caught.value, MissingLogprobs)


def test_a_position_that_leaves_the_alternatives_out_is_named() -> None:
    entries = positions()
    del entries[2]["top_logprobs"]
    with pytest.raises(UnreadableLogprobs, match="position 2 of 4 has no alternatives"):
        parse_logprobs(entries)


def test_an_echoed_prompt_whose_first_token_has_no_distribution_is_refused() -> None:
    block = legacy_block()
    block["top_logprobs"][0] = block["token_logprobs"][0] = None
    with pytest.raises(UnreadableLogprobs, match="position 0 of 4 has no alternatives"):
        parse_logprobs(block)


@pytest.mark.parametrize("zero", [-9999.0, -INF])
def test_a_position_without_any_probability_is_named(zero: float) -> None:
    with pytest.raises(UnreadableLogprobs, match="position 1 has no alternative of non-zero probability"):
        parse_logprobs([[-0.1, -0.2], [zero, zero]])


def test_the_end_of_the_turn_is_no_token_of_the_answer() -> None:
    """llama.cpp lists it where it does not stream, and only there: the same answer must give the same signal."""
    end = {**positions()[0], "token": ""}
    payload = chat()
    payload["choices"][0]["logprobs"]["content"].append(end)
    assert parse_logprobs(payload).tokens == tuple(TOKENS)
    assert len(parse_logprobs([end])) == 1


def test_mixed_notations_are_refused() -> None:
    entries: list[Any] = [[{"logprob": -0.1}], [-0.1]]
    with pytest.raises(UnreadableLogprobs, match="not all write"):
        parse_logprobs(entries)


@pytest.mark.parametrize("shape", [(), (3,), (2, 2, 2), (3, 0)])
def test_an_array_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnreadableLogprobs):
        parse_logprobs(np.full(shape, -1.0))


@pytest.mark.parametrize("values", [[["-0.5"]], [[None]], [[-0.5j]], [[-1.0], [-1.0, -2.0]]])
def test_an_array_of_something_else_is_refused(values: Any) -> None:
    with pytest.raises(UnreadableLogprobs, match="no array of numbers"):
        SequenceLogprobs(values)


def test_lengths_must_agree() -> None:
    with pytest.raises(UnreadableLogprobs, match="tokens has 1 entries, but there are 4 positions"):
        SequenceLogprobs(np.array(ROWS), tokens=("a",))


def test_everything_is_read_only() -> None:
    marks = np.zeros(4, dtype=bool)
    sequence = SequenceLogprobs(np.array(ROWS), tuple(TOKENS), np.array([-0.1] * 4), marks)
    for twin in (sequence, copy.deepcopy(sequence), pickle.loads(pickle.dumps(sequence))):
        assert twin.sampled_logprobs is not None
        assert twin.marked_thinking is not None
        for array in (twin.top_logprobs, twin.sampled_logprobs, twin.marked_thinking):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0
    with pytest.raises(AttributeError):
        sequence.tokens = ()  # type: ignore[misc]
    marks[0] = True  # the caller's own stays free, and apart
    assert not sequence.thinking_mask.any()


def read_only_view(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


def subclass_view(array: np.ndarray) -> np.ndarray:
    return array.view(np.recarray)


@pytest.mark.parametrize("given_as", [np.asarray, memoryview, read_only_view, subclass_view, np.transpose])
def test_the_callers_array_is_neither_frozen_nor_aliased(given_as: Any) -> None:
    own = np.full((2, 2), -1.0)
    sequence = SequenceLogprobs(given_as(own))
    own[:] = -2.0
    assert (sequence.top_logprobs == -1.0).all()


def test_a_payload_is_left_as_it_was() -> None:
    payload, twin = chat(), chat()
    parse_logprobs(payload)
    assert payload == twin


@given(st.lists(st.lists(st.floats(-50, 0), min_size=5, max_size=5), min_size=1, max_size=4), st.integers(1, 7))
def test_truncated_keeps_the_most_probable(rows: list[list[float]], top_k: int) -> None:
    kept = SequenceLogprobs(np.array(rows)).truncated(top_k)
    assert np.sort(kept.top_logprobs).tolist() == [sorted(row)[-top_k:] for row in rows]


def test_truncated_makes_vllm_k_plus_one_comparable() -> None:
    payload = vllm()
    assert parse_logprobs(payload).truncated(2).top_k == 2
    assert parse_logprobs(payload).truncated(2).tokens == tuple(TOKENS)


def test_truncated_to_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        SequenceLogprobs(np.array(ROWS)).truncated(0)


def test_concatenate_joins_what_all_parts_know() -> None:
    whole = parse_logprobs(positions())
    wide = SequenceLogprobs(np.full((1, 5), -2.0), tokens=("!",))
    joined = SequenceLogprobs.concatenate([whole, wide])
    assert joined.text == TEXT + "!"
    assert joined.sampled_logprobs is None
    assert joined.counts.tolist() == [3, 3, 3, 3, 5]
    assert len(SequenceLogprobs.concatenate([])) == 0


@given(st.lists(st.lists(st.lists(st.floats(-50, 0), min_size=1, max_size=4), min_size=1, max_size=3), min_size=1))
def test_concatenate_keeps_every_entropy(parts: list[list[list[float]]]) -> None:
    sequences = [parse_logprobs(part) for part in parts]
    joined = token_entropies(SequenceLogprobs.concatenate(sequences))
    np.testing.assert_allclose(joined, np.concatenate([token_entropies(part) for part in sequences]), atol=1e-12)
