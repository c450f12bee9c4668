"""``cost``: the rule of least cost, by brute force; refusals; what it says of itself."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tje_middleware import NoThreshold
from tje_middleware.calibration.settings import Prices
from tje_middleware.calibration.thresholds import cost_threshold
from tje_middleware.calibration.thresholds.cost import Costs, _cuts

PRICES = Prices(token=0.001, error=1.0, deeper=0.1)


def spent(signal, costs, accept, give_up):
    """What all records cost together by two thresholds; None for one that is not there."""
    accepted = signal <= (-np.inf if accept is None else accept)
    given_up = ~accepted & (signal >= (np.inf if give_up is None else give_up))
    return np.where(accepted, costs.final, np.where(given_up, costs.abstain, costs.deeper)).sum()


def cheapest_by_brute_force(signal, costs, *, may_abstain):
    values = [None, *np.unique(signal)]
    return min(spent(signal, costs, a, g) for a in values for g in (values if may_abstain else [None]))


class TestCheapest:
    drafts = st.lists(st.tuples(st.integers(0, 8), *[st.integers(0, 20).map(float)] * 3), min_size=1, max_size=25)

    @settings(max_examples=200, deadline=None)
    @given(drafts=drafts, may_abstain=st.booleans())
    def test_no_pair_of_thresholds_costs_less(self, drafts, may_abstain):
        signal, *columns = np.array(drafts, dtype=float).T
        costs = Costs(*columns)
        accept, give_up = _cuts(signal, costs, may_abstain=may_abstain)
        assert spent(signal, costs, accept, give_up) == cheapest_by_brute_force(
            signal, costs, may_abstain=may_abstain
        )

    @settings(max_examples=100, deadline=None)
    @given(drafts=drafts)
    def test_it_gives_up_only_above_what_it_accepts(self, drafts):
        signal, *columns = np.array(drafts, dtype=float).T
        accept, give_up = _cuts(signal, Costs(*columns), may_abstain=True)
        assert accept is None or give_up is None or accept < give_up

    @settings(deadline=None)
    @given(drafts=drafts)
    def test_it_never_gives_up_where_it_must_not(self, drafts):
        signal, *columns = np.array(drafts, dtype=float).T
        assert _cuts(signal, Costs(*columns), may_abstain=False)[1] is None


def drawn(n=400, seed=0, *, hopeless=0.0):
    """Right drafts below 0, wrong ones above, some overlap; the last ``hopeless`` share cannot be rescued."""
    rng = np.random.default_rng(seed)
    correct = rng.random(n) < 0.6
    signal = rng.normal(np.where(correct, -1, 1), 0.7)
    deeper_correct = signal <= np.quantile(signal, 1 - hopeless)
    return signal, correct, deeper_correct, np.full(n, 200.0)


class TestRule:
    def test_is_the_cuts_over_the_records(self):
        signal, correct, deeper_correct, tokens = drawn(hopeless=0.2)
        rule = cost_threshold(
            signal, correct, prices=PRICES, delta=0.1, deeper_correct=deeper_correct, deeper_tokens=tokens
        )
        costs = Costs(1.0 * ~correct, 0.1 + 0.2 + 1.0 * ~deeper_correct, np.full(len(signal), 1.0))
        assert spent(signal, costs, rule.value, rule.abstain_from) == pytest.approx(
            cheapest_by_brute_force(signal, costs, may_abstain=True)
        )

    def test_gives_up_where_going_deeper_is_hopeless(self):
        signal, correct, deeper_correct, tokens = drawn(hopeless=0.2)
        rule = cost_threshold(
            signal, correct, prices=PRICES, delta=0.1, deeper_correct=deeper_correct, deeper_tokens=tokens
        )
        assert rule.abstain_from == pytest.approx(np.quantile(signal, 0.8), abs=0.05)

    def test_gives_up_sooner_where_that_is_cheaper_than_a_wrong_answer(self):
        signal, correct, deeper_correct, tokens = drawn(hopeless=0.2)
        columns = {"deeper_correct": deeper_correct, "deeper_tokens": tokens}
        dear = cost_threshold(signal, correct, prices=PRICES, delta=0.1, **columns)
        cheap = cost_threshold(
            signal, correct, prices=Prices(token=0.001, error=1.0, deeper=0.1, abstain=0.25), delta=0.1, **columns
        )
        assert cheap.abstain_from < dear.abstain_from

    def test_without_the_deeper_outcome_a_deeper_answer_counts_as_right_and_nothing_is_given_up(self):
        signal, correct, _, _ = drawn()
        prices = Prices(error=1.0, deeper=0.3)
        unknown = cost_threshold(signal, correct, prices=prices, delta=0.1)
        always_right = Costs(1.0 * ~correct, np.full(len(signal), 0.3), np.full(len(signal), 1.0))
        assert unknown.abstain_from is None
        assert spent(signal, always_right, unknown.value, None) == pytest.approx(
            cheapest_by_brute_force(signal, always_right, may_abstain=False)
        )

    def test_accepts_more_where_going_deeper_is_dearer(self):
        signal, correct, _, _ = drawn()
        cheap, dear = (
            cost_threshold(signal, correct, prices=Prices(error=1.0, deeper=price), delta=0.1) for price in (0.1, 0.6)
        )
        assert cheap.value < dear.value

    def test_the_same_seed_gives_the_same_statement(self):
        signal, correct, _, _ = drawn()
        made = [
            cost_threshold(signal, correct, prices=Prices(error=1, deeper=0.3), delta=0.1, seed=s) for s in (3, 3)
        ]
        assert made[0] == made[1]

    def test_says_what_it_costs_beside_always_and_never_going_deeper(self):
        signal, correct, deeper_correct, tokens = drawn()
        statement = cost_threshold(
            signal, correct, prices=PRICES, delta=0.1, deeper_correct=deeper_correct, deeper_tokens=tokens
        ).guarantee
        costs, always, never, saved = (float(number) for number in re.findall(r"\d+\.\d+", statement)[:4])
        assert always == pytest.approx(0.1 + 0.001 * 200)
        assert never == pytest.approx((~correct).mean())
        assert costs < always - saved
        assert "probability 0.9" in statement

    def test_what_it_says_that_is_saved_is_saved_on_other_records(self):
        signal, correct, _, _ = drawn()
        rule = cost_threshold(signal, correct, prices=Prices(error=1.0, deeper=0.3), delta=0.1)
        shown = float(re.search(r"at least (\S+) saved", rule.guarantee)[1])
        fresh, right, _, _ = drawn(100_000, seed=1)
        assert 0.3 - np.where(fresh <= rule.value, 1.0 * ~right, 0.3).mean() >= shown


class TestRefusals:
    def test_a_price_of_tokens_without_their_number(self):
        signal, correct, _, _ = drawn()
        with pytest.raises(NoThreshold, match="cost needs deeper_tokens"):
            cost_threshold(signal, correct, prices=PRICES, delta=0.1)

    def test_always_going_deeper_is_the_cuts(self):
        signal, correct, _, _ = drawn()
        with pytest.raises(NoThreshold, match="always going deeper is the cheapest"):
            cost_threshold(signal, ~correct, prices=Prices(error=1.0), delta=0.1)

    def test_a_saving_that_is_not_shown_says_about_how_many_more_would_show_it(self):
        signal, correct, _, _ = drawn(20, seed=12)
        prices = Prices(error=1.0, deeper=0.1)
        with pytest.raises(NoThreshold, match=r"from 20 records .*; about \d+ more would be needed") as refusal:
            cost_threshold(signal, correct, prices=prices, delta=0.1)
        more = int(re.search(r"about (\d+) more", str(refusal.value))[1])
        places = np.arange(20 + 2 * more) % 20
        assert cost_threshold(signal[places], correct[places], prices=prices, delta=0.1)

    def test_noise_that_costs_more_is_not_helped_by_more_records(self):
        rng = np.random.default_rng(5)
        correct, signal = rng.random(60) < 0.5, rng.normal(size=60)
        with pytest.raises(NoThreshold, match=r"more records like these would not change that|the cheapest"):
            cost_threshold(signal, correct, prices=Prices(error=1.0, deeper=0.3), delta=0.1)

    def test_a_single_record_shows_nothing(self):
        with pytest.raises(NoThreshold):
            cost_threshold(np.array([0.1]), np.array([True]), prices=Prices(error=1.0, deeper=0.5), delta=0.1)

    def test_noise_is_said_to_save_with_no_more_than_the_probability_asked_for(self):
        found = 0
        for seed in range(300):
            rng = np.random.default_rng(seed)
            # Accepting and going deeper cost the same whatever the signal.
            correct, signal = rng.random(60) < 0.7, rng.normal(size=60)
            try:
                cost_threshold(signal, correct, prices=Prices(error=1.0, deeper=0.3), delta=0.1)
            except NoThreshold:
                continue
            found += 1
        assert found / 300 <= 0.16
