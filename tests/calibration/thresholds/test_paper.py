"""The paper's threshold methods, against values worked out by hand and against a numeric search."""

from __future__ import annotations

import statistics
from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from tests.samples import sample
from tje_middleware import NoThreshold
from tje_middleware.calibration.thresholds import (
    bayes_threshold,
    cohens_d,
    info_threshold,
    mean_threshold,
    sample_sd,
    universal_threshold,
)
from tje_middleware.calibration.thresholds.methods import METHODS

THRESHOLDS = {
    "mean": mean_threshold,
    "info": info_threshold,
    "bayes": bayes_threshold,
    "universal": universal_threshold,
}

# mu_c = 0.2, mu_i = 0.6, both standard deviations 0.1, so d = 0.4 / 0.1 = 4.
CORRECT, INCORRECT = np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.6, 0.7])
NONE = np.array([])


def test_the_four_of_the_paper_come_first():
    assert list(METHODS)[:4] == list(THRESHOLDS)


class TestCohensD:
    def test_is_the_gap_between_the_means_in_pooled_standard_deviations(self):
        assert cohens_d(CORRECT, INCORRECT) == pytest.approx(4.0)

    def test_pools_variances_by_their_degrees_of_freedom(self):
        # sd 1 over 11 drafts and sd 2 over 6: pooled variance (10 * 1 + 5 * 4) / 15 = 2.
        assert cohens_d(sample(0, 1, 11), sample(3, 2, 6)) == pytest.approx(3 / sqrt(2))

    def test_is_negative_when_correct_drafts_are_the_uncertain_ones(self):
        assert cohens_d(INCORRECT, CORRECT) == pytest.approx(-4.0)

    @pytest.mark.parametrize("value", [0.1, 0.3, 1e-12, 1e12])
    def test_is_undefined_without_spread_even_where_the_mean_of_equal_values_rounds(self, value):
        assert np.isnan(cohens_d(np.full(3, value), np.full(7, 3 * value)))

    def test_is_undefined_for_a_single_draft(self):
        assert np.isnan(cohens_d(CORRECT, np.array([0.5])))


class TestHandComputedValues:
    def test_mean_is_the_mean_over_correct_drafts(self):
        assert mean_threshold(CORRECT, INCORRECT) == pytest.approx(0.2)

    def test_info_adds_the_logarithm_of_one_plus_d(self):
        assert info_threshold(CORRECT, INCORRECT) == pytest.approx(0.2 + 0.1 * log(5))  # 0.36094

    def test_info_takes_the_size_of_d_whatever_its_sign(self):
        assert info_threshold(INCORRECT, CORRECT) == pytest.approx(0.6 + 0.1 * log(5))

    def test_universal_goes_a_share_of_the_way_to_the_incorrect_mean(self):
        # 0.2 + 4/5 * 0.4 * (1 - 0.1/0.2)
        assert universal_threshold(CORRECT, INCORRECT) == pytest.approx(0.36)

    def test_universal_is_the_mean_when_the_spread_exceeds_it(self):
        wide = np.array([0.0, 0.0, 0.6])  # mean 0.2, sd 0.346
        assert universal_threshold(wide, INCORRECT) == pytest.approx(0.2)

    def test_universal_goes_below_the_mean_when_the_direction_is_wrong(self):
        # mu_c = 0.6, sd_c = 0.1: 0.6 - 4/5 * 0.4 * (1 - 0.1/0.6)
        assert universal_threshold(INCORRECT, CORRECT) == pytest.approx(0.6 - 0.32 * 5 / 6)

    def test_bayes_is_halfway_for_equal_variances_and_priors(self):
        assert bayes_threshold(CORRECT, INCORRECT) == pytest.approx(0.4)

    def test_bayes_moves_towards_the_rarer_class(self):
        # Equal variances: midpoint + sd^2 / gap * ln(pi_c / pi_i) = 0.4 + 0.01 / 0.4 * ln 3
        assert bayes_threshold(CORRECT, INCORRECT, prior_correct=0.75) == pytest.approx(0.4 + 0.025 * log(3))

    def test_bayes_takes_its_priors_from_the_samples(self):
        # Twelve drafts of sd 0.1 against four: pi_c / pi_i = 3.
        assert bayes_threshold(sample(0.2, 0.1, 12), sample(0.6, 0.1, 4)) == pytest.approx(0.4 + 0.025 * log(3))

    def test_bayes_takes_the_root_between_the_means_of_the_two_that_there_are(self):
        # mu_c = 0, sd_c = 1, mu_i = 3, sd_i = 2: 3/8 x^2 + 3/4 x - (9/8 + ln 2) = 0, roots 1.418 and -3.418.
        inside = -1 + sqrt(1 + 8 / 3 * (9 / 8 + log(2)))
        assert bayes_threshold(sample(0, 1, 5), sample(3, 2, 5)) == pytest.approx(inside)

    def test_bayes_mirrors_when_the_spreads_change_places(self):
        inside = -1 + sqrt(1 + 8 / 3 * (9 / 8 + log(2)))
        assert bayes_threshold(sample(0, 2, 5), sample(3, 1, 5)) == pytest.approx(3 - inside)

    @pytest.mark.parametrize("ratio", [1 + 1e-15, 1 + 1e-9, 1 - 1e-9])
    def test_bayes_is_steady_where_the_variances_become_equal(self, ratio):
        assert bayes_threshold(sample(0.2, 0.1, 9), sample(0.6, 0.1 * ratio, 9)) == pytest.approx(0.4, abs=1e-9)


