from __future__ import annotations

from collections.abc import Callable
from math import log, log2
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from tje_middleware import SequenceLogprobs, mean_entropy, token_entropies
from tje_middleware.errors import SignalError, TjeError, UnreadableLogprobs
from tje_middleware.logprobs.entropy import EntropyAccumulator

INF = float("inf")
LOGPROBS = st.one_of(
    st.floats(-700, 0),
    st.floats(-30, 0),
    st.floats(-1e-6, 0),
    st.floats(-9998, -700),
    st.sampled_from([-9999.0, -INF]),
)
ROWS = st.lists(LOGPROBS, min_size=1, max_size=25).filter(lambda row: max(row) > -9999)


def tolerance(row: list[float]) -> float:
    """Bits: entropies of improbable rows carry the rounding of their logprobs' size."""
    return 1e-12 * max(1.0, -max(row))


def reference(row: list[float]) -> float:
    """The paper's formula in 60 digits."""
    with mp.workdps(60):
        weights = [mpf(0) if value <= -9999 else mp.exp(mpf(value)) for value in row]
        total = mp.fsum(weights)
        shares = [weight / total for weight in weights if weight]
        return float(-mp.fsum(share * mp.log(share, 2) for share in shares))


def entropy(row: list[float]) -> float:
    return float(token_entropies([row])[0])


@pytest.mark.parametrize("k", [1, 2, 3, 20, 1000])
@pytest.mark.parametrize("level", [0.0, -0.5, -100.0, -800.0, -9998.0])
def test_a_uniform_distribution_over_k_has_log2_k_bits(k: int, level: float) -> None:
    assert entropy([level - log(k) if level > -9000 else level] * k) == pytest.approx(log2(k), abs=1e-9)


@pytest.mark.parametrize("row", [[0.0], [-3.0], [0.0, -INF], [-700.0, -9999.0], [0.0, -800.0]])
def test_a_point_mass_has_none(row: list[float]) -> None:
    assert entropy(row) == 0.0


def test_a_fair_and_a_biased_coin() -> None:
    assert entropy([log(0.5), log(0.5)]) == 1.0
    assert entropy([log(0.9), log(0.1)]) == pytest.approx(0.46899559358928122)


@settings(deadline=None)
@given(ROWS)
def test_it_agrees_with_the_formula_in_60_digits(row: list[float]) -> None:
    assert entropy(row) == pytest.approx(reference(row), rel=1e-9, abs=tolerance(row))


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_alternatives_does_not_matter(row: list[float], random: Any) -> None:
    shuffled = random.sample(row, len(row))
    assert entropy(shuffled) == pytest.approx(entropy(row), abs=tolerance(row))


@given(st.lists(st.floats(-600, 0), min_size=1, max_size=20), st.floats(-100, 0))
def test_a_constant_added_to_a_row_does_not_matter(row: list[float], shift: float) -> None:
    assert entropy([value + shift for value in row]) == pytest.approx(entropy(row), abs=1e-9)


@given(ROWS, st.integers(1, 10))
def test_padding_does_not_matter(row: list[float], count: int) -> None:
    assert entropy([*row, *[-INF] * count]) == pytest.approx(entropy(row), abs=tolerance(row))


@given(ROWS)
def test_it_lies_between_0_and_log2_k(row: list[float]) -> None:
    assert 0.0 <= entropy(row) <= log2(len(row)) + tolerance(row)


@given(ROWS, ROWS)
def test_a_row_does_not_touch_its_neighbours(first: list[float], second: list[float]) -> None:
    width = max(len(first), len(second))
    rows = [row + [-INF] * (width - len(row)) for row in (first, second)]
    expected = [entropy(first), entropy(second)]
    bounds = max(tolerance(first), tolerance(second))
    assert token_entropies(rows).tolist() == pytest.approx(expected, abs=bounds)


def test_a_long_sequence_is_the_sequence_of_its_parts() -> None:
    rows = np.log(np.random.default_rng(0).dirichlet(np.ones(20), size=1000))
    expected = -(np.exp(rows) * rows / log(2)).sum(axis=1)
    np.testing.assert_allclose(token_entropies(SequenceLogprobs(rows)), expected, atol=1e-12)
    assert mean_entropy(rows) == pytest.approx(expected.mean())


def test_the_mean_is_over_positions() -> None:
    assert mean_entropy([[-1.0, -1.0], [0.0, -INF]]) == pytest.approx(0.5)


@pytest.mark.parametrize("empty", [np.empty((0, 0)), np.empty((0, 20)), SequenceLogprobs(np.empty((0, 5)))])
def test_an_empty_sequence_has_no_mean(empty: Any) -> None:
    assert token_entropies(empty).shape == (0,)
    with pytest.raises(SignalError, match="without tokens"):
        mean_entropy(empty)


REFUSED = [[float("nan")], [-1.0, float("nan")], [INF], [0.5], [0.7, 0.3], [-INF], [-9999.0, -INF], [], ["a"], ["-1"]]


@pytest.mark.parametrize("row", [*REFUSED, [None], [[-1.0]], None], ids=str)
def test_what_is_no_distribution_is_refused_by_both(row: Any) -> None:
    with pytest.raises(UnreadableLogprobs):
        token_entropies([row])
    running = EntropyAccumulator()
    with pytest.raises(UnreadableLogprobs):
        running.add(row)
    assert running.tokens == 0


def test_ragged_rows_are_refused_with_a_remedy() -> None:
    with pytest.raises(UnreadableLogprobs, match=r"fill positions .* up with -inf"):
        token_entropies([[-1.0], [-1.0, -2.0]])


@settings(deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=6))
def test_the_accumulator_agrees_with_the_array(rows: list[list[float]]) -> None:
    running = EntropyAccumulator()
    expected = [entropy(row) for row in rows]
    for row, value in zip(rows, expected, strict=True):
        assert running.add(row) == pytest.approx(value, abs=tolerance(row))
    assert running.tokens == len(rows)
    assert running.total == pytest.approx(sum(expected))
    assert running.maximum == pytest.approx(max(expected))
    assert running.mean == pytest.approx(sum(expected) / len(rows))


def outcome(measure: Callable[[list[float]], float], row: list[float]) -> float | str:
    try:
        return measure(row)
    except TjeError as error:
        return type(error).__name__


@given(st.lists(st.floats(), max_size=4))
def test_the_accumulator_refuses_what_the_array_refuses(row: list[float]) -> None:
    first, second = outcome(entropy, row), outcome(EntropyAccumulator().add, row)
    assert first == second or first == pytest.approx(second, abs=1e-9)


def test_the_accumulator_is_exact_where_probabilities_lose_their_digits() -> None:
    row = [-740.0, -741.0, -741.5]
    assert EntropyAccumulator().add(row) == pytest.approx(reference(row), abs=1e-9)


def test_the_accumulator_takes_any_iterable() -> None:
    assert EntropyAccumulator().add(iter([-1.0, -1.0])) == pytest.approx(1.0)


def test_an_empty_accumulator_has_no_mean() -> None:
    with pytest.raises(SignalError, match="without tokens"):
        _ = EntropyAccumulator().mean
