"""What a decision saved, case by case; drafts here have 10 tokens, deeper branches 300, or an expected 200 or 400."""

from __future__ import annotations

import pytest

from tests.ledger.decisions import ACCEPTED, DEEPER, GIVEN_UP, decision, profile_with_costs
from tests.samples import profile
from tje_middleware import Route
from tje_middleware.calls.usage import TokenUsage
from tje_middleware.ledger import Savings, savings_of

FAILED = decision(DEEPER, reason="branch_failed", answered_by="draft", deeper_usage=None)
CAPPED = decision(DEEPER, reason="capped", answered_by="draft", deeper_usage=None)
OPEN = decision(DEEPER, answered_by=None, deeper_usage=None)
ANNOTATED = decision(DEEPER, answered_by="draft", deeper_usage=None)
UNJUDGED = decision(ACCEPTED, reason="no_logprobs", signal_value=None)
PASSED = decision(ACCEPTED, reason="tool_call", signal_value=None)
UNCOUNTED = decision(ACCEPTED, draft_usage=None)
PARTLY = decision(ACCEPTED, draft_usage=TokenUsage(0, 4, 1, partly_known=1))
RESCUED = decision(GIVEN_UP, answered_by="deeper", deeper_usage=TokenUsage(1, 300, 1))


@pytest.mark.parametrize(
    ("made", "alone", "with_draft"),
    [
        pytest.param(ACCEPTED, Savings(190.0, "estimated"), Savings(200.0, "estimated"), id="accepted"),
        pytest.param(DEEPER, Savings(-10.0, "measured"), Savings(0.0, "measured"), id="went deeper"),
        pytest.param(GIVEN_UP, Savings(290.0, "estimated"), Savings(300.0, "estimated"), id="given up"),
        pytest.param(
            RESCUED, Savings(-10.0, "measured"), Savings(0.0, "measured"), id="given up, deeper all the same"
        ),
        pytest.param(FAILED, Savings(-10.0, "measured"), Savings(0.0, "measured"), id="the branch failed"),
        pytest.param(CAPPED, Savings(), Savings(), id="a cap kept it from running"),
        pytest.param(OPEN, Savings(), Savings(), id="not settled"),
        pytest.param(ANNOTATED, Savings(), Savings(), id="only annotated"),
        pytest.param(UNJUDGED, Savings(), Savings(), id="accepted without evidence"),
        pytest.param(PASSED, Savings(), Savings(), id="a call of tools that passed"),
        pytest.param(UNCOUNTED, Savings(190.0, "estimated"), Savings(200.0, "estimated"), id="nobody counted"),
        pytest.param(PARTLY, Savings(196.0, "estimated"), Savings(200.0, "estimated"), id="partly known"),
    ],
)
def test_tokens_saved_against_always_going_deeper(made, alone, with_draft):
    costs = profile_with_costs()
    assert savings_of(made, costs) == alone
    assert savings_of(made, costs, deeper_includes_draft=True) == with_draft


def test_of_a_draft_that_went_deeper_and_that_nobody_counted_are_estimated_by_its_logprobs():
    assert savings_of(decision(DEEPER, draft_usage=None)) == Savings(-10.0, "estimated")
    assert savings_of(decision(DEEPER, draft_usage=None, tokens=None)) == Savings()
    assert savings_of(decision(ACCEPTED, draft_usage=None, tokens=None), profile_with_costs()) == Savings()


@pytest.mark.parametrize("known", [None, profile(version=1)], ids=["no profile", "of an earlier release"])
def test_of_accepted_drafts_are_unknown_where_no_records_tell_what_deeper_costs(known):
    assert savings_of(ACCEPTED, known) == Savings()
    assert savings_of(DEEPER, known).by == "measured"


def test_are_of_the_drafts_that_the_threshold_accepts():
    assert savings_of(decision(threshold=1.5), profile_with_costs()) == Savings(290.0, "estimated")
    assert savings_of(decision(route=Route.FINAL, threshold=None), profile_with_costs()) == Savings()
