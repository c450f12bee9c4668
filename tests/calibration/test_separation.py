"""Verdicts on one signal, and the areas of many at once. The interval of an area is tested with calibration."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tje_middleware.calibration.separation import areas, auroc, auroc_interval, judge, mann_whitney_p

NONE = np.array([])


def judged(correct, incorrect):
    area = auroc(correct, incorrect)
    interval = None if area is None else auroc_interval(area, len(correct), len(incorrect))
    return judge(correct, incorrect, area, interval, mann_whitney_p(correct, incorrect))


class TestAreas:
    @settings(deadline=None)
    @given(
        values=st.lists(st.lists(st.integers(0, 9), min_size=8, max_size=8), min_size=1, max_size=4),
        wrong=st.lists(st.booleans(), min_size=8, max_size=8).filter(lambda labels: 0 < sum(labels) < 8),
    )
    def test_of_many_signals_are_those_of_each_alone(self, values, wrong):
        columns, labels = np.array(values, dtype=float), np.array(wrong)
        each = [auroc(column[~labels], column[labels]) for column in columns]
        assert areas(stats.rankdata(columns, axis=1), labels) == pytest.approx(each)

    @settings(deadline=None)
    @given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.lists(st.integers(0, 9), min_size=1, max_size=9))
    def test_turned_round_the_area_is_what_is_missing_to_one(self, correct, incorrect):
        one, other = np.array(correct, float), np.array(incorrect, float)
        assert auroc(one, other) == pytest.approx(1 - auroc(other, one))


class TestVerdicts:
    def test_a_clear_separation_is_usable(self):
        verdict, reason = judged(np.arange(20.0), np.arange(15.0, 35.0))
        assert verdict == "usable"
        assert "correct drafts are more confident" in reason

    def test_the_right_direction_without_proof_is_weak_and_says_how_many_records_there_are(self):
        verdict, reason = judged(np.array([1.0, 2.0, 4.0]), np.array([3.0, 5.0]))
        assert verdict == "weak"
        assert "5 records do not rule out chance" in reason

    def test_the_wrong_direction_is_unusable_and_called_so_where_it_is_shown(self):
        verdict, reason = judged(np.arange(15.0, 35.0), np.arange(20.0))
        assert verdict == "unusable"
        assert reason.startswith("the wrong direction: incorrect drafts are the more confident ones")

    def test_the_wrong_direction_that_may_be_chance_is_unusable_without_that_claim(self):
        verdict, reason = judged(np.array([3.0, 5.0]), np.array([1.0, 2.0, 4.0]))
        assert verdict == "unusable"
        assert "not more uncertain" in reason

    def test_an_area_above_a_half_with_the_means_the_wrong_way_is_unusable(self):
        verdict, _ = judged(np.array([1.0, 2.0, 3.0, 1000.0]), np.array([4.0, 5.0, 6.0]))
        assert verdict == "unusable"

    def test_a_class_that_is_missing_is_named(self):
        assert judged(np.arange(4.0), NONE) == (
            "unusable",
            "no incorrect drafts among 4 records, so no separation can be shown",
        )
        assert "no correct drafts among 4" in judged(NONE, np.arange(4.0))[1]

    def test_a_constant_signal_is_unusable(self):
        assert judged(np.full(9, 0.5), np.full(9, 0.5)) == (
            "unusable",
            "the signal is the same (0.5) for every record",
        )


class TestMannWhitney:
    def test_is_scipys(self):
        correct, incorrect = np.array([1.0, 2.0, 2.0, 5.0]), np.array([2.0, 6.0, 7.0])
        assert mann_whitney_p(correct, incorrect) == pytest.approx(stats.mannwhitneyu(correct, incorrect).pvalue)

    def test_is_unknown_without_a_class_or_any_spread(self):
        assert mann_whitney_p(NONE, np.arange(3.0)) is None
        assert mann_whitney_p(np.full(3, 1.0), np.full(4, 1.0)) is None
