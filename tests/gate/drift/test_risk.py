"""The share of wrong answers among accepted drafts, tested as feedback arrives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapie.exchangeability_testing import RiskMonitoring
from scipy import integrate, stats

from tje_middleware.gate.drift import risk_alarm, risk_e_value

counts = st.integers(0, 60)
limits = st.floats(0.01, 0.9)


@given(counts, counts, limits)
def test_is_the_likelihood_ratio_averaged_over_all_higher_shares(wrong, right, limit):
    def ratio(p):
        return (p / limit) ** wrong * ((1 - p) / (1 - limit)) ** right

    peak = min(max(wrong / max(wrong + right, 1), limit), 1.0)
    averaged = integrate.quad(ratio, limit, peak)[0] + integrate.quad(ratio, peak, 1)[0]
    assert risk_e_value(wrong, right, limit) == pytest.approx(averaged / (1 - limit), rel=1e-6)


@given(counts, counts, limits, st.floats(0, 1))
def test_no_further_draft_is_expected_to_add_to_it_while_the_limit_holds(wrong, right, limit, part):
    share = part * limit
    after = share * risk_e_value(wrong + 1, right, limit) + (1 - share) * risk_e_value(wrong, right + 1, limit)
    assert after <= risk_e_value(wrong, right, limit) * (1 + 1e-9)


def test_without_feedback_there_is_no_evidence():
    assert risk_e_value(0, 0, 0.05) == pytest.approx(1.0)


@pytest.mark.parametrize(("wrong", "right"), [(100_000, 0), (5_000, 100_000)])
def test_much_feedback_overflows_nothing(wrong, right):
    assert 1e300 < risk_e_value(wrong, right, 0.01) < float("inf")
    assert risk_e_value(0, wrong + right, 0.9) == pytest.approx(0.0)


def test_the_alarm_says_what_was_counted():
    alarm = risk_alarm(30, 170, limit=0.05, alpha=0.01)
    assert alarm.kind == "risk"
    assert "30 of 200 accepted drafts with feedback were wrong (15.0%), and at most 5.0% were to be" in alarm.detail
    assert alarm.evidence["e_value"] == risk_e_value(30, 170, 0.05) >= 100
    assert (alarm.evidence["wrong"], alarm.evidence["right"], alarm.evidence["share"]) == (30, 170, 0.15)


def test_what_the_limit_allows_raises_none():
    assert risk_alarm(10, 190, limit=0.05, alpha=0.01) is None
    assert risk_alarm(0, 0, limit=0.05, alpha=0.01) is None


@pytest.mark.parametrize(
    ("wrong", "right", "limit", "alpha", "names"),
    [(-1, 0, 0.1, 0.1, "negative"), (0, 0, 0.0, 0.1, "limit"), (0, 0, 1.0, 0.1, "limit"), (0, 0, 0.1, 1.0, "alpha")],
)
def test_what_means_nothing_is_refused(wrong, right, limit, alpha, names):
    with pytest.raises(ValueError, match=names):
        risk_alarm(wrong, right, limit, alpha)


def first_alarm(wrong, limit, alpha):
    """At which draft of a row of labels the evidence first suffices; None: never."""
    total = np.cumsum(wrong)
    for place, count in enumerate(total.tolist(), 1):
        # Between wrong ones the evidence falls.
        if wrong[place - 1] and risk_e_value(count, place - count, limit) >= 1 / alpha:
            return place
    return None


def test_at_the_limit_itself_false_alarms_are_as_rare_as_stated():
    alpha, streams = 0.05, 1_000
    rng = np.random.default_rng(0)
    false = sum(first_alarm(rng.random(1_000) < 0.1, 0.1, alpha) is not None for _ in range(streams))
    assert 0 < false <= stats.binom.ppf(0.999, streams, alpha)


class TestBesideMapie:
    """RiskMonitoring gives half of its level to the reference's risk, which here is given."""

    @staticmethod
    def mapies(wrong, limit, alpha):
        monitor = RiskMonitoring(risk="accuracy", test_level=2 * alpha, threshold=limit, warn=False)
        monitor.update(np.ones(len(wrong), dtype=int), (~wrong).astype(int))
        above = monitor.online_risk_lower_bound_sequence_history > limit
        return int(above.argmax()) + 1 if above.any() else None

    @pytest.mark.parametrize("seed", range(5))
    def test_both_are_silent_within_the_limit_and_alarm_above_it(self, seed):
        rng = np.random.default_rng(seed)
        within, above = rng.random(800) < 0.08, rng.random(800) < 0.3
        assert (first_alarm(within, 0.1, 0.01), self.mapies(within, 0.1, 0.01)) == (None, None)
        assert first_alarm(above, 0.1, 0.01) <= self.mapies(above, 0.1, 0.01)
