"""P-values and bounds: exact, and tighter than the known general ones."""

from __future__ import annotations

from math import ceil, e, exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tje_middleware.calibration.thresholds.exact_tests import (
    binomial_lower,
    binomial_p,
    binomial_upper,
    fewest_trials,
    mean_loss_upper,
)

rates = st.floats(0.01, 0.95)


class TestBinomialP:
    @settings(deadline=None)
    @given(trials=st.integers(0, 3000), share=st.floats(0, 1), rate=rates)
    def test_is_the_lower_tail_of_the_binomial(self, trials, share, rate):
        events = int(share * trials)
        assert binomial_p(events, trials, rate) == pytest.approx(stats.binom.cdf(events, trials, rate), rel=1e-9)

    def test_is_one_without_trials(self):
        assert binomial_p(0, 0, 0.1) == 1.0

    def test_takes_arrays_of_any_shape(self):
        events, trials = np.array([[0, 1], [2, 3]]), np.array([[5, 6], [7, 8]])
        assert binomial_p(events, trials, 0.3) == pytest.approx(stats.binom.cdf(events, trials, 0.3))

    @settings(deadline=None)
    @given(trials=st.integers(1, 400), rate=rates, delta=st.floats(0.001, 0.5))
    def test_falls_below_a_level_with_no_more_than_its_probability(self, trials, rate, delta):
        events = np.arange(trials + 1)
        rejected = binomial_p(events, np.full(trials + 1, trials), rate) <= delta
        assert stats.binom.pmf(events, trials, rate)[rejected].sum() <= delta + 1e-12


class TestBinomialUpper:
    @settings(deadline=None)
    @given(trials=st.integers(1, 2000), share=st.floats(0, 1), delta=st.floats(0.001, 0.5))
    def test_is_clopper_and_pearsons_one_sided_limit(self, trials, share, delta):
        events = int(share * trials)
        exact = stats.binomtest(events, trials, alternative="less").proportion_ci(1 - delta, "exact").high
        assert binomial_upper(events, trials, delta=delta) == pytest.approx(exact, rel=1e-6)

    def test_is_one_where_it_always_happened(self):
        assert binomial_upper(7, 7, delta=0.1) == 1.0

    @settings(deadline=None)
    @given(trials=st.integers(1, 500), share=st.floats(0, 0.99), delta=st.floats(0.01, 0.5))
    def test_is_the_rate_whose_p_value_is_the_level(self, trials, share, delta):
        events = int(share * trials)
        rate = binomial_upper(events, trials, delta=delta)
        assert binomial_p(events, trials, rate) == pytest.approx(delta, rel=1e-6)


class TestFewestTrials:
    @settings(deadline=None)
    @given(rate=rates, delta=st.floats(0.001, 0.5))
    def test_is_the_smallest_number_without_an_event_that_rejects(self, rate, delta):
        fewest = fewest_trials(rate, delta=delta)
        # A level that is met but for rounding is met.
        assert binomial_p(0, fewest, rate) <= delta * (1 + 1e-8)
        assert fewest == 1 or binomial_p(0, fewest - 1, rate) > delta

    def test_is_45_for_one_in_twenty_at_one_in_ten(self):
        assert fewest_trials(0.05, delta=0.1) == 45


def trinomials(rng, n, loss, gain, draws=4000):
    return rng.multinomial(n, (loss, 1 - loss - gain, gain), size=draws).T


class TestBinomialLower:
    @settings(deadline=None)
    @given(trials=st.integers(1, 2000), share=st.floats(0, 1), delta=st.floats(0.001, 0.5))
    def test_is_clopper_and_pearsons_one_sided_limit(self, trials, share, delta):
        events = int(share * trials)
        exact = stats.binomtest(events, trials, alternative="greater").proportion_ci(1 - delta, "exact").low
        assert binomial_lower(events, trials, delta=delta) == pytest.approx(exact, rel=1e-6, abs=1e-12)


