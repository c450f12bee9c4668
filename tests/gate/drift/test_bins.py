"""Bins between order statistics: live values fall into them as a Polya urn says, ties and all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tje_middleware.calibration.reference import reference_of, rounded
from tje_middleware.gate.drift.betting import MOST_BINS, Bins

values = st.floats(-1e6, 1e6, allow_subnormal=False)
signals = st.lists(st.one_of(values, st.integers(0, 5).map(float)), min_size=1, max_size=80).map(np.array)

DISTRIBUTIONS = {
    "continuous": lambda rng, n: rng.gamma(2.0, 0.2, n),
    "counts": lambda rng, n: rng.poisson(3.0, n).astype(float),
    "many zeros": lambda rng, n: np.where(rng.random(n) < 0.5, 0.0, rng.random(n)),
    "one value": lambda _, n: np.full(n, 7.0),
}


@given(signals)
def test_there_are_at_most_twelve_and_they_share_all_gaps(signal):
    bins = Bins(reference_of(signal))
    assert sum(bins.gaps) == len(signal) + 1
    assert 2 <= len(bins) <= MOST_BINS
    assert min(bins.gaps) >= 1


@pytest.mark.parametrize("n", [23, 24, 100, 512, 5_000])
def test_they_are_as_even_as_the_gaps_allow(n):
    gaps = Bins(reference_of(np.random.default_rng(0).normal(size=n))).gaps
    assert len(gaps) == MOST_BINS
    assert max(gaps) - min(gaps) <= max(2, n / 256)


@given(signals, values, values)
def test_a_higher_value_is_in_no_lower_bin(signal, one, other):
    bins = Bins(reference_of(signal))
    low, high = sorted(rounded(value) for value in (one, other))
    assert low == high or 0 <= bins.place(low) <= bins.place(high) < len(bins)


@given(signals)
def test_two_processes_have_the_same_bins(signal):
    reference = reference_of(signal)
    live = [rounded(value) for value in signal.tolist()]
    one, other = Bins(reference), Bins(reference)
    assert [one.place(value) for value in live] == [other.place(value) for value in live]


@pytest.mark.parametrize("draw", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
@pytest.mark.parametrize("n", [3, 11, 30])
def test_live_values_fall_as_from_a_polya_urn(draw, n):
    """The first is in a bin of m gaps with probability m / (n + 1), and the second again with (m + 1) / (n + 2)."""
    runs = 4_000
    rng = np.random.default_rng(n)
    first, again = np.zeros(MOST_BINS), 0
    for _ in range(runs):
        # References that are equal share their hidden numbers; a shift makes each its own and moves nothing.
        apart = rng.random()
        bins = Bins(reference_of(draw(rng, n) + apart))
        one, other = (bins.place(rounded(value + apart)) for value in draw(rng, 2).tolist())
        first[one] += 1
        again += one == other
    gaps = np.array(bins.gaps)
    assert stats.chisquare(first[: len(gaps)], runs * gaps / (n + 1)).pvalue > 1e-3
    twice = float((gaps * (gaps + 1)).sum() / ((n + 1) * (n + 2)))
    assert stats.binomtest(int(again), runs, twice).pvalue > 1e-3


class TestCensored:
    signal = np.linspace(0.0, 1.0, 101)

    def test_all_values_above_the_threshold_are_in_the_last_bin(self):
        bins = Bins(reference_of(self.signal), censored_above=0.55)
        assert {bins.place(rounded(value)) for value in (0.5500001, 0.56, 0.9, 5.0)} == {len(bins) - 1}
        assert len(bins) < MOST_BINS
        assert sum(bins.gaps) == 102

    @given(signals, values)
    def test_that_is_so_of_any_reference_and_threshold(self, signal, threshold):
        bins = Bins(reference_of(signal), censored_above=threshold)
        above = np.nextafter(np.float32(rounded(threshold)), np.float32(np.inf))
        assert bins.place(rounded(threshold)) == bins.place(float(above)) == len(bins) - 1
        assert sum(bins.gaps) == len(signal) + 1

    def test_a_threshold_below_the_even_bins_still_parts_the_records(self):
        assert Bins(reference_of(self.signal), censored_above=0.03).gaps == (3, 99)

    def test_one_below_all_records_leaves_nothing_to_tell_apart(self):
        assert Bins(reference_of(self.signal), censored_above=-1.0).gaps == (102,)