def classification_error(x, mu_c, sd_c, mu_i, sd_i, prior):
    return prior * stats.norm.sf(x, mu_c, sd_c) + (1 - prior) * stats.norm.cdf(x, mu_i, sd_i)


class TestBayesAgainstANumericSearch:
    @settings(max_examples=150, deadline=None)
    @given(gap=st.floats(0.05, 8), sd_c=st.floats(0.1, 4), sd_i=st.floats(0.1, 4), prior=st.floats(0.02, 0.98))
    def test_no_value_between_the_means_has_a_smaller_error(self, gap, sd_c, sd_i, prior):
        setting = (1.0, sd_c, 1.0 + gap, sd_i, prior)
        grid = np.linspace(1.0, 1.0 + gap, 2001)
        errors = classification_error(grid, *setting)
        best = int(errors.argmin())
        try:
            tau = bayes_threshold(sample(1.0, sd_c, 8), sample(1.0 + gap, sd_i, 8), prior_correct=prior)
        except NoThreshold:
            assert best in {0, len(grid) - 1}
            return
        around = (grid[max(best - 1, 0)], grid[min(best + 1, 2000)])
        least = optimize.minimize_scalar(
            classification_error, bounds=around, args=setting, method="bounded", options={"xatol": 1e-12}
        )
        assert classification_error(tau, *setting) <= min(least.fun, errors[best]) + 1e-12
        assert 1.0 <= tau <= 1.0 + gap

    def test_the_weighted_densities_cross_at_the_boundary(self):
        tau = bayes_threshold(sample(0.4, 0.2, 8), sample(1.1, 0.5, 24))
        assert 0.25 * stats.norm.pdf(tau, 0.4, 0.2) == pytest.approx(0.75 * stats.norm.pdf(tau, 1.1, 0.5))


