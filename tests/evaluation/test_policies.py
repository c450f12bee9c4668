"""The figures of a policy: hand-computed ones, and laws that hold for any records."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluation.recorded import drawn, recorded
from tje_middleware.evaluation import ALWAYS, NEVER, ORACLE, paired_difference
from tje_middleware.evaluation.replay import figures_of
from tje_middleware.evaluation.result import Outcomes

RECORDS = recorded([0] * 5, [1, 0, 1, 0, 1], [1, 1, 0, 0, 1], tokens=10, deeper_tokens=[40, 40, 40, 80, 100])
ACCEPTED = np.array([1, 1, 1, 0, 0], dtype=bool)


def figures(records=RECORDS, accepted=ACCEPTED, *, margin=0.02, seed=0, deeper_includes_draft=False):
    outcomes = Outcomes.of(records, deeper_includes_draft=deeper_includes_draft)
    return figures_of({"gate": accepted}, outcomes, margin=margin, seed=seed)


def test_a_gates_figures_are_those_computed_by_hand():
    found = figures()["gate"]
    assert found.accepted.value == pytest.approx(3 / 5)
    assert found.risk.value == pytest.approx(1 / 3)
    assert found.accuracy.value == pytest.approx(3 / 5)  # right: 1, 3 and, by going deeper, 5
    assert found.accuracy_gain.value == 0
    assert found.tokens == 50 + 80 + 100
    assert found.saved.value == pytest.approx(1 - 230 / 300)


def test_over_random_is_against_accepting_each_draft_with_the_same_probability():
    # Random: 3/5 of 3 right drafts and 2/5 of 3 right deeper answers, of 5.
    assert figures()["gate"].over_random.value == pytest.approx(3 / 5 - (3 / 5 * 3 + 2 / 5 * 3) / 5)


def test_over_random_is_the_mean_over_random_choices():
    records, rng = drawn(40), np.random.default_rng(0)
    gate = records.signals["mean_entropy"] < 2.3
    right = [np.where(rng.permutation(gate), records.correct, records.deeper_correct).mean() for _ in range(20_000)]
    expected = np.where(gate, records.correct, records.deeper_correct).mean() - np.mean(right)
    assert figures(records, gate)["gate"].over_random.value == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize("accepted", [np.ones(5, bool), np.zeros(5, bool)])
def test_accepting_all_or_none_is_the_same_as_at_random(accepted):
    assert figures(accepted=accepted)["gate"].over_random is None


def test_never_is_the_drafts_and_always_the_deeper_answers():
    found = figures()
    assert (found[NEVER].accuracy.value, found[ALWAYS].accuracy.value) == (3 / 5, 3 / 5)
    assert (found[NEVER].tokens, found[ALWAYS].tokens) == (50, 300)
    assert (found[NEVER].risk.value, found[ALWAYS].risk) == (2 / 5, None)


def test_always_pays_for_the_draft_where_the_deeper_branch_continues_from_it():
    found = figures(deeper_includes_draft=True)
    assert found[ALWAYS].tokens == 350
    assert found["gate"].tokens == 230
    assert found["gate"].saved.value == pytest.approx(1 - 230 / 350)


def test_a_gate_that_accepts_nothing_costs_more_than_always():
    found = figures(accepted=np.zeros(5, bool))["gate"]
    assert found.saved.value == pytest.approx(-50 / 300)
    assert found.risk is None


def test_the_oracle_accepts_what_going_deeper_would_not_better():
    found = figures()[ORACLE]
    assert found.accepted.value == 4 / 5  # all but the second
    assert found.accuracy.value == 4 / 5
    assert found.tokens == 50 + 40


@st.composite
def masked(draw):
    n = draw(st.integers(1, 15))
    some = st.lists(st.integers(0, 1), min_size=n, max_size=n)
    records = recorded([0] * n, draw(some), draw(some), tokens=draw(st.integers(1, 9)), deeper_tokens=20)
    return records, np.array(draw(some), dtype=bool)


@settings(max_examples=40, deadline=None)
@given(masked())
def test_no_policy_is_more_often_right_than_the_oracle_nor_cheaper_at_the_same_accuracy(case):
    found = figures(*case)
    for name, other in found.items():
        assert found[ORACLE].accuracy.value >= other.accuracy.value
        if name != ALWAYS and other.accuracy.value == found[ORACLE].accuracy.value:
            assert found[ORACLE].tokens <= other.tokens


@settings(max_examples=40, deadline=None)
@given(masked())
def test_every_interval_holds_its_figure(case):
    for found in figures(*case).values():
        for estimate in (found.accepted, found.accuracy, found.accuracy_gain, found.risk):
            assert estimate is None or estimate.low - 1e-9 <= estimate.value <= estimate.high + 1e-9


def test_not_inferior_is_what_tangos_lower_limit_says():
    records = drawn(400)
    accepted = records.signals["mean_entropy"] < 1.5
    low = paired_difference(np.where(accepted, records.correct, records.deeper_correct), records.deeper_correct).low
    assert figures(records, accepted, margin=-low + 1e-9)["gate"].not_inferior
    assert not figures(records, accepted, margin=-low - 1e-9)["gate"].not_inferior


def test_without_deeper_outcomes_only_acceptance_and_risk_are_known():
    found = figures(recorded([0] * 5, [1, 0, 1, 0, 1]))
    assert set(found) == {NEVER, "gate"}
    gate = found["gate"]
    assert (gate.accepted.value, gate.risk.value) == (pytest.approx(3 / 5), pytest.approx(1 / 3))
    assert (gate.accuracy, gate.accuracy_gain, gate.over_random, gate.not_inferior) == (None,) * 4
    assert (gate.tokens, gate.saved) == (None, None)


def test_without_tokens_savings_are_unknown_and_accuracy_is_not():
    found = figures(recorded([0] * 5, [1, 0, 1, 0, 1], [1] * 5))["gate"]
    assert (found.tokens, found.saved) == (None, None)
    assert found.accuracy.value == pytest.approx(4 / 5)


def test_a_deeper_branch_that_wrote_nothing_leaves_savings_unknown():
    assert figures(recorded([0] * 5, [1] * 5, [1] * 5, tokens=3, deeper_tokens=0))["gate"].saved is None
