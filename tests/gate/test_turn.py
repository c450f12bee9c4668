"""One question through draft, gate and deeper branch, with answers that are no framework's."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.books import Book
from tests.plain_framework import DEEPER_COST, DRAFT_COST, Blocking, Interrupted, Model, OnLoop, Said, Turn, WholeTurn
from tests.samples import draft as logprobs_of
from tests.samples import profile
from tje_middleware import EntropyGate, GateDecision, GateError, Route, Threshold, TjeWarning, TokenUsage
from tje_middleware.gate.delivery import Delivery
from tje_middleware.gate.stopping.watch import DraftAborted, DraftStopped

SURE, UNSURE, HOPELESS = logprobs_of(0.2), logprobs_of(0.8), logprobs_of(1.4)
THOUGHT = (Said("let me "), Said("see: 42"))
KNOWN = profile(0.5).model_copy(update={"abstain": Threshold(value=1.0)})
STOPPED = DraftStopped(
    GateDecision(Route.DEEPER, "uncertain", "sure to be rejected", "mean_entropy", "mean", aborted=True), DRAFT_COST
)


@pytest.fixture(params=[Blocking(), OnLoop()], ids=["blocking", "on_loop"])
def way(request):
    return request.param


@pytest.fixture(params=["whole", "streamed"])
def asked(request, way):
    """Both ways to ask for an answer; of a stream the parts together."""
    if request.param == "whole":
        return way.answer

    def read(turn):
        chunks = way.answers(turn)
        return replace(chunks[-1], text="".join(chunk.text for chunk in chunks))

    return read


def turn_of(*draft, deeper=THOUGHT, cap=None, gate=None, kind=Turn, **rules):
    return kind(Delivery(gate or EntropyGate(KNOWN), **rules), Model(*draft), Model(*deeper), cap=cap)


def settled(*draft, gate=None, **rules):
    """What is written down of one question, and with what circumstances but the time that it took."""
    book = Book(texts=True)
    turn = turn_of(*draft, gate=EntropyGate(KNOWN, ledger=book), **rules)
    turn.answer()
    ((decision, circumstances),) = book.entries
    assert circumstances.pop("latency_seconds") >= 0
    return decision, circumstances


def told(turn):
    return [(decision.route, decision.answered_by) for decision in turn.seen.announced]


class TestAnAcceptedDraft:
    def test_is_the_answer_as_it_is_delivered_with_the_decision_and_what_it_cost(self, asked):
        turn = turn_of(Said("42", SURE))
        answer = asked(turn)
        assert (answer.text, answer.logprobs) == ("42", None)
        assert (answer.decision.route, answer.decision.reason) == (Route.FINAL, "confident")
        assert (answer.decision.answered_by, answer.decision.draft_usage) == ("draft", DRAFT_COST)
        assert answer.decision.deeper_usage is None
        assert turn.decision == answer.decision
        assert turn.big.times_asked == 0

    def test_is_told_of_as_the_answer(self, asked):
        turn = turn_of(Said("42", SURE))
        answer = asked(turn)
        assert turn.seen.announced == [answer.decision]

    def test_that_is_held_comes_as_one_chunk(self, way):
        chunks = way.answers(turn_of(Said("4"), Said("2", SURE)))
        assert [chunk.text for chunk in chunks] == ["42"]

    def test_that_fails_fails_as_without_a_gate(self, asked):
        with pytest.raises(ConnectionError):
            asked(turn_of(ConnectionError()))


class TestARejectedDraft:
    def test_is_replaced_and_what_it_cost_is_told(self, asked):
        turn = turn_of(Said("41", UNSURE))
        answer = asked(turn)
        assert answer.text == "let me see: 42"
        assert (answer.decision.route, answer.decision.answered_by) == (Route.DEEPER, "deeper")
        assert (answer.decision.draft_usage, answer.decision.deeper_usage) == (DRAFT_COST, DEEPER_COST)
        assert turn.decision == answer.decision

    def test_is_given_to_the_deeper_branch_with_the_decision_that_was_told_of_before(self, asked):
        turn = turn_of(Said("41", UNSURE))
        asked(turn)
        assert told(turn) == [(Route.DEEPER, None)]
        assert turn.seen.by_deeper == [(Said("41"), turn.seen.announced[0], 1)]

    def test_is_replaced_as_the_deeper_answer_is_written(self, way):
        turn = turn_of(Said("41", UNSURE), deeper=(Said("a"), Said("b"), Said("usage", place=False)))
        chunks = way.answers(turn)
        assert [chunk.text for chunk in chunks] == ["a", "b", "usage"]
        assert [chunk.decision is not None for chunk in chunks] == [False, True, False]
        assert turn.seen.passed_on == ["a", "usage"]

    def test_has_a_deeper_answer_without_a_place_for_the_decision(self, asked):
        turn = turn_of(Said("41", UNSURE), deeper=(Said("42", place=False),))
        assert asked(turn) == Said("42", place=False)
        assert turn.decision.answered_by == "deeper"

    def test_is_asked_about_only_as_the_branch_can_be_called(self, asked, way):
        turn = turn_of(Said("41", UNSURE), deeper=())
        with pytest.raises(TypeError, match=f"on_loop={way.on_loop}"):
            asked(turn)

    def test_is_replaced_whole_where_nothing_streams(self, way):
        chunks = way.answers(turn_of(Said("41", UNSURE), kind=WholeTurn))
        assert [(chunk.text, chunk.decision.answered_by) for chunk in chunks] == [("let me see: 42", "deeper")]


class TestWhatIsWrittenDown:
    CIRCUMSTANCES = {  # noqa: RUF012
        "profile": KNOWN,
        "draft_model": "m",
        "deeper_model": None,
        "prompt": "6 x 7?",
        "answer": "42",
        "risk_limit": None,
        "deeper_includes_draft": False,
    }

    def test_of_an_accepted_draft_has_the_profile_that_says_what_it_saved(self):
        decision, circumstances = settled(Said("42", SURE))
        assert (decision.answered_by, circumstances) == ("draft", self.CIRCUMSTANCES)

    def test_of_a_rejected_one_has_the_deeper_answer_and_who_wrote_it(self):
        decision, circumstances = settled(Said("41", UNSURE))
        assert decision.answered_by == "deeper"
        assert circumstances == {**self.CIRCUMSTANCES, "deeper_model": "big", "answer": "let me see: 42"}

    def test_where_nothing_goes_deeper_no_profile_says_that_accepting_saved_anything(self):
        _, circumstances = settled(Said("42", SURE), mode="annotate")
        assert circumstances == {**self.CIRCUMSTANCES, "profile": None}

    def test_no_texts_unless_the_ledger_wants_them(self):
        book = Book()
        turn_of(Said("42", SURE), gate=EntropyGate(KNOWN, ledger=book)).answer()
        assert (book.entries[0][1]["prompt"], book.entries[0][1]["answer"]) == (None, None)


class TestWhatNobodyCounted:
    def test_is_unknown_and_not_zero(self, asked):
        turn = turn_of(Said("41", UNSURE))
        turn.costs = TokenUsage(), TokenUsage()
        decision = asked(turn).decision
        assert (decision.answered_by, decision.draft_usage, decision.deeper_usage) == ("deeper", None, None)

    def test_is_unknown_of_an_accepted_draft_too(self, asked):
        turn = turn_of(Said("42", SURE))
        turn.costs = TokenUsage(), TokenUsage()
        assert asked(turn).decision.draft_usage is None
        assert turn.seen.announced[0].draft_usage is None


class TestADraftThatAGateFurtherInHasDecidedAbout:
    def inner(self, draft, *, key=KNOWN):
        return turn_of(Said("41", draft), gate=EntropyGate(key)).answer().decision

    def test_is_counted_as_one_where_both_accept_it(self, asked):
        held = self.inner(SURE)
        assert asked(turn_of(Said("42", SURE, held))).decision.decision_id == held.decision_id

    def test_is_another_draft_where_that_gates_deeper_branch_wrote_it(self, asked):
        held = self.inner(UNSURE)
        assert held.answered_by == "deeper"
        assert asked(turn_of(Said("42", SURE, held))).decision.decision_id != held.decision_id

    def test_is_decided_about_anew_by_a_gate_of_another_key(self, asked):
        other = KNOWN.model_copy(update={"key": KNOWN.key.model_copy(update={"task": "another"})})
        held = self.inner(SURE, key=other)
        assert asked(turn_of(Said("42", SURE, held))).decision.decision_id != held.decision_id


class TestADraftThatIsGivenUp:
    def test_is_delivered_and_told_of_as_open(self, asked):
        giving_up = EntropyGate(KNOWN, abstain=True)
        turn = turn_of(Said("41", HOPELESS), gate=giving_up)
        answer = asked(turn)
        assert (answer.text, answer.decision.route, answer.decision.answered_by) == ("41", Route.ABSTAIN, "draft")
        assert told(turn) == [(Route.ABSTAIN, None)]
        assert turn.big.times_asked == 0


@pytest.mark.parametrize("stopped", [STOPPED, DraftAborted(STOPPED)], ids=["within", "outside"])
class TestAStoppedDraft:
    def test_is_replaced_and_unknown_to_the_deeper_branch(self, asked, stopped):
        turn = turn_of(stopped)
        answer = asked(turn)
        assert (answer.text, answer.decision.aborted, answer.decision.answered_by) == (
            "let me see: 42",
            True,
            "deeper",
        )
        assert told(turn) == [(Route.DEEPER, None)]
        assert turn.seen.by_deeper == [(None, stopped.decision, 1)]

    def test_does_not_take_the_place_of_a_branch_that_failed(self, asked, stopped):
        with pytest.raises(ConnectionError):
            asked(turn_of(stopped, deeper=(ConnectionError(),)))


class TestADeeperBranchThatFails:
    def test_leaves_the_draft_which_says_so(self, asked):
        turn = turn_of(Said("41", UNSURE), deeper=(ConnectionError("secret"),))
        with pytest.warns(TjeWarning, match="the deeper branch failed"):
            answer = asked(turn)
        assert (answer.text, answer.decision.reason, answer.decision.answered_by) == ("41", "branch_failed", "draft")
        assert "ConnectionError" in answer.decision.detail
        assert "secret" not in answer.decision.detail

    def test_is_heard_of_where_that_is_the_policy(self, asked):
        with pytest.raises(ConnectionError):
            asked(turn_of(Said("41", UNSURE), deeper=(ConnectionError(),), on_branch_error="raise"))

    def test_is_none_where_the_framework_interrupts(self, asked):
        with pytest.raises(Interrupted):
            asked(turn_of(Said("41", UNSURE), deeper=(Interrupted(),)))

    def test_cannot_take_back_what_was_given_out(self, way):
        turn = turn_of(Said("41", UNSURE), deeper=(Said("a"), Said("b"), ConnectionError()))
        with pytest.raises(ConnectionError):
            way.answers(turn)

    def test_takes_back_what_nobody_has_seen(self, way):
        # The last chunk so far is held, since the decision may go with it.
        turn = turn_of(Said("41", UNSURE), deeper=(Said("a"), ConnectionError()))
        with pytest.warns(TjeWarning, match="the deeper branch failed"):
            assert [chunk.text for chunk in way.answers(turn)] == ["41"]


class TestACap:
    def test_keeps_the_draft_that_was_to_be_replaced(self, asked):
        turn = turn_of(Said("41", UNSURE), cap="max_deeper=3")
        answer = asked(turn)
        assert (answer.text, answer.decision.reason, answer.decision.route) == ("41", "capped", Route.DEEPER)
        assert "max_deeper=3 is reached" in answer.decision.detail
        assert told(turn) == [(Route.DEEPER, "draft")]

    def test_says_nothing_of_one_that_was_not(self, asked):
        assert asked(turn_of(Said("42", SURE), cap="max_deeper=3")).decision.reason == "confident"


class TestACallOfTools:
    call = Said("call", calls_tools=True)

    def test_is_accepted_unjudged_where_that_is_the_rule(self, asked):
        decision = asked(turn_of(replace(self.call, logprobs=UNSURE), tool_calls="pass")).decision
        assert (decision.route, decision.reason, decision.signal_value) == (Route.FINAL, "tool_call", None)

    def test_is_judged_by_its_logprobs_where_there_are_some(self, asked):
        turn = turn_of(replace(self.call, logprobs=SURE), tool_calls="deeper_on_unknown")
        assert asked(turn).decision.reason == "confident"

    def test_goes_deeper_where_there_are_none_and_that_is_the_rule(self, asked):
        lenient = EntropyGate(profile(), on_missing="final")
        with pytest.warns(TjeWarning, match="goes to 'deeper': calls have none here"):
            answer = asked(turn_of(self.call, gate=lenient, tool_calls="deeper_on_unknown"))
        assert (answer.decision.reason, answer.decision.answered_by) == ("no_logprobs", "deeper")

    def test_is_as_any_other_draft_without_a_rule(self, asked):
        lenient = EntropyGate(profile(), on_missing="final")
        with pytest.warns(TjeWarning, match="goes to 'final': calls have none here"):
            assert asked(turn_of(self.call, gate=lenient)).decision.answered_by == "draft"


class TestADraftThatCannotBeJudged:
    def test_is_said_to_come_from_a_model_that_was_asked(self, asked):
        with pytest.warns(TjeWarning, match="the draft came without logprobs; the model was asked for them"):
            assert asked(turn_of(Said("41"), gate=EntropyGate(profile()))).decision.reason == "no_logprobs"

    def test_is_explained_by_what_the_model_said_when_it_refused(self, asked):
        gate = EntropyGate(profile())
        gate.capabilities.remember("m", TypeError("no logprobs for you"))
        with pytest.warns(TjeWarning, match="no logprobs for you"):
            asked(turn_of(Said("41", calls_tools=True), gate=gate))

    def test_is_an_error_where_that_is_the_policy(self, asked):
        with pytest.raises(GateError):
            asked(turn_of(Said("41"), gate=EntropyGate(profile(), on_missing="raise")))


class TestWhatNoModelWrote:
    def test_is_delivered_undecided_and_untold(self, asked):
        turn = turn_of(Said("out of a cache", by_model=False))
        assert asked(turn) == Said("out of a cache", by_model=False)
        assert (turn.decision, told(turn)) == (None, [])


class TestAnAnnotatedDraft:
    def test_passes_through_and_is_the_answer_whatever_is_decided(self, way):
        turn = turn_of(Said("4", SURE), Said("1", UNSURE), Said("usage", place=False), mode="annotate")
        chunks = way.answers(turn)
        assert [(chunk.text, chunk.logprobs) for chunk in chunks] == [("4", None), ("1", None), ("usage", None)]
        assert [chunk.decision is not None for chunk in chunks] == [False, True, False]
        assert (turn.decision.route, turn.decision.answered_by) == (Route.DEEPER, "draft")
        assert told(turn) == [(Route.DEEPER, "draft")]
        assert turn.big.times_asked == 0

    def test_is_the_whole_answer_too(self, way):
        answer = way.answer(turn_of(Said("41", UNSURE), mode="annotate"))
        assert (answer.text, answer.decision.answered_by) == ("41", "draft")

    def test_comes_whole_where_nothing_streams(self, way):
        chunks = way.answers(turn_of(Said("4"), Said("1", UNSURE), mode="annotate", kind=WholeTurn))
        assert [(chunk.text, chunk.decision.answered_by) for chunk in chunks] == [("41", "draft")]

    def test_that_fails_on_the_way_is_not_judged(self, way):
        turn = turn_of(Said("4"), Said("1"), ConnectionError(), mode="annotate")
        with pytest.raises(ConnectionError):
            way.answers(turn)
        assert told(turn) == []


class TestAStreamThatNobodyReadsOn:
    def test_of_the_deeper_branch_is_closed_at_once(self, way):
        turn = turn_of(Said("41", UNSURE), deeper=(Said("a"), Said("b"), Said("c")))
        assert way.left_early(turn, turn.big) == ("a", True)

    def test_of_an_annotated_draft_is_closed_at_once_and_never_judged(self, way):
        turn = turn_of(Said("a"), Said("b"), Said("c", SURE), mode="annotate")
        assert way.left_early(turn, turn.small) == ("a", True)
        assert (turn.decision, told(turn)) == (None, [])


class TestTheEnd:
    """It is told once, with what the answer cost, or how far the turn came."""

    @pytest.mark.parametrize(("draft", "by"), [(SURE, "draft"), (UNSURE, "deeper")], ids=["accepted", "deeper"])
    def test_is_told_when_the_answer_is_there(self, asked, draft, by):
        turn = turn_of(Said("42", draft))
        answer = asked(turn)
        assert turn.seen.concluded == [answer.decision]
        assert answer.decision.answered_by == by

    def test_is_the_drafts_where_the_deeper_branch_failed(self, asked):
        turn = turn_of(Said("42", UNSURE), deeper=[ValueError("no")])
        with pytest.warns(TjeWarning):
            asked(turn)
        assert [(each.reason, each.answered_by) for each in turn.seen.concluded] == [("branch_failed", "draft")]

    def test_is_open_where_nobody_answered(self, asked):
        turn = turn_of(Said("42", UNSURE), deeper=[ValueError("no")], on_branch_error="raise")
        with pytest.raises(ValueError, match="no"):
            asked(turn)
        (told,) = turn.seen.concluded
        assert (told.route, told.answered_by) == (Route.DEEPER, None)
        assert (told.draft_usage, told.deeper_usage) == (DRAFT_COST, DEEPER_COST)

    def test_is_told_of_a_stream_that_is_left(self, way):
        turn = turn_of(Said("42", UNSURE))
        way.left_early(turn, turn.big)
        assert [(each.route, each.answered_by) for each in turn.seen.concluded] == [(Route.DEEPER, None)]

    def test_is_untold_where_nothing_was_decided(self, asked):
        turn = turn_of(Said("42", by_model=False))
        asked(turn)
        assert turn.seen.concluded == []


def test_a_draft_may_be_nothing():
    """As the answer of a user's own function may be."""

    class Nothing(WholeTurn):
        def draft(self):
            return None

        def shown(self, draft):
            return draft

        def is_draft(self, draft):
            return False

    assert Nothing(Delivery(EntropyGate(KNOWN)), Model(), Model()).answer() is None