class TestRefusals:
    def test_mean_works_from_correct_drafts_alone(self):
        assert mean_threshold(np.array([0.4]), NONE) == 0.4

    def test_mean_needs_a_correct_draft(self):
        with pytest.raises(NoThreshold, match=r"mean needs at least 1 correct draft \(there are 0\)"):
            mean_threshold(NONE, INCORRECT)

    @pytest.mark.parametrize("method", ["info", "bayes", "universal"])
    def test_the_others_say_which_class_they_lack(self, method):
        with pytest.raises(NoThreshold, match=rf"{method} needs at least 2 incorrect drafts \(there are 0\)"):
            THRESHOLDS[method](CORRECT, NONE)
        with pytest.raises(NoThreshold, match=r"2 correct drafts \(there is 1\) and 2 incorrect drafts"):
            THRESHOLDS[method](CORRECT[:1], NONE)

    @pytest.mark.parametrize("value", [0.1, 0.5, 0.7])
    def test_bayes_refuses_a_constant_class(self, value):
        with pytest.raises(NoThreshold, match="constant"):
            bayes_threshold(np.full(3, value), np.array([0.8, 0.9, 1.0]))

    @pytest.mark.parametrize("method", ["info", "universal"])
    def test_the_methods_of_d_refuse_two_constant_classes(self, method):
        with pytest.raises(NoThreshold, match="spread"):
            THRESHOLDS[method](np.full(3, 0.1), np.full(3, 0.3))

    def test_bayes_refuses_the_wrong_direction(self):
        with pytest.raises(NoThreshold, match="more uncertain"):
            bayes_threshold(INCORRECT, CORRECT)

    def test_bayes_refuses_means_that_agree_but_for_rounding(self):
        with pytest.raises(NoThreshold, match="means agree"):
            bayes_threshold(np.array([-1.0, 1.0]), np.array([-1.0, 1.0, 1e-200]))

    @pytest.mark.parametrize(("prior", "likelier"), [(0.999, "correct"), (0.001, "incorrect")])
    def test_bayes_names_the_class_that_wins_at_both_means(self, prior, likelier):
        with pytest.raises(NoThreshold, match=f"'{likelier}' is the better guess at both"):
            bayes_threshold(sample(0, 1, 5), sample(1, 1, 5), prior_correct=prior)

    @pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, float("nan")])
    def test_bayes_refuses_a_prior_that_is_none(self, prior):
        with pytest.raises(NoThreshold, match="prior between 0 and 1"):
            bayes_threshold(CORRECT, INCORRECT, prior_correct=prior)

    def test_universal_refuses_a_mean_of_zero(self):
        with pytest.raises(NoThreshold, match="must be positive"):
            universal_threshold(np.zeros(3), INCORRECT)


class TestEquivariance:
    correct = st.lists(st.integers(0, 1000), min_size=2, max_size=12, unique=True)
    incorrect = st.lists(st.integers(700, 1700), min_size=2, max_size=12, unique=True)

    @settings(max_examples=100, deadline=None)
    @given(correct=correct, incorrect=incorrect, exponent=st.integers(-12, 12), shift=st.integers(-1000, 1000))
    @pytest.mark.parametrize("method", ["mean", "info", "bayes"])
    def test_a_threshold_moves_with_the_unit_and_the_origin_of_the_signal(
        self, method, correct, incorrect, exponent, shift
    ):
        c, i = np.array(correct, dtype=float), np.array(incorrect, dtype=float)
        scale = 10.0**exponent
        try:
            tau = THRESHOLDS[method](c, i)
        except NoThreshold:
            with pytest.raises(NoThreshold):
                THRESHOLDS[method](scale * c + scale * shift, scale * i + scale * shift)
            return
        moved = THRESHOLDS[method](scale * c + scale * shift, scale * i + scale * shift)
        assert moved == pytest.approx(scale * (tau + shift), rel=1e-9, abs=1e-8 * scale)

    @pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
    def test_universal_moves_with_the_unit_alone(self, scale):
        assert universal_threshold(scale * CORRECT, scale * INCORRECT) == pytest.approx(0.36 * scale)

    @given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20))
    def test_the_standard_deviation_is_that_of_the_sample_and_exactly_zero_for_a_constant_one(self, values):
        array = np.array(values)
        assert sample_sd(array) == pytest.approx(statistics.stdev(values), rel=1e-9, abs=1e-9)
        assert sample_sd(np.full(5, array[0])) == 0.0
