"""The bets are fair while nothing changes, lose little then, and win when something does."""

from __future__ import annotations

from copy import deepcopy
from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tje_middleware.gate.drift.betting import Bets

some_gaps = st.lists(st.integers(1, 40), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(some_gaps, st.lists(st.integers(0, 11), max_size=80))
def test_after_any_history_the_expected_wealth_is_the_wealth(gaps, history):
    bets = Bets(gaps)
    counts = np.array(gaps, dtype=float)
    for place in history:
        bets.see(place % len(gaps))
        counts[place % len(gaps)] += 1
    expected = 0.0
    for place, share in enumerate(counts / counts.sum()):
        after = deepcopy(bets)
        after.see(place)
        expected += share * exp(after.log_wealth - bets.log_wealth)
    assert expected == pytest.approx(1.0)


@settings(max_examples=30, deadline=None)
@given(some_gaps, st.integers(0, 1_000), st.integers(1, 3_000))
def test_no_history_whatever_costs_more_than_the_logarithm_of_its_length(gaps, seed, length):
    bets = Bets(gaps)
    for place in np.random.default_rng(seed).integers(0, len(gaps), length).tolist():
        bets.see(place)
    assert bets.log_wealth >= log(0.5) - log(1 + length / 50) - 1e-9


@pytest.mark.parametrize("uneventful", [0, 1_000, 10_000])
def test_a_change_makes_rich_early_and_late(uneventful):
    bets, rng = Bets([100] * 10), np.random.default_rng(0)
    for place in rng.integers(0, 10, uneventful).tolist():
        bets.see(place)
    assert bets.highest < log(100)
    for place in rng.integers(5, 10, 60).tolist():
        bets.see(place)
    assert bets.highest > log(100)


def test_what_was_won_once_is_remembered():
    bets = Bets([50, 50])
    for place in [0] * 60 + [1, 0] * 400:
        bets.see(place)
    assert bets.highest > bets.log_wealth + 1


def test_counts_that_are_forgotten_stay_finite_however_long_it_runs():
    bets, rng = Bets([30, 30, 30]), np.random.default_rng(1)
    for place in rng.integers(0, 3, 60_000).tolist():  # half-lives of 50: 2^1200 of the first unit
        bets.see(place)
    assert bets.observations == 60_000
    assert -15 < bets.log_wealth < log(100)


def test_one_bin_tells_nothing():
    bets = Bets([21])
    for _ in range(100):
        bets.see(0)
    assert bets.highest == pytest.approx(0.0)
