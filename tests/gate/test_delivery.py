"""The rules by which decisions are carried out."""

from __future__ import annotations

import pytest

from tests.samples import draft, profile
from tje_middleware import EntropyGate, Route, Threshold, TjeWarning, TokenUsage
from tje_middleware.gate.delivery import Delivery

SPENT, MORE = TokenUsage(10, 5, calls=1), TokenUsage(10, 40, calls=1)
KNOWN = profile(0.5).model_copy(update={"abstain": Threshold(value=1.0)})


@pytest.fixture
def gate():
    return EntropyGate(KNOWN, abstain=True)


@pytest.fixture
def accepted(gate):
    return gate.decide(draft(0.2))


@pytest.fixture
def rejected(gate):
    return gate.decide(draft(0.8))


@pytest.fixture
def given_up(gate):
    return gate.decide(draft(1.4))


class TestWhatIsRefused:
    @pytest.mark.parametrize("option", ["mode", "on_branch_error", "tool_calls"])
    def test_an_option_that_does_not_exist(self, gate, option):
        with pytest.raises(ValueError, match=rf"{option} must be one of '.*', not 'later'"):
            Delivery(gate, **{option: "later"})

    def test_what_is_no_gate(self):
        with pytest.raises(TypeError, match="gate must be an EntropyGate, not None"):
            Delivery(None)


class TestTheModeOfADraft:
    @pytest.mark.parametrize("mode", ["hold", "annotate", "abort"])
    def test_is_the_one_that_was_asked_for(self, gate, mode):
        assert Delivery(gate, mode).mode_for(may_call_tools=True) == mode

    def test_that_may_pass_unjudged_is_not_abort(self, gate):
        delivery = Delivery(gate, "abort", tool_calls="pass")
        assert delivery.mode_for(may_call_tools=True) == "hold"
        assert delivery.mode_for(may_call_tools=False) == "abort"

    def test_that_nothing_would_replace_is_not_abort(self, gate):
        assert Delivery(gate, "abort").mode_for(may_call_tools=False, capped=True) == "hold"
        assert Delivery(gate, "annotate").mode_for(may_call_tools=False, capped=True) == "annotate"


class TestCallsOfTools:
    def test_pass_only_by_that_rule(self, gate):
        assert Delivery(gate).passed(calls_tools=True) is None
        assert Delivery(gate, tool_calls="pass").passed(calls_tools=False) is None
        decision = Delivery(gate, tool_calls="pass").passed(calls_tools=True)
        assert (decision.route, decision.reason) == (Route.FINAL, "tool_call")

    def test_are_judged_by_a_gate_that_goes_deeper_only_by_that_rule(self):
        gate = EntropyGate(KNOWN, on_missing="final")
        careful = Delivery(gate, tool_calls="deeper_on_unknown")
        assert careful.gate_for(calls_tools=True).policies.on_missing == "deeper"
        assert careful.gate_for(calls_tools=False) is gate
        assert Delivery(gate).gate_for(calls_tools=True) is gate


class TestGoingDeeper:
    def test_is_for_rejected_drafts_alone(self, gate, accepted, rejected, given_up):
        assert [Delivery(gate).goes_deeper(each) for each in (accepted, rejected, given_up)] == [False, True, False]

    def test_is_not_for_what_is_annotated_or_capped(self, gate, rejected):
        assert not Delivery(gate, "annotate").goes_deeper(rejected)
        delivery = Delivery(gate)
        assert not delivery.goes_deeper(delivery.capped(rejected, "max_deeper=1"))

    def test_is_done_with_once_it_was_tried(self, gate, accepted, rejected, given_up):
        delivery = Delivery(gate, on_branch_error="draft")
        assert [delivery.route_left(each) for each in (accepted, rejected, given_up)] == [
            Route.FINAL,
            Route.DEEPER,
            Route.ABSTAIN,
        ]
        with pytest.warns(TjeWarning, match="branch failed"):
            failed = delivery.after_failure(rejected, OSError())
        tried = [delivery.with_deeper(rejected, SPENT, MORE), delivery.capped(rejected, "max_deeper=1"), failed]
        assert [delivery.route_left(each) for each in tried] == [Route.FINAL] * 3

    def test_is_still_to_be_done_where_the_draft_was_only_shown(self, gate, rejected):
        annotating = Delivery(gate, "annotate")
        assert annotating.route_left(annotating.with_draft(rejected, SPENT)) is Route.DEEPER


class TestWhatIsAnnounced:
    def test_names_the_draft_where_it_is_the_answer(self, gate, accepted, rejected):
        holding, annotating = Delivery(gate), Delivery(gate, "annotate")
        capped = holding.capped(rejected, "max_deeper=1")
        told = [
            holding.announced(accepted, SPENT),
            holding.announced(capped, SPENT),
            annotating.announced(rejected, SPENT),
        ]
        assert [(each.answered_by, each.draft_usage) for each in told] == [("draft", SPENT)] * 3

    def test_leaves_open_what_is_not_decided_yet(self, gate, rejected, given_up):
        assert Delivery(gate).announced(rejected, SPENT) == rejected
        assert Delivery(gate).announced(given_up, SPENT) == given_up


class TestADraftThatIsHandedOn:
    def test_is_the_answer_where_it_is_accepted_or_nobody_takes_what_is_given_up(self, gate, accepted, given_up):
        delivery = Delivery(gate)
        assert delivery.handed_on(accepted, SPENT, hands_over=True).answered_by == "draft"
        assert delivery.handed_on(given_up, SPENT, hands_over=False).answered_by == "draft"

    def test_is_open_else_and_says_what_it_cost(self, gate, rejected, given_up):
        delivery = Delivery(gate)
        handed_on = [delivery.handed_on(each, SPENT, hands_over=True) for each in (rejected, given_up)]
        assert [(each.answered_by, each.draft_usage) for each in handed_on] == [(None, SPENT)] * 2


class TestABranchThatFailed:
    def test_is_told_of_by_its_kind_alone(self, gate, rejected):
        with pytest.warns(TjeWarning, match="secret"):
            decision = Delivery(gate).after_failure(rejected, OSError("secret"))
        assert decision.reason == "branch_failed"
        assert decision.detail == f"{rejected.detail}; the deeper branch failed (OSError), so this is the draft"

    def test_is_warned_of_once(self, gate, rejected, recwarn):
        delivery = Delivery(gate)
        with pytest.warns(TjeWarning):
            delivery.after_failure(rejected, OSError())
        delivery.after_failure(rejected, OSError())
        assert [str(each.message) for each in recwarn if issubclass(each.category, TjeWarning)] == []

    def test_is_raised_where_that_is_the_policy(self, gate, rejected):
        with pytest.raises(OSError, match="down"):
            Delivery(gate, on_branch_error="raise").after_failure(rejected, OSError("down"))
