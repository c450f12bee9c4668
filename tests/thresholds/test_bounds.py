"""P-values and bounds: exact where an exact one exists, valid where a bet is made."""

from __future__ import annotations

from math import ceil, e, exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tje_middleware.thresholds.bounds import betting_p, binomial_p, binomial_upper, fewest_trials

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


class TestBettingP:
    @pytest.mark.parametrize("n", [20, 100, 500, 3000])
    @pytest.mark.parametrize("margin", [0.02, 0.05, 0.2])
    @pytest.mark.parametrize("gain", [0.0, 0.02, 0.2, 0.35])
    def test_is_valid_where_the_mean_is_the_margin(self, n, margin, gain):
        draws = trinomials(np.random.default_rng([n, int(100 * margin), int(100 * gain)]), n, margin + gain, gain)
        p_values = betting_p(*draws, margin)
        for delta in (0.01, 0.05, 0.1, 0.3):
            assert (p_values <= delta).mean() <= stats.binom.ppf(0.9999, len(p_values), delta) / len(p_values)

    @settings(deadline=None)
    @given(
        values=st.lists(st.sampled_from([-1, 0, 1]), min_size=1, max_size=60),
        margin=st.floats(0.01, 0.9),
        seed=st.integers(0, 99),
    )
    def test_is_the_mean_wealth_of_bets_on_the_values_one_by_one_in_any_order(self, values, margin, seed):
        bets = np.geomspace(0.98, 0.03, 12) / (1 - margin)
        wealth = np.ones(12)
        for value in np.random.default_rng(seed).permutation(values):
            wealth = wealth * (1 + bets * (margin - value))
        counts = [values.count(kind) for kind in (1, 0, -1)]
        assert betting_p(*counts, margin) == pytest.approx(min(1.0, 1 / wealth.mean()), rel=1e-9)

    @settings(deadline=None)
    @given(losses=st.integers(0, 50), ties=st.integers(1, 500), gains=st.integers(0, 50), margin=st.floats(0.01, 0.5))
    def test_grows_with_every_loss_and_falls_with_every_gain(self, losses, ties, gains, margin):
        here = betting_p(losses, ties, gains, margin)
        assert betting_p(losses + 1, ties - 1, gains, margin) >= here
        assert betting_p(losses, ties - 1, gains + 1, margin) <= here

    @settings(deadline=None)
    @given(
        losses=st.integers(0, 50), ties=st.integers(0, 5000), gains=st.integers(0, 50), margin=st.floats(0.01, 0.5)
    )
    def test_is_a_probability(self, losses, ties, gains, margin):
        assert 0 <= betting_p(losses, ties, gains, margin) <= 1

    @pytest.mark.parametrize(("loss", "gain"), [(0.0, 0.0), (0.01, 0.0), (0.02, 0.01), (0.03, 0.02)])
    def test_finds_more_than_hoeffding_and_bentkus_where_most_values_are_zero(self, loss, gain):
        losses, ties, gains = trinomials(np.random.default_rng(3), 400, loss, gain, draws=1000)
        ours = (betting_p(losses, ties, gains, 0.05) <= 0.1).mean()
        theirs = np.mean([hoeffding_bentkus(k, 400, 0.05) <= 0.1 for k in losses - gains])
        assert ours > theirs + 0.2


def hoeffding_bentkus(total, n, margin):
    """Learn then Test's p-value for n values in [-1, 1] brought to [0, 1] (Bates et al. 2021)."""
    mean, limit = (total / n + 1) / 2, (margin + 1) / 2
    if mean >= limit:
        return 1.0
    divergence = sum(a * log(a / b) for a, b in ((mean, limit), (1 - mean, 1 - limit)) if a > 0)
    return min(exp(-n * divergence), e * float(stats.binom.cdf(ceil(n * mean), n, limit)))
