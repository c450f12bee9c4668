"""Which numbers of accepted drafts are tested, in which order, and at which level."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.risk_control import control_fwer
from scipy import stats

from tje_middleware.calibration.thresholds.exact_tests import Ladder, fewest_trials, last_rejected, plan, ranks_from

DELTA = 0.1


def first(level):
    return fewest_trials(0.1, delta=level)


class TestRanks:
    @settings(deadline=None)
    @given(start=st.integers(1, 300), length=st.integers(0, 100_000))
    def test_ascend_from_the_first_to_the_last(self, start, length):
        ranks = ranks_from(start, start + length)
        assert (ranks[0], ranks[-1]) == (start, start + length)
        assert (np.diff(ranks) > 0).all()

    @settings(deadline=None)
    @given(start=st.integers(1, 300), length=st.integers(0, 100_000))
    def test_lie_no_further_apart_than_one_draft_or_two_percent(self, start, length):
        ranks = ranks_from(start, start + length)
        assert (np.diff(ranks) <= np.maximum(1, 0.02 * ranks[:-1])).all()

    def test_are_every_number_among_few(self):
        assert ranks_from(22, 100).tolist() == list(range(22, 101))


class TestPlan:
    def test_there_is_none_where_no_draft_could_pass(self):
        assert plan(first(DELTA) - 1, first, delta=DELTA) is None
        assert plan(first(DELTA), first, delta=DELTA) is not None

    @settings(deadline=None)
    @given(n=st.integers(22, 50_000))
    def test_the_levels_are_delta_in_all(self, n):
        assert plan(n, first, delta=DELTA).levels.sum() == pytest.approx(DELTA)

    def test_with_few_records_all_of_the_level_starts_at_the_first_rank(self):
        steps = plan(5 * 22 - 1, first, delta=DELTA)
        assert steps.ranks[0] == 22
        assert steps.levels[0] == DELTA

    def test_with_many_half_of_it_does_and_the_rest_at_ranks_five_times_apart(self):
        steps = plan(1000, first, delta=DELTA)
        starts = np.flatnonzero(steps.levels)
        lowest = first(DELTA / 2)
        assert steps.levels[starts] == pytest.approx([DELTA / 2, DELTA / 4, DELTA / 4])
        assert steps.ranks[starts] == pytest.approx([lowest, 5 * lowest, 25 * lowest], rel=0.02)

    @settings(deadline=None)
    @given(n=st.integers(22, 5_000))
    def test_the_last_rank_is_all_of_them(self, n):
        assert plan(n, first, delta=DELTA).ranks[-1] == n

    def test_a_start_waits_until_so_many_drafts_are_accepted(self):
        steps = plan(60, first, delta=DELTA)
        # Drafts 20 to 40 are equal: up to rank 40 only 20 are accepted, with which nothing can pass.
        counts = np.where(steps.ranks <= 40, 20, steps.ranks)
        moved = steps.levels_at(counts)
        assert steps.ranks[np.flatnonzero(moved)].tolist() == [41]
        assert moved.sum() == pytest.approx(DELTA)

    @settings(deadline=None)
    @given(n=st.integers(22, 3_000))
    def test_without_equal_drafts_the_levels_stay_where_they_are(self, n):
        steps = plan(n, first, delta=DELTA)
        assert (steps.levels_at(steps.ranks) == steps.levels).all()


class TestLadder:
    def test_sorts_and_remembers_where_each_stood(self):
        ladder = Ladder.of(np.array([0.3, 0.1, 0.2]))
        assert ladder.signal.tolist() == [0.1, 0.2, 0.3]
        assert ladder.order.tolist() == [1, 2, 0]

    def test_counts_events_from_the_most_confident_draft_on(self):
        ladder = Ladder.of(np.array([0.3, 0.1, 0.2]))
        assert ladder.cumulated(np.array([True, False, True])).tolist() == [0, 0, 1, 2]

    def test_accepts_as_many_as_the_rank_where_none_are_equal(self):
        assert Ladder.of(np.arange(5.0)).accepted(np.array([1, 3, 5])).tolist() == [1, 3, 5]

    def test_equal_drafts_are_accepted_together_or_not_at_all(self):
        ladder = Ladder.of(np.array([1.0, 2.0, 2.0, 2.0, 3.0]))
        assert ladder.accepted(np.array([1, 2, 3, 4, 5])).tolist() == [1, 1, 1, 4, 5]

    @settings(deadline=None)
    @given(values=st.lists(st.integers(0, 6), min_size=1, max_size=30))
    def test_what_is_accepted_lies_strictly_below_what_follows(self, values):
        signal = np.array(values, dtype=float)
        ranks = np.arange(1, len(values) + 1)
        for rank, count in zip(ranks, Ladder.of(signal).accepted(ranks), strict=True):
            following = np.sort(signal)[rank] if rank < len(values) else np.inf
            assert count == (signal < following).sum()


class TestLastRejected:
    def test_passes_a_rejected_ones_level_on(self):
        assert last_rejected(np.array([0.01, 0.09, 0.1]), np.array([0.1, 0.0, 0.0])) == 2

    def test_stops_at_the_first_that_is_not_rejected(self):
        assert last_rejected(np.array([0.01, 0.2, 0.0]), np.array([0.1, 0.0, 0.0])) == 0

    def test_is_nothing_where_the_first_is_not_rejected_and_no_level_comes_in_later(self):
        assert last_rejected(np.array([0.2, 0.0]), np.array([0.1, 0.0])) is None

    def test_begins_again_at_a_later_start_with_its_level_alone(self):
        assert last_rejected(np.array([0.2, 0.04, 0.06]), np.array([0.05, 0.05, 0.0])) == 1

    def test_levels_of_starts_that_were_reached_add_up(self):
        assert last_rejected(np.array([0.01, 0.1]), np.array([0.05, 0.05])) == 1

    @settings(deadline=None)
    @given(p_values=st.lists(st.floats(0, 0.2), min_size=1, max_size=40))
    def test_with_one_start_it_is_mapies_fixed_sequence(self, p_values):
        levels = np.where(np.arange(len(p_values)) == 0, DELTA, 0.0)
        theirs = control_fwer(np.array(p_values), DELTA, "fixed_sequence")
        last = last_rejected(np.array(p_values), levels)
        assert list(range(0 if last is None else last + 1)) == theirs.tolist()

    @pytest.mark.parametrize("true", [(0,), (3,), (0, 3, 6), (2, 3, 4), tuple(range(8))])
    @pytest.mark.parametrize("common", [0.0, 0.9])
    def test_rejects_a_true_hypothesis_with_no_more_than_delta(self, true, common):
        rng, runs = np.random.default_rng(len(true)), 3000
        levels = np.array([0.05, 0, 0, 0.025, 0, 0, 0.025, 0])
        normal = np.sqrt(common) * rng.normal(size=(runs, 1)) + np.sqrt(1 - common) * rng.normal(size=(runs, 8))
        p_values = stats.norm.sf(normal)
        p_values[:, [place for place in range(8) if place not in true]] = 0.0
        wrongly = sum(any(_rejects(row, levels, place) for place in true) for row in p_values)
        assert wrongly <= stats.binom.ppf(0.9999, runs, DELTA)


def _rejects(p_values, levels, place):
    """Whether the hypothesis at a place is rejected: it is the last one when those after it cannot be."""
    return last_rejected(p_values[: place + 1], levels[: place + 1]) == place