class TestMeanLossUpper:
    @pytest.mark.parametrize("n", [20, 100, 500, 3000])
    @pytest.mark.parametrize("mean", [0.02, 0.05, 0.2])
    @pytest.mark.parametrize("gain", [0.0, 0.02, 0.2, 0.35])
    def test_is_exceeded_no_more_often_than_it_says(self, n, mean, gain):
        losses, _, gains = trinomials(
            np.random.default_rng([n, int(100 * mean), int(100 * gain)]), n, mean + gain, gain
        )
        for delta in (0.01, 0.1, 0.3):
            missed = mean_loss_upper(losses, gains, np.full(len(losses), n), delta=delta) < mean
            assert missed.mean() <= stats.binom.ppf(0.9999, len(losses), delta) / len(losses)

    @settings(deadline=None)
    @given(losses=st.integers(0, 50), gains=st.integers(0, 50), more=st.integers(1, 500), delta=st.floats(0.01, 0.5))
    def test_grows_with_every_loss_and_falls_with_every_gain(self, losses, gains, more, delta):
        trials = losses + gains + more
        here = mean_loss_upper(losses, gains, trials, delta=delta)
        assert mean_loss_upper(losses + 1, gains, trials, delta=delta) >= here
        assert mean_loss_upper(losses, gains + 1, trials, delta=delta) <= here

    @settings(deadline=None)
    @given(losses=st.integers(0, 50), gains=st.integers(0, 50), more=st.integers(0, 500), delta=st.floats(0.01, 0.5))
    def test_is_above_what_was_seen_and_at_most_one(self, losses, gains, more, delta):
        trials = losses + gains + more + 1
        assert (losses - gains) / trials < mean_loss_upper(losses, gains, trials, delta=delta) <= 1

    @pytest.mark.parametrize(("loss", "gain"), [(0.0, 0.0), (0.01, 0.0), (0.02, 0.01), (0.03, 0.02)])
    def test_shows_more_than_hoeffding_and_bentkus_where_most_values_are_zero(self, loss, gain):
        losses, _, gains = trinomials(np.random.default_rng(3), 400, loss, gain, draws=1000)
        ours = (mean_loss_upper(losses, gains, np.full(1000, 400), delta=0.1) <= 0.05).mean()
        theirs = np.mean([hoeffding_bentkus(k, 400, 0.05) <= 0.1 for k in losses - gains])
        assert ours > theirs + 0.2

    @pytest.mark.parametrize(("loss", "gain"), [(0.0, 0.0), (0.01, 0.0), (0.02, 0.02), (0.05, 0.05)])
    @pytest.mark.parametrize("n", [100, 500])
    def test_shows_no_less_than_betting(self, loss, gain, n):
        losses, ties, gains = trinomials(np.random.default_rng(4), n, loss, gain, draws=1000)
        ours = (mean_loss_upper(losses, gains, np.full(1000, n), delta=0.1) <= 0.05).mean()
        theirs = (wealth_of_a_mixture_of_bets(losses, ties, gains, 0.05) >= 10).mean()
        assert ours >= theirs - 0.01


def wealth_of_a_mixture_of_bets(losses, ties, gains, margin):
    """Of a gambler against "the mean is at least the margin" (Waudby-Smith & Ramdas 2024), one row a draw."""
    bets = np.geomspace(0.98, 0.03, 12) / (1 - margin)
    logs = [np.multiply.outer(n, np.log1p(bets * (margin - x))) for n, x in ((losses, 1), (ties, 0), (gains, -1))]
    return np.exp(np.sum(logs, axis=0)).mean(axis=1)


def hoeffding_bentkus(total, n, margin):
    """Learn then Test's p-value for n values in [-1, 1] brought to [0, 1] (Bates et al. 2021)."""
    mean, limit = (total / n + 1) / 2, (margin + 1) / 2
    if mean >= limit:
        return 1.0
    divergence = sum(a * log(a / b) for a, b in ((mean, limit), (1 - mean, 1 - limit)) if a > 0)
    return min(exp(-n * divergence), e * float(stats.binom.cdf(ceil(n * mean), n, limit)))
