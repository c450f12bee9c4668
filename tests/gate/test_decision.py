"""What travels with an answer."""

import pytest

from tje_middleware import GateDecision, Route, TokenUsage
from tje_middleware.gate.decision import decision_held

DECISION = GateDecision(Route.DEEPER, "uncertain", "2 bits", "mean_entropy", "bayes")
DRAFT, DEEPER = TokenUsage(10, 5, calls=1), TokenUsage(20, 50, calls=2, partly_known=1)


def with_usages(draft: TokenUsage | None, deeper: TokenUsage | None) -> GateDecision:
    return GateDecision(Route.DEEPER, "uncertain", "", "mean_entropy", "mean", draft_usage=draft, deeper_usage=deeper)


def test_an_answer_costs_the_draft_that_was_rejected_for_it_too() -> None:
    assert with_usages(DRAFT, DEEPER).usage == TokenUsage(30, 55, calls=3, partly_known=1)


@pytest.mark.parametrize(("draft", "deeper", "known"), [(DRAFT, None, DRAFT), (None, None, None)])
def test_what_nobody_counted_is_not_known(
    draft: TokenUsage | None, deeper: TokenUsage | None, known: TokenUsage | None
) -> None:
    assert with_usages(draft, deeper).usage == known


def test_a_decision_is_read_back_out_of_metadata() -> None:
    assert decision_held(with_usages(DRAFT, DEEPER).as_dict()) == with_usages(DRAFT, DEEPER)


@pytest.mark.parametrize(
    "held", [None, 1, "tje", {}, {"route": "sideways"}, {**DECISION.as_dict(), "draft_usage": 3}]
)
def test_what_is_none_is_none(held: object) -> None:
    assert decision_held(held) is None
