"""The savings curve: hand-computed cases, its ends, its bounds, and what ties mean."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.recorded import drawn, recorded
from tje_middleware import CalibrationError
from tje_middleware.evaluation import savings_curve

SMALL = recorded([1, 2, 3, 4], [1, 0, 1, 0], [1, 1, 0, 0], tokens=10, deeper_tokens=[40, 40, 40, 80])


@st.composite
def outcomes(draw, levels=6):
    n = draw(st.integers(1, 12))
    some = st.lists(st.integers(0, 1), min_size=n, max_size=n)
    values = draw(st.lists(st.integers(0, levels), min_size=n, max_size=n))
    return recorded(values, draw(some), draw(some), tokens=10, deeper_tokens=30)


def curve_of(records, **more):
    return savings_curve(records.signals["mean_entropy"], records, **more)


class TestBy:
    def test_hand_the_accuracy_after_each_accepted_draft(self):
        assert curve_of(SMALL).gate == pytest.approx([0.5, 0.5, 0.25, 0.5, 0.5])

    def test_hand_the_oracle_wins_first_and_loses_last(self):
        assert curve_of(SMALL).oracle == pytest.approx([0.5, 0.75, 0.75, 0.75, 0.5])

    def test_hand_the_share_of_the_way(self):
        curve = curve_of(SMALL)
        assert (curve.area, curve.area_random, curve.area_oracle) == pytest.approx((0.45, 0.5, 0.65))
        assert curve.share_of_way.value == pytest.approx(-1 / 3)

    def test_hand_the_tokens_of_a_deeper_branch_that_is_asked_right_away(self):
        # 200 without a gate; a gate writes four drafts of 10 and what is left of the 200.
        assert curve_of(SMALL).saved == pytest.approx(1 - np.array([240, 200, 160, 120, 40]) / 200)

    def test_hand_the_tokens_of_a_refinement(self):
        saved = curve_of(SMALL, deeper_includes_draft=True).saved
        assert saved == pytest.approx(1 - np.array([240, 200, 160, 120, 40]) / 240)


@settings(max_examples=30, deadline=None)
@given(outcomes())
def test_the_ends_are_always_and_never_going_deeper(records):
    curve = curve_of(records)
    for line in (curve.gate, curve.random, curve.oracle):
        assert line[0] == pytest.approx(records.deeper_correct.mean())
        assert line[-1] == pytest.approx(records.correct.mean())


@settings(max_examples=30, deadline=None)
@given(outcomes())
def test_random_is_a_straight_line(records):
    assert np.diff(curve_of(records).random, 2) == pytest.approx(0, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(outcomes())
def test_no_order_beats_the_oracle(records):
    curve = curve_of(records)
    assert (curve.gate <= curve.oracle + 1e-12).all()
    assert (curve.random <= curve.oracle + 1e-12).all()


@settings(max_examples=10, deadline=None)
@given(outcomes(levels=1))
def test_ties_are_the_mean_over_all_their_orders(records):
    few = records.take(np.arange(min(len(records), 4)))
    curve, values = curve_of(few), few.signals["mean_entropy"]
    lines = [
        savings_curve(np.argsort(order).astype(float), few).gate
        for order in permutations(range(len(few)))
        if (np.diff(values[list(order)]) >= 0).all()
    ]
    assert curve.gate == pytest.approx(np.mean(lines, axis=0))


@settings(max_examples=30, deadline=None)
@given(outcomes())
def test_a_constant_signal_is_random(records):
    curve = savings_curve(np.zeros(len(records)), records)
    assert curve.gate == pytest.approx(curve.random)


@settings(max_examples=30, deadline=None)
@given(outcomes())
def test_areas_are_means_of_their_lines(records):
    curve = curve_of(records)
    lines = (curve.gate, curve.random, curve.oracle)
    assert (curve.area, curve.area_random, curve.area_oracle) == pytest.approx([line.mean() for line in lines])


def test_the_oracles_order_covers_the_whole_way():
    gain = SMALL.correct.astype(float) - SMALL.deeper_correct
    way = savings_curve(-gain, SMALL).share_of_way
    assert (way.low, way.value, way.high) == pytest.approx((1, 1, 1))


def test_there_is_no_way_to_go_where_both_branches_give_the_same():
    assert curve_of(recorded([1, 2, 3], [1, 0, 1], [1, 0, 1])).share_of_way is None


def test_the_interval_of_the_share_covers_the_truth():
    truth = curve_of(drawn(100_000, seed=99)).share_of_way.value
    covered = 0
    for seed in range(20):
        way = curve_of(drawn(150, seed=seed)).share_of_way
        covered += way.low <= truth <= way.high
    assert covered >= 17


def test_the_same_seed_gives_the_same_interval():
    records = drawn(60)
    assert curve_of(records, seed=3).share_of_way == curve_of(records, seed=3).share_of_way
    assert curve_of(records, seed=3).share_of_way != curve_of(records, seed=4).share_of_way


def test_without_tokens_savings_are_unknown():
    assert curve_of(recorded([1, 2], [1, 0], [1, 1])).saved is None


def test_without_deeper_outcomes_there_is_no_curve():
    with pytest.raises(CalibrationError, match="deeper_correct in every record"):
        curve_of(recorded([1, 2], [1, 0]))


def test_an_order_of_other_records_is_refused():
    with pytest.raises(CalibrationError, match="4 records need an order"):
        savings_curve(np.zeros(3), SMALL)
