"""A workflow that drafts, routes by entropy, and deepens."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.agent.workflow import AgentOutput, FunctionAgent
from llama_index.core.llms import LLM, ChatResponse
from llama_index.core.workflow import (
    Context,
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)
from llama_index_tje import (
    AbstainEvent,
    DecisionEvent,
    DeeperEvent,
    DraftEvent,
    EntropyGatedLLM,
    EntropyGatedQueryEngine,
    ask_logprobs,
    capture_entropy,
    entropy_route,
)
from pydantic import BaseModel

from tests.gates import MODEL, make_gate
from tests.samples import profile
from tests.standin import StandIn
from tje_middleware import (
    EntropyGate,
    GateDecision,
    GateError,
    ProfileKey,
    Threshold,
    TjeWarning,
    TokenUsage,
    parse_logprobs,
)

from ..query.engines import Engines
from ..ways import messages

CERTAIN, UNSURE, HOPELESS = "bits=0.5 says_model", "bits=2.5 says_model", "bits=3.5 says_model"
Make = Callable[..., LLM]


def asking(model: LLM, deep: LLM, route: Any) -> Workflow:
    """Drafts with one LLM and deepens with the other."""

    class Ask(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> DraftEvent:
            return DraftEvent(draft=await model.achat(messages(ev.question)), question=ev.question)

        gate_it = route

        @step
        async def deepen(self, ev: DeeperEvent) -> StopEvent:
            return StopEvent(result=ev.answered(await deep.achat(messages(ev.question))))

    return Ask(timeout=60)


def drafting(draft: Callable[[], Any], gate: EntropyGate) -> Workflow:
    """Hands on whatever it is given as a draft; the result is the event that follows."""

    class Draft(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> DraftEvent:
            made = await draft()
            return made if isinstance(made, DraftEvent) else DraftEvent(draft=made)

        route = entropy_route(gate=gate, final=Followed, deeper=Followed)

        @step
        async def end(self, ev: Followed) -> StopEvent:
            return StopEvent(result=ev)

    return Draft(timeout=60)


class Followed(Event):
    draft: Any
    decision: GateDecision


def tje(answer: Any) -> dict[str, Any]:
    return answer.message.additional_kwargs["tje"]


async def test_an_accepted_draft_is_the_result(asked: LLM, deep: LLM, gate: EntropyGate, provider: StandIn) -> None:
    answer = await asking(asked, deep, entropy_route(gate=gate)).run(question=CERTAIN)
    assert answer.message.content.split() == ["standin-0", "standin-1", "standin-2", "standin-3"]
    assert (tje(answer)["route"], tje(answer)["answered_by"]) == ("final", "draft")
    assert [request["model"] for request in provider.requests] == [MODEL]


async def test_an_uncertain_draft_goes_to_the_deeper_step(asked: LLM, deep: LLM, gate: EntropyGate) -> None:
    answer = await asking(asked, deep, entropy_route(gate=gate)).run(question=UNSURE)
    assert answer.message.content.startswith("deep-0")
    assert (tje(answer)["route"], tje(answer)["answered_by"]) == ("deeper", "deeper")


async def test_the_tokens_of_draft_and_deeper_answer_are_summed(asked: LLM, deep: LLM, gate: EntropyGate) -> None:
    flow = asking(asked, deep, entropy_route(gate=gate))
    draft, answer = await flow.run(question=CERTAIN), await flow.run(question=UNSURE)
    one, both = draft.additional_kwargs["total_tokens"], answer.additional_kwargs["total_tokens"]
    assert both == 2 * one
    assert tje(answer)["draft_usage"] == tje(answer)["deeper_usage"] == tje(draft)["draft_usage"]


async def test_the_deeper_step_is_given_what_the_draft_came_with(asked: LLM, gate: EntropyGate) -> None:
    flow = drafting(lambda: made(asked, UNSURE), gate)
    event = await flow.run()
    assert (event.question, event.tries) == (UNSURE, 3)
    assert event.draft.message.content.startswith("standin-0")
    assert event.decision.reason == "uncertain"


async def made(model: LLM, question: str) -> DraftEvent:
    return DraftEvent(draft=await model.achat(messages(question)), question=question, tries=3)


async def test_the_decision_is_in_the_stream_in_the_store_and_among_the_events(
    asked: LLM, deep: LLM, gate: EntropyGate
) -> None:
    flow = asking(asked, deep, entropy_route(gate=gate, decisions_key="tje"))
    with capture_entropy() as seen:
        handler = flow.run(question=UNSURE)
        streamed = [event.decision async for event in handler.stream_events() if isinstance(event, DecisionEvent)]
        await handler
    stored = await handler.ctx.store.get("tje")
    assert [decision.reason for decision in streamed] == ["uncertain"]
    assert stored == [streamed[0].as_dict()]
    assert seen.decisions == tuple(streamed)


async def test_the_decisions_may_be_kept_in_a_state_of_the_users_own(asked: LLM, gate: EntropyGate) -> None:
    class State(BaseModel):
        decisions: list[dict[str, Any]] = []

    class Typed(Workflow):
        @step
        async def ask(self, ctx: Context[State], ev: StartEvent) -> DraftEvent:
            return DraftEvent(draft=await asked.achat(messages(ev.question)))

        route = entropy_route(gate=gate, decisions_key="decisions")

        @step
        async def deepen(self, ctx: Context[State], ev: DeeperEvent) -> StopEvent:
            return StopEvent(result=[each["reason"] for each in (await ctx.store.get_state()).decisions])

    assert await Typed().run(question=UNSURE) == ["uncertain"]


class TestConcurrency:
    async def test_a_hundred_runs_at_once_are_decided_each_by_its_own(
        self, asked: LLM, deep: LLM, gate: EntropyGate
    ) -> None:
        flow = asking(asked, deep, entropy_route(gate=gate))
        bits = [0.25 + number / 50 for number in range(100)]
        answers = await asyncio.gather(*(flow.run(question=f"bits={each} says_model") for each in bits))
        assert [tje(each)["signal_value"] for each in answers] == pytest.approx(bits)
        assert [tje(each)["answered_by"] for each in answers] == ["draft" if each <= 1 else "deeper" for each in bits]

    async def test_drafts_that_are_fanned_out_keep_their_own_decisions(
        self, asked: LLM, deep: LLM, gate: EntropyGate
    ) -> None:
        class Done(Event):
            draft: Any
            question: str

        class Fan(Workflow):
            @step
            async def start(self, ctx: Context, ev: StartEvent) -> Question | None:
                for question in ev.questions:
                    ctx.send_event(Question(question=question))
                return None

            @step(num_workers=4)
            async def ask(self, ev: Question) -> DraftEvent:
                return DraftEvent(draft=await asked.achat(messages(ev.question)), question=ev.question)

            route = entropy_route(gate=gate, final=Done, decisions_key="tje", num_workers=4)

            @step(num_workers=4)
            async def deepen(self, ev: DeeperEvent) -> Done:
                return Done(draft=ev.answered(await deep.achat(messages(ev.question))), question=ev.question)

            @step
            async def collect(self, ctx: Context, ev: Done) -> StopEvent | None:
                done = ctx.collect_events(ev, [Done] * 24)
                return None if done is None else StopEvent(result=done)

        questions = [f"bits={0.25 + number / 10} says_model" for number in range(24)]
        handler = Fan(timeout=60).run(questions=questions)
        done = await handler
        found = {each.question: tje(each.draft) for each in done}
        bits = [0.25 + number / 10 for number in range(24)]
        assert [found[each]["signal_value"] for each in questions] == pytest.approx(bits)
        assert Counter(each["answered_by"] for each in found.values()) == {"draft": 8, "deeper": 16}
        assert sorted(each["signal_value"] for each in await handler.ctx.store.get("tje")) == pytest.approx(bits)


class Question(Event):
    question: str


class TestOwnEvents:
    async def test_a_users_events_are_filled_by_the_names_of_their_fields(
        self, asked: LLM, gate: EntropyGate
    ) -> None:
        class Own(Workflow):
            @step
            async def ask(self, ev: StartEvent) -> MyDraft:
                return MyDraft(response=await asked.achat(messages(ev.question)), question=ev.question)

            route = entropy_route(gate=gate, draft=MyDraft, final=MyStop, deeper=MyDeepen, draft_field="response")

            @step
            async def deepen(self, ev: MyDeepen) -> MyStop:
                return MyStop(
                    question=f"{ev.question}, {ev.response.message.content.split()[0]}", decision=ev.decision
                )

        certain, unsure = await Own().run(question=CERTAIN), await Own().run(question=UNSURE)
        assert (type(certain), certain.question, certain.decision.route.value) == (MyStop, CERTAIN, "final")
        assert tje(certain.result)["answered_by"] == "draft"
        assert unsure.question == f"{UNSURE}, standin-0"

    async def test_a_field_that_is_not_there_is_named(self, gate: EntropyGate) -> None:
        class Own(Workflow):
            @step
            async def ask(self, ev: StartEvent) -> MyDraft:
                return MyDraft(response=None, question="")

            route = entropy_route(gate=gate, draft=MyDraft)

            @step
            async def deepen(self, ev: DeeperEvent) -> StopEvent:
                return StopEvent()

        with pytest.raises(Exception, match="MyDraft has no draft in 'draft', but response, question"):
            await Own().run()

    async def test_two_gates_in_one_workflow_decide_each_for_itself(self, asked: LLM, gate: EntropyGate) -> None:
        class Followed(Event):
            response: Any

        class Twice(Workflow):
            @step
            async def ask(self, ev: StartEvent) -> DraftEvent:
                return DraftEvent(draft=await asked.achat(messages(ev.first)), second=ev.second)

            first = entropy_route(gate=gate, final=Between, deeper=Between, decisions_key="tje")

            @step
            async def again(self, ev: Between) -> MyDraft:
                return MyDraft(response=await asked.achat(messages(ev.second)), question="")

            then = entropy_route(
                gate=gate, draft=MyDraft, final=Followed, deeper=Followed, draft_field="response", decisions_key="tje"
            )

            @step
            async def end(self, ctx: Context, ev: Followed) -> StopEvent:
                return StopEvent(result=[each["route"] for each in await ctx.store.get("tje")])

        assert await Twice().run(first=CERTAIN, second=UNSURE) == ["final", "deeper"]
        assert await Twice().run(first=UNSURE, second=CERTAIN) == ["deeper", "final"]

    async def test_a_workflow_that_exists_gets_its_gate_in_a_subclass(self, asked: LLM, gate: EntropyGate) -> None:
        class Ungated(Workflow):
            @step
            async def ask(self, ev: StartEvent) -> DraftEvent:
                return DraftEvent(draft=await asked.achat(messages(ev.question)))

            @step
            async def deepen(self, ev: DeeperEvent) -> StopEvent:
                return StopEvent(result="deeper")

        class Gated(Ungated):
            route = entropy_route(gate=gate)

        assert await Gated().run(question=UNSURE) == "deeper"

    @pytest.mark.parametrize("name", ["draft", "final", "deeper", "abstain"])
    def test_what_is_no_class_of_events_is_refused_by_name(self, gate: EntropyGate, name: str) -> None:
        with pytest.raises(TypeError, match=f"{name} must be a class of events, not the class str"):
            entropy_route(gate=gate, **{name: str})

    def test_unknown_options_are_refused(self, gate: EntropyGate) -> None:
        with pytest.raises(ValueError, match="aggregate must be one of 'worst', 'last', 'pooled', not 'best'"):
            entropy_route(gate=gate, aggregate="best")
        with pytest.raises(TypeError, match="gate must be an EntropyGate, not None"):
            entropy_route(gate=None)


class MyDraft(Event):
    response: Any
    question: str


class MyDeepen(Event):
    response: Any
    question: str
    decision: GateDecision


class MyStop(StopEvent):
    question: str
    decision: GateDecision


class Between(Event):
    second: str


def test_the_step_says_what_it_takes_and_what_follows(gate: EntropyGate) -> None:
    class Ask(Workflow):
        route = entropy_route(gate=gate, abstain=AbstainEvent)

    config = step_config(Ask.route)
    assert config.accepted_events == [DraftEvent]
    assert config.return_types == [StopEvent, DeeperEvent, AbstainEvent]


def step_config(function: Any) -> Any:
    # Older releases of workflows have it under another name.
    return getattr(function, "_step_config", None) or getattr(function, "__step_config")


class TestHandingOver:
    @pytest.fixture
    def hopeless(self) -> EntropyGate:
        """Gives drafts of more than 3 bits up."""
        known = profile(1.0, key=ProfileKey(model=MODEL, task="t", temperature=0.0))
        return EntropyGate(known.model_copy(update={"abstain": Threshold(value=3.0)}), abstain=True)

    async def test_a_draft_that_is_given_up_is_the_result_where_nobody_takes_it(
        self, llm: Make, deep: LLM, hopeless: EntropyGate
    ) -> None:
        model = ask_logprobs(llm(), gate=hopeless)
        answer = await asking(model, deep, entropy_route(gate=hopeless)).run(question=HOPELESS)
        assert (tje(answer)["route"], tje(answer)["answered_by"]) == ("abstain", "draft")

    async def test_a_draft_that_is_given_up_goes_to_a_step_that_asks_a_human(
        self, llm: Make, deep: LLM, hopeless: EntropyGate
    ) -> None:
        model = ask_logprobs(llm(), gate=hopeless)

        class HandOver(Workflow):
            @step
            async def ask(self, ev: StartEvent) -> DraftEvent:
                return DraftEvent(draft=await model.achat(messages(ev.question)), question=ev.question)

            route = entropy_route(gate=hopeless, abstain=AbstainEvent)

            @step
            async def deepen(self, ev: DeeperEvent) -> StopEvent:
                return StopEvent(result=ev.answered(await deep.achat(messages(ev.question))))

            @step
            async def hand_over(self, ctx: Context, ev: AbstainEvent) -> StopEvent:
                asked = InputRequiredEvent(prefix=ev.question)
                reply = await ctx.wait_for_event(HumanResponseEvent, waiter_event=asked)
                return StopEvent(result=(ev.answered(reply.response), ev.settled().answered_by))

        handler = HandOver(timeout=20).run(question=HOPELESS)
        async for event in handler.stream_events():
            if isinstance(event, InputRequiredEvent):
                handler.ctx.send_event(HumanResponseEvent(response=f"seen: {event.prefix}"))
        assert await handler == (f"seen: {HOPELESS}", "human")

    async def test_a_human_may_be_asked_in_the_deeper_step_and_the_draft_is_asked_for_once(
        self, asked: LLM, gate: EntropyGate, provider: StandIn
    ) -> None:
        class Approve(Workflow):
            @step
            async def ask(self, ev: StartEvent) -> DraftEvent:
                return DraftEvent(draft=await asked.achat(messages(ev.question)))

            route = entropy_route(gate=gate)

            @step
            async def deepen(self, ctx: Context, ev: DeeperEvent) -> StopEvent:
                reply = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent())
                return StopEvent(result=(reply.response, ev.decision.reason))

        handler = Approve(timeout=20).run(question=UNSURE)
        async for event in handler.stream_events():
            if isinstance(event, InputRequiredEvent):
                handler.ctx.send_event(HumanResponseEvent(response="so be it"))
        assert await handler == ("so be it", "uncertain")
        assert len(provider.requests) == 1


class TestWithoutEvidence:
    async def test_a_model_that_was_not_asked_is_said_to_be_unknown_and_what_to_do(
        self, llm: Make, deep: LLM, gate: EntropyGate
    ) -> None:
        with pytest.warns(TjeWarning, match="ask_logprobs"):
            answer = await asking(llm(), deep, entropy_route(gate=gate)).run(question=CERTAIN)
        assert (tje(answer)["reason"], tje(answer)["answered_by"]) == ("no_logprobs", "deeper")
        assert "let the step that drafts ask for them, with ask_logprobs(llm, gate=gate)" in tje(answer)["detail"]

    async def test_a_model_that_refused_says_so(self, llm: Make, deep: LLM) -> None:
        gate = make_gate("refuses-logprobs")
        model = ask_logprobs(llm("refuses-logprobs"), gate=gate)
        with pytest.warns(TjeWarning, match="refused"):
            answer = await asking(model, deep, entropy_route(gate=gate)).run(question=CERTAIN)
        assert "the provider refused to give logprobs" in tje(answer)["detail"]

    async def test_another_model_than_the_profiles_cannot_be_judged(
        self, llm: Make, deep: LLM, gate: EntropyGate
    ) -> None:
        other = ask_logprobs(llm("other"), gate=gate)
        with pytest.warns(TjeWarning, match="other"):
            answer = await asking(other, deep, entropy_route(gate=gate)).run(question=CERTAIN)
        assert tje(answer)["reason"] == "other_settings"

    async def test_a_gate_that_raises_fails_the_workflow(self, llm: Make, deep: LLM) -> None:
        gate = make_gate(on_missing="raise")
        with pytest.raises(GateError, match="cannot be judged"):
            await asking(llm(), deep, entropy_route(gate=gate)).run(question=CERTAIN)


class TestKindsOfDrafts:
    async def test_a_completion(self, asked: LLM, gate: EntropyGate) -> None:
        event = await drafting(lambda: asked.acomplete(CERTAIN), gate).run()
        assert event.decision.accepted
        assert event.draft.additional_kwargs["tje"]["answered_by"] == "draft"

    @pytest.mark.parametrize(("question", "route"), [(CERTAIN, "final"), (UNSURE, "deeper")])
    async def test_logprobs_and_payloads(self, asked: LLM, gate: EntropyGate, question: str, route: str) -> None:
        response = await asked.achat(messages(question))
        for payload in (parse_logprobs(response), response.raw, response.raw.model_dump()):
            event = await drafting(lambda payload=payload: later(payload), gate).run()
            assert event.decision.route.value == route

    async def test_the_last_chunk_of_a_stream_does_not_speak_for_the_rest(
        self, asked: LLM, gate: EntropyGate
    ) -> None:
        async def draft() -> ChatResponse:
            *_, last = [chunk async for chunk in await asked.astream_chat(messages(CERTAIN))]
            return last

        with pytest.warns(TjeWarning, match="came without logprobs"):
            event = await drafting(draft, gate).run()
        assert (event.decision.accepted, event.decision.signal_value) == (False, None)

    async def test_a_text_cannot_be_judged_by_itself(self, gate: EntropyGate) -> None:
        with pytest.warns(TjeWarning, match="a text has no logprobs: hand on the LLM's response itself"):
            event = await drafting(lambda: later("w0"), gate).run()
        assert event.decision.reason == "no_logprobs"

    async def test_a_text_is_judged_by_the_calls_that_made_it(self, asked: LLM, gate: EntropyGate) -> None:
        async def draft() -> DraftEvent:
            with capture_entropy() as captured:
                texts = [(await asked.acomplete(question)).text for question in (CERTAIN, UNSURE, CERTAIN)]
            return DraftEvent(draft=" ".join(texts), calls=captured.calls)

        event = await drafting(draft, gate).run()
        assert (event.decision.signal_value, event.decision.reason) == (pytest.approx(2.5), "uncertain")
        assert event.decision.detail.endswith("(the worst of 3 model calls)")
        assert (event.decision.draft_usage.calls, event.decision.draft_usage.output_tokens) == (3, 12)
        assert "calls" not in event

    async def test_the_answer_of_a_query_engine_cannot_be_judged_by_itself(
        self, provider: StandIn, gate: EntropyGate
    ) -> None:
        engine = Engines(provider).engine()
        with pytest.warns(TjeWarning, match="draft with an EntropyGatedQueryEngine, or capture them"):
            event = await drafting(lambda: engine.aquery(CERTAIN), gate).run()
        assert event.decision.reason == "no_logprobs"
        assert event.draft.metadata["tje"]["reason"] == "no_logprobs"

    async def test_the_answer_of_a_query_engine_is_judged_by_its_calls(
        self, provider: StandIn, gate: EntropyGate
    ) -> None:
        engines = Engines(provider)
        engine = engines.engine(llm=ask_logprobs(engines.llm(), gate=gate))

        async def draft(question: str) -> DraftEvent:
            with capture_entropy() as captured:
                return DraftEvent(draft=await engine.aquery(question), calls=captured.calls)

        certain = await drafting(lambda: draft(CERTAIN), gate).run()
        unsure = await drafting(lambda: draft(UNSURE), gate).run()
        assert (certain.decision.accepted, unsure.decision.accepted) == (True, False)
        assert certain.draft.metadata["tje"]["answered_by"] == "draft"

    async def test_the_answer_of_a_gated_query_engine_was_decided_about(
        self, provider: StandIn, gate: EntropyGate
    ) -> None:
        engines = Engines(provider)
        engine = EntropyGatedQueryEngine(engine=engines.engine(gate=gate), deeper=engines.deep(), gate=gate)
        event = await drafting(lambda: engine.aquery(UNSURE), gate).run()
        assert event.decision.answered_by == "deeper"
        assert event.draft.metadata["tje"] == event.decision.as_dict()

    async def test_the_answer_of_a_gated_llm_goes_deeper_once(
        self, llm: Make, deep: LLM, gate: EntropyGate, provider: StandIn
    ) -> None:
        model = EntropyGatedLLM(llm=llm(), deeper=deep, gate=gate)
        answer = await asking(model, deep, entropy_route(gate=gate)).run(question=UNSURE)
        assert tje(answer)["answered_by"] == "deeper"
        assert [request["model"] for request in provider.requests] == [MODEL, "deep"]

    @pytest.mark.parametrize("streaming", [True, False])
    async def test_an_agent_is_judged_where_it_keeps_its_llms_whole_answer(
        self, asked: LLM, gate: EntropyGate, streaming: bool
    ) -> None:
        agent = FunctionAgent(llm=asked, tools=[], streaming=streaming)

        async def draft() -> AgentOutput:
            return await agent.run(CERTAIN)

        if streaming:
            with pytest.warns(TjeWarning, match="of a stream, the last chunk"):
                event = await drafting(draft, gate).run()
            assert (event.decision.reason, event.decision.signal_value) == ("no_logprobs", None)
        else:
            event = await drafting(draft, gate).run()
            assert event.decision.accepted
            assert event.decision.draft_usage.partly_known == 1  # what came before the last answer is not known
            assert event.draft.response.additional_kwargs["tje"]["answered_by"] == "draft"

    async def test_an_agent_that_streams_is_judged_by_its_calls(self, asked: LLM, gate: EntropyGate) -> None:
        async def draft() -> DraftEvent:
            with capture_entropy() as captured:
                return DraftEvent(draft=await FunctionAgent(llm=asked, tools=[]).run(UNSURE), calls=captured.calls)

        event = await drafting(draft, gate).run()
        assert (event.decision.reason, event.decision.signal_value) == ("uncertain", pytest.approx(2.5))


async def later(value: Any) -> Any:
    return value


class TestAnswering:
    async def test_a_text_of_the_deeper_step_comes_back_as_it_is(self, asked: LLM, gate: EntropyGate) -> None:
        event = DeeperEvent(draft=await asked.achat(messages(UNSURE)), decision=await decided(asked, gate))
        assert event.answered("42") == "42"

    async def test_what_the_deeper_branch_spent_in_all_can_be_told(self, asked: LLM, gate: EntropyGate) -> None:
        event = DeeperEvent(draft=await asked.achat(messages(UNSURE)), decision=await decided(asked, gate))
        spent = TokenUsage(input_tokens=100, output_tokens=50, calls=3)
        answer = event.answered(await asked.achat(messages(CERTAIN)), usage=spent)
        assert tje(answer)["deeper_usage"] == {
            "input_tokens": 100,
            "output_tokens": 50,
            "calls": 3,
            "partly_known": 0,
        }
        assert answer.additional_kwargs["completion_tokens"] == 50 + event.decision.draft_usage.output_tokens
        assert event.settled("42", usage=spent).deeper_usage == spent


async def decided(asked: LLM, gate: EntropyGate) -> GateDecision:
    event = await drafting(lambda: made(asked, UNSURE), gate).run()
    return event.decision
