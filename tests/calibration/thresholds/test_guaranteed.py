"""Thresholds with a guarantee: small cases by hand, laws, refusals with what is lacking, and MAPIE beside them."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.risk_control import BinaryClassificationController
from mapie.risk_control.methods import compute_hoeffding_bentkus_p_value
from scipy import stats

from tje_middleware import CalibrationError, NoThreshold
from tje_middleware.calibration.settings import CalibrationSettings, Prices
from tje_middleware.calibration.thresholds import abstain_threshold, noninferiority_threshold, risk_threshold
from tje_middleware.calibration.thresholds.exact_tests import (
    binomial_p,
    binomial_upper,
    last_rejected,
    mean_loss_upper,
)
from tje_middleware.calibration.thresholds.methods import METHODS
from tje_middleware.calibration.thresholds.rule import Drafts

LEVELS = {"alpha": 0.2, "delta": 0.1}  # at least 11 drafts without a wrong one: 0.8^11 = 0.086, 0.8^10 = 0.107


def labels(text):
    """One draft a letter, the most confident first; x for true."""
    return np.array([letter == "x" for letter in text])


def ladder(n):
    return np.arange(float(n))


def value_or_none(rule, *arguments, **options):
    try:
        return rule(*arguments, **options).value
    except NoThreshold:
        return None


class TestRiskByHand:
    def test_accepts_all_where_all_are_right(self):
        assert risk_threshold(ladder(30), labels("." * 30), **LEVELS).value == 29

    def test_accepts_up_to_the_last_number_of_drafts_that_passes(self):
        # 11 of 11 right pass; with 1 wrong the first that would is 18 of 18 (P(Bin(18, 0.2) <= 1) = 0.099), but the
        # sequence ends at 1 of 12.
        assert risk_threshold(ladder(18), labels("." * 11 + "x" + "." * 6), **LEVELS).value == 10

    def test_a_wrong_draft_that_still_passes_does_not_end_the_sequence(self):
        # P(Bin(18, 0.2) <= 1) = 0.099, P(Bin(19, 0.2) <= 2) = 0.237
        assert risk_threshold(ladder(19), labels("." * 17 + "xx"), **LEVELS).value == 17

    def test_says_what_holds_with_the_counts_behind_it(self):
        statement = risk_threshold(ladder(19), labels("." * 17 + "xx"), **LEVELS).guarantee
        upper = binomial_upper(1, 18, delta=0.1)
        assert "with probability 0.9 at most 20.00% of accepted drafts are wrong" in statement
        assert f"1 of 18 accepted here; {upper:.2%} at most, taken alone" in statement

    def test_looks_share_the_level(self):
        # 16 right are needed at 0.1 / 3: 0.8^15 = 0.035, 0.8^16 = 0.028
        assert risk_threshold(ladder(16), labels("." * 16), looks=3, **LEVELS).value == 15
        with pytest.raises(NoThreshold):
            risk_threshold(ladder(15), labels("." * 15), looks=3, **LEVELS)

    def test_equal_drafts_are_accepted_together(self):
        signal = np.repeat([1.0, 2.0, 3.0], 11)
        assert risk_threshold(signal, labels("." * 11 + "." * 10 + "x" + "x" * 11), **LEVELS).value == 2

    def test_equal_drafts_are_refused_together(self):
        signal = np.repeat([1.0, 2.0, 3.0], 11)
        assert risk_threshold(signal, labels("." * 11 + "." * 5 + "x" * 6 + "." * 11), **LEVELS).value == 1

    def test_equal_drafts_across_the_first_number_that_could_pass_do_not_end_the_sequence(self):
        # Values 1 and 2: 6 drafts and 24. Six are too few to pass, all thirty are not.
        signal = np.repeat([1.0, 2.0], [6, 24])
        assert risk_threshold(signal, labels("." * 30), **LEVELS).value == 2

    def test_a_constant_signal_accepts_all_or_nothing(self):
        assert risk_threshold(np.full(30, 0.7), labels("." * 29 + "x"), **LEVELS).value == 0.7
        with pytest.raises(NoThreshold):
            risk_threshold(np.full(30, 0.7), labels("." * 20 + "x" * 10), **LEVELS)


class TestRiskRefusals:
    def test_all_wrong(self):
        with pytest.raises(NoThreshold, match="no part of them is wrong more rarely than that here"):
            risk_threshold(ladder(60), np.ones(60, dtype=bool), **LEVELS)

    def test_too_few_records_name_the_least_number(self):
        with pytest.raises(NoThreshold, match="at least 45 drafts must be in it"):
            risk_threshold(ladder(6), labels("xxxxxx"), alpha=0.05, delta=0.1)
        with pytest.raises(NoThreshold, match="at least 39 more would be needed"):
            risk_threshold(ladder(6), labels("......"), alpha=0.05, delta=0.1)

    def test_no_records_at_all(self):
        with pytest.raises(NoThreshold, match="from 0 records"):
            risk_threshold(np.array([]), np.array([], dtype=bool), alpha=0.05, delta=0.1)

    def test_44_right_drafts_are_one_short_of_one_in_twenty(self):
        with pytest.raises(NoThreshold, match="about 1 more would be needed"):
            risk_threshold(ladder(44), labels("." * 44), alpha=0.05, delta=0.1)
        assert risk_threshold(ladder(45), labels("." * 45), alpha=0.05, delta=0.1).value == 44

    def test_states_the_level_and_the_number_of_records(self):
        with pytest.raises(NoThreshold, match=r"accepted ones to 0.05 with probability 0.9 from 44 records"):
            risk_threshold(ladder(44), labels("." * 44), alpha=0.05, delta=0.1)

    @pytest.mark.parametrize("n", [100, 300])
    def test_as_many_more_as_it_says_are_mostly_enough(self, n):
        rng, enough, told = np.random.default_rng(n), 0, 0
        while told < 60:
            wrong = rng.random(n) < 0.3
            signal = rng.normal(2 * wrong)
            lacking = more_needed(risk_threshold, signal, wrong, alpha=0.05, delta=0.1)
            if lacking is None:
                continue
            told += 1
            places = rng.integers(0, n, n + lacking)
            signal = signal[places] + rng.normal(0, 1e-9, len(places))
            enough += value_or_none(risk_threshold, signal, wrong[places], alpha=0.05, delta=0.1) is not None
        assert enough / told >= 0.6


def more_needed(rule, *arguments, **options):
    """How many more records a refusal asks for; None where there is none, or no number in it."""
    try:
        rule(*arguments, **options)
    except NoThreshold as error:
        found = re.search(r"about (\d+) more would be needed", str(error))
        return int(found[1]) if found else None
    return None


class TestNoninferior:
    def test_accepts_all_where_going_deeper_never_helps(self):
        found = noninferiority_threshold(ladder(200), np.ones(200, bool), np.ones(200, bool), epsilon=0.05, delta=0.1)
        assert found.value == 199

    def test_accepts_as_many_as_the_bound_allows(self):
        correct, deeper = ~labels("." * 150 + "x" * 150), np.ones(300, bool)
        found = noninferiority_threshold(ladder(300), correct, deeper, epsilon=0.05, delta=0.1)
        lost = int(found.value) + 1 - 150
        assert mean_loss_upper(lost, 0, 300, delta=0.1) <= 0.05 < mean_loss_upper(lost + 1, 0, 300, delta=0.1)

    def test_drafts_that_going_deeper_spoils_pay_for_those_it_would_rescue(self):
        correct, deeper = labels("x.").repeat(100), labels(".x").repeat(100)
        assert noninferiority_threshold(ladder(200), correct, deeper, epsilon=0.05, delta=0.1).value > 100

    def test_equal_drafts_are_accepted_together(self):
        signal = np.repeat([1.0, 2.0, 3.0], 100)
        correct = ~labels("." * 100 + "." * 99 + "x" + "x" * 100)
        assert noninferiority_threshold(signal, correct, np.ones(300, bool), epsilon=0.05, delta=0.1).value == 2

    def test_says_what_holds_with_the_counts_behind_it(self):
        correct, deeper = labels("x" * 199 + "."), labels("." + "x" * 199)
        statement = noninferiority_threshold(ladder(200), correct, deeper, epsilon=0.05, delta=0.1).guarantee
        assert "accuracy is at most 5 points below always going deeper" in statement
        assert "200 of 200 accepted here: 1 right answers lost, 1 won" in statement

    def test_refuses_where_even_the_most_confident_drafts_lose_too_much(self):
        with pytest.raises(NoThreshold, match="loses more than that"):
            noninferiority_threshold(np.full(50, 1.0), np.zeros(50, bool), np.ones(50, bool), epsilon=0.05, delta=0.1)

    @pytest.mark.parametrize("n", [30, 40])
    def test_with_as_many_more_as_it_says_there_is_one(self, n):
        correct, deeper = labels("x" * (n - 3) + "..."), np.ones(n, bool)
        lacking = more_needed(noninferiority_threshold, ladder(n), correct, deeper, epsilon=0.05, delta=0.1)
        places = np.arange(n + lacking) % n
        longer = ladder(n)[places] + 1e-6 * np.arange(len(places))
        assert noninferiority_threshold(longer, correct[places], deeper[places], epsilon=0.05, delta=0.1)


class TestAbstain:
    @settings(max_examples=60, deadline=None)
    @given(n=st.integers(12, 80), seed=st.integers(0, 10_000))
    def test_is_risk_in_the_mirror(self, n, seed):
        rng = np.random.default_rng(seed)
        signal = rng.integers(0, 30, n).astype(float)
        helped = rng.random(n) < 0.4 * (signal < 15)
        here = value_or_none(abstain_threshold, signal, helped, eta=0.2, delta=0.1)
        mirrored = value_or_none(risk_threshold, -signal, helped, **LEVELS)
        assert here == (None if mirrored is None else -mirrored)

    def test_gives_up_from_the_first_draft_on_that_is_shown_to_be_hopeless(self):
        assert abstain_threshold(ladder(40), labels("x" * 20 + "." * 20), eta=0.2, delta=0.1).value == 20 - 1

    def test_says_what_holds(self):
        statement = abstain_threshold(ladder(40), labels("x" * 25 + "." * 15), eta=0.2, delta=0.1).guarantee
        assert (
            "with probability 0.9 going deeper answers at most 20.00% of these drafts rightly (0 of 15 here)"
            in statement
        )

    def test_refuses_where_going_deeper_helps_everywhere(self):
        with pytest.raises(NoThreshold, match=r"no draft can be shown to be hopeless .*answered rightly"):
            abstain_threshold(ladder(40), np.ones(40, bool), eta=0.2, delta=0.1)


def risk(signal, wrong, deeper):
    return value_or_none(risk_threshold, signal, wrong, **LEVELS)


def noninferior(signal, wrong, deeper):
    return value_or_none(noninferiority_threshold, signal, ~wrong, deeper, epsilon=0.2, delta=0.1)


def abstain(signal, wrong, deeper):
    return value_or_none(abstain_threshold, signal, deeper & wrong, eta=0.2, delta=0.1)


@pytest.mark.parametrize("rule", [risk, noninferior, abstain])
class TestLaws:
    drafts = st.lists(st.tuples(st.integers(-20, 20), st.booleans(), st.booleans()), min_size=1, max_size=120)

    @staticmethod
    def columns(drafts):
        signal, wrong, deeper = (np.array(column) for column in zip(*drafts, strict=True))
        # Few are wrong at low values, so that there often is a threshold.
        return signal.astype(float), wrong & (signal > 5), deeper & (signal < 15)

    @settings(max_examples=80, deadline=None)
    @given(drafts=drafts, seed=st.integers(0, 1000))
    def test_the_order_of_the_records_does_not_matter(self, rule, drafts, seed):
        columns = self.columns(drafts)
        order = np.random.default_rng(seed).permutation(len(drafts))
        assert rule(*columns) == rule(*(column[order] for column in columns))

    @settings(max_examples=80, deadline=None)
    @given(drafts=drafts)
    def test_a_rising_transformation_of_the_signal_moves_the_threshold_with_it(self, rule, drafts):
        signal, wrong, deeper = self.columns(drafts)
        here, there = rule(signal, wrong, deeper), rule(np.sinh(signal / 4), wrong, deeper)
        assert there == (None if here is None else np.sinh(here / 4))

    @settings(max_examples=80, deadline=None)
    @given(drafts=drafts)
    def test_the_threshold_is_the_value_of_a_draft(self, rule, drafts):
        signal, wrong, deeper = self.columns(drafts)
        here = rule(signal, wrong, deeper)
        assert here is None or here in signal


class TestAgainstMapie:
    """MAPIE tests thresholds of a grid that is fixed beforehand; on such a grid both must say the same."""

    grid = np.linspace(0.0, 0.95, 20)

    def drawn(self, seed, n=300):
        rng = np.random.default_rng(seed)
        right = rng.random(n) < 0.7
        confidence = np.clip(rng.normal(0.4 + 0.3 * right, 0.15), 0.001, 0.999)
        return confidence, right

    def controller(self, confidence, right, *, grid=grid, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return BinaryClassificationController(
                predict_function=lambda values: np.column_stack([1 - values, values]),
                risk="precision",
                target_level=0.85,
                confidence_level=0.9,
                list_predict_params=grid,
                **options,
            ).calibrate(confidence, right.astype(int))

    def test_its_p_values_are_our_binomial_tails(self):
        wrong = np.arange(129)
        theirs = compute_hoeffding_bentkus_p_value(wrong / 128, 128, 0.15, binary=True).ravel()
        assert binomial_p(wrong, np.full(129, 128), 0.15) == pytest.approx(theirs, rel=1e-9)

    @pytest.mark.parametrize("seed", range(8))
    def test_its_controllers_are_too_but_for_a_count_that_it_rounds_up(self, seed):
        confidence, right = self.drawn(seed)
        accepted = confidence >= self.grid[:, None]
        counts, wrong = accepted.sum(axis=1), (accepted & ~right).sum(axis=1)
        theirs = np.ravel(self.controller(confidence, right).p_values)
        ours, next_count = (binomial_p(k, counts, 0.15) for k in (wrong, np.minimum(wrong + 1, counts)))
        assert (ours <= theirs * (1 + 1e-6)).all()
        assert (theirs <= next_count * (1 + 1e-6)).all()
        assert np.isclose(ours, theirs, rtol=1e-6).mean() > 0.5

    @pytest.mark.parametrize("seed", range(8))
    def test_fixed_sequence_testing_accepts_the_same_thresholds(self, seed):
        confidence, right = self.drawn(seed)
        # Only such thresholds as have drafts enough to pass, the strictest last.
        grid = np.array([level for level in self.grid if (confidence >= level).sum() >= 15])
        controller = self.controller(confidence, right, grid=grid, fwer_method="fixed_sequence")
        theirs = set(np.ravel(controller.valid_predict_params).tolist())
        assert accepted_thresholds(grid, np.ravel(controller.p_values)) == theirs
        accepted = confidence >= grid[:, None]
        ours = binomial_p((accepted & ~right).sum(axis=1), accepted.sum(axis=1), 0.15)
        assert accepted_thresholds(grid, ours) >= theirs

    @pytest.mark.parametrize("seed", range(8))
    def test_on_a_grid_of_the_records_own_values_we_accept_no_less_than_mapie_on_its_own(self, seed):
        confidence, right = self.drawn(seed, n=600)
        controller = self.controller(confidence, right, fwer_method="bonferroni_holm")
        theirs = max(((confidence >= level).mean() for level in np.ravel(controller.valid_predict_params)), default=0)
        ours = risk_threshold(-confidence, ~right, alpha=0.15, delta=0.1).value
        assert (-confidence <= ours).mean() >= theirs - 0.1


def accepted_thresholds(grid, p_values):
    last = last_rejected(p_values[::-1], np.where(np.arange(len(grid)) == 0, 0.1, 0.0))
    return set() if last is None else set(grid[::-1][: last + 1].tolist())


def test_binomial_tails_reject_no_more_than_they_may_at_a_rank_whose_threshold_depends_on_the_data():
    """Wrong with probability alpha whatever the signal: every acceptance would break the promise a little more."""
    rng, broken = np.random.default_rng(0), 0
    for _ in range(500):
        signal, wrong = rng.integers(0, 12, 80).astype(float), rng.random(80) < 0.2
        broken += value_or_none(risk_threshold, signal, wrong, **LEVELS) is not None
    assert broken <= stats.binom.ppf(0.999, 500, 0.1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_signal_that_is_no_number_is_refused(value):
    signal, some = np.array([1.0, value, 3.0]), labels(".x.")
    for rule, arguments, options in (
        (risk_threshold, (some,), {"alpha": 0.1}),
        (abstain_threshold, (some,), {"eta": 0.1}),
        (noninferiority_threshold, (some, ~some), {"epsilon": 0.1}),
    ):
        with pytest.raises(CalibrationError, match="1 values of the signal are not finite"):
            rule(signal, *arguments, delta=0.1, **options)
    for method in METHODS.values():
        with pytest.raises(CalibrationError, match="not finite"):
            method.rule(Drafts(signal, some, some), CalibrationSettings(prices=Prices(error=1.0)))


def test_methods_are_found_by_their_own_names():
    assert {name: method.name for name, method in METHODS.items()} == {name: name for name in METHODS}
