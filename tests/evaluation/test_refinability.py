"""The gain of going deeper, by bins of the signal."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tje_middleware.errors import CalibrationError
from tje_middleware.evaluation import paired_difference, share
from tje_middleware.evaluation.refinability import refinability
from tje_middleware.records.columns import Observations


def observed(values, correct=None, deeper=None):
    values = np.asarray(values, dtype=float)
    return Observations(
        correct=np.zeros(len(values), dtype=bool) if correct is None else np.asarray(correct, dtype=bool),
        signals={"s": values},
        deeper_correct=None if deeper is None else np.asarray(deeper, dtype=bool),
    )


class TestBins:
    def test_hold_about_equally_many_drafts_the_most_confident_first(self):
        bins = refinability(observed(np.arange(100)[::-1]), "s", bins=4)
        assert [(found.low, found.high, found.n) for found in bins] == [
            (0, 24, 25),
            (25, 49, 25),
            (50, 74, 25),
            (75, 99, 25),
        ]
        assert bins[0].middle == 12

    def test_are_fewer_where_there_are_few_drafts(self):
        assert [found.n for found in refinability(observed(np.arange(25)), "s")] == [12, 13]
        assert [found.n for found in refinability(observed([1.0]), "s")] == [1]

    @given(st.lists(st.integers(0, 12), min_size=1, max_size=200), st.integers(1, 12))
    def test_part_the_drafts_without_parting_equal_ones(self, values, most):
        bins = refinability(observed(values), "s", bins=most)
        assert sum(found.n for found in bins) == len(values)
        assert len(bins) <= most
        assert all(found.n >= 10 for found in bins) or len(bins) == 1
        assert all(before.high < after.low for before, after in pairwise(bins))


class TestFigures:
    def test_are_those_of_the_drafts_in_the_bin(self):
        rng = np.random.default_rng(0)
        values, correct, deeper = rng.random(60), rng.random(60) < 0.5, rng.random(60) < 0.7
        for found in refinability(observed(values, correct, deeper), "s", bins=3):
            here = (values >= found.low) & (values <= found.high)
            assert found.accuracy == share(int(correct[here].sum()), found.n)
            assert found.deeper == share(int(deeper[here].sum()), found.n)
            assert found.gain == paired_difference(deeper[here], correct[here])

    def test_have_no_gain_without_deeper_outcomes(self):
        (found,) = refinability(observed([1, 2, 3], correct=[1, 1, 0]), "s")
        assert found.deeper is None
        assert found.gain is None
        assert found.accuracy.value == pytest.approx(2 / 3)

    def test_show_a_gain_where_deeper_is_always_right(self):
        (found,) = refinability(observed(np.arange(30), deeper=np.ones(30)), "s", bins=1)
        assert found.gain.value == 1
        assert found.gain.low > 0.7


class TestRefusals:
    def test_name_an_unknown_signal_and_those_that_there_are(self):
        with pytest.raises(CalibrationError, match="no 'other', only s"):
            refinability(observed([1.0]), "other")

    def test_of_no_records(self):
        with pytest.raises(CalibrationError, match="no records"):
            refinability(observed([]), "s")

    def test_of_no_bins(self):
        with pytest.raises(ValueError, match="at least 1"):
            refinability(observed([1.0]), "s", bins=0)
