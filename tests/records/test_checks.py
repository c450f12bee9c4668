"""What is odd about a set of labelled records."""

from __future__ import annotations

import numpy as np
import pytest

from tje_middleware import CalibrationError
from tje_middleware.records.checks import oddities, refuse_repeated_ids
from tje_middleware.records.columns import Observations


def observations(n=40, *, seed=0, **columns):
    rng = np.random.default_rng(seed)
    mixed = {"correct": np.arange(n) % 3 > 0, "signals": {"s": rng.normal(size=n), "t": rng.normal(size=n)}}
    return Observations(**{**mixed, **columns})


def test_nothing_is_odd_about_mixed_records_with_plain_ids():
    assert oddities(observations(ids=tuple(f"q{place}" for place in range(40)))) == ()


def test_nothing_is_odd_about_all_right_drafts_which_the_verdict_names():
    assert oddities(observations(correct=np.ones(40, bool))) == ()


class TestRepeatedIds:
    def test_are_refused_with_their_places(self):
        with pytest.raises(CalibrationError, match="records 1 and 3 have the same id 'b'"):
            refuse_repeated_ids(observations(4, ids=("a", "b", "c", "b")))

    def test_records_without_ids_are_none(self):
        refuse_repeated_ids(observations(4, ids=(None, None, "a", "b")))
        refuse_repeated_ids(observations(4))


class TestOutcomesOfSome:
    def test_are_named_with_their_number(self):
        (note,) = oddities(observations(partial={"deeper_correct": 12}))
        assert note == "deeper_correct is recorded for 12 of 40 records; it is used only where all have it"


class TestLopsidedLabels:
    @pytest.mark.parametrize(("right", "rare"), [(1, "right"), (99, "wrong")])
    def test_a_class_of_one_in_a_hundred_is_pointed_out(self, right, rare):
        correct = np.random.default_rng(0).permutation(np.arange(100) < right)
        (note,) = oddities(observations(100, correct=correct))
        assert note.startswith(f"only 1 of 100 drafts are {rare}")

    def test_one_in_twenty_is_not(self):
        correct = np.random.default_rng(0).permutation(np.arange(100) < 5)
        assert oddities(observations(100, correct=correct)) == ()


class TestRepeatedSignals:
    def test_records_that_equal_others_to_the_last_digit_are_counted(self):
        values = np.random.default_rng(0).normal(size=40)
        values[:10] = values[10:20]
        (note,) = oddities(observations(signals={"s": values, "t": 2 * values}))
        assert note.startswith("10 of 40 records repeat another one's signals")

    def test_records_that_equal_others_in_one_signal_only_are_not(self):
        values = np.random.default_rng(0).normal(size=(2, 40))
        values[0, :10] = values[0, 10:20]
        assert oddities(observations(signals={"s": values[0], "t": values[1]})) == ()

    def test_coarse_signals_such_as_counts_may_repeat(self):
        assert oddities(observations(signals={"length": np.arange(40.0) % 5})) == ()

    def test_a_constant_signal_is_left_to_the_verdict(self):
        assert oddities(observations(signals={"s": np.full(40, 0.123456)})) == ()


class TestSortedLabels:
    @pytest.mark.parametrize("correct", [np.arange(20) < 8, np.arange(20) >= 8])
    def test_right_drafts_that_stand_together_are_pointed_out(self, correct):
        (note,) = oddities(observations(20, correct=correct))
        assert note.startswith("all right drafts stand together")

    def test_a_few_records_may_stand_together_by_chance(self):
        assert oddities(observations(8, correct=np.arange(8) < 4)) == ()


class TestLeakingIds:
    correct = np.arange(40) % 3 > 0

    def test_letters_that_tell_the_label_are_pointed_out(self):
        ids = tuple(f"{'good' if right else 'bad'}-{place}" for place, right in enumerate(self.correct))
        (note,) = oddities(observations(ids=ids))
        assert note.startswith("ids tell the label ('bad-', 'good-' ...)")

    def test_letters_that_nearly_tell_it_are_not(self):
        ids = [f"{'good' if right else 'bad'}-{place}" for place, right in enumerate(self.correct)]
        ids[0] = "good-0"
        assert oddities(observations(ids=tuple(ids))) == ()

    def test_ids_of_one_kind_each_are_not(self):
        assert oddities(observations(6, ids=("a", "b", "c", "d", "e", "f"))) == ()
