"""Drafts and decisions in a Context that is saved in the middle of a run, and restored."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from llama_index.core.agent.workflow import AgentOutput
from llama_index.core.base.response.schema import Response
from llama_index.core.llms import LLM, ChatMessage, ChatResponse
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.workflow import (
    Context,
    HumanResponseEvent,
    InputRequiredEvent,
    JsonSerializer,
    StartEvent,
    StopEvent,
    Workflow,
    step,
)
from llama_index_tje import DecisionEvent, DeeperEvent, DraftEvent, capture_entropy, entropy_route
from llama_index_tje.workflow.events import restored_draft, saved_draft
from llama_index_tje.workflow.route import judged

from tests.standin import StandIn
from tje_middleware import (
    EntropyGate,
    GateDecision,
    MissingLogprobs,
    SequenceLogprobs,
    UnreadableLogprobs,
    parse_logprobs,
)
from tje_middleware.gate.delivery import Delivery

UNSURE = "bits=2.5"


def test_a_draft_of_a_kind_derived_from_ours_comes_back_as_ours() -> None:
    class Derived(SequenceLogprobs):
        pass

    kept = restored_draft(json.loads(json.dumps(saved_draft(Derived(np.log([[0.5, 0.5]]))))))
    assert type(kept) is SequenceLogprobs
    assert kept.top_k == 2


def restored(event: Any) -> Any:
    serializer = JsonSerializer()
    return serializer.deserialize(serializer.serialize(event))


def decide(event: DraftEvent, gate: EntropyGate) -> GateDecision:
    return judged(event.draft, event.calls, Delivery(gate), "worst", hands_over=False)[1]


async def chat_response(llm: LLM) -> Any:
    return await llm.achat([ChatMessage(UNSURE)])


async def completion(llm: LLM) -> Any:
    return await llm.acomplete(UNSURE)


async def sequence(llm: LLM) -> Any:
    return parse_logprobs(await chat_response(llm))


async def payload(llm: LLM) -> Any:
    return (await chat_response(llm)).raw.model_dump()


@pytest.mark.parametrize("draft", [chat_response, completion, sequence, payload])
async def test_a_draft_that_was_saved_is_decided_as_it_would_have_been(
    asked: LLM, gate: EntropyGate, draft: Any
) -> None:
    event = DraftEvent(draft=await draft(asked), question="why?")
    after = restored(event)
    assert type(after.draft) is type(event.draft)
    assert after.question == "why?"
    assert decide(after, gate) == decide(event, gate)
    assert decide(after, gate).signal_value == pytest.approx(2.5)


async def test_captured_calls_that_were_saved_speak_for_the_draft(asked: LLM, llm: Any, gate: EntropyGate) -> None:
    with capture_entropy() as captured:
        await asked.acomplete(UNSURE)
        await asked.acomplete("bits=0.5")
    event = DraftEvent(draft="a text", calls=captured.calls)
    assert decide(restored(event), gate) == decide(event, gate)
    with capture_entropy() as captured:
        await llm().acomplete(UNSURE)
    assert isinstance(restored(DraftEvent(draft="", calls=captured.calls)).calls[0].logprobs, MissingLogprobs)


async def test_why_logprobs_cannot_be_read_is_saved(asked: LLM) -> None:
    with capture_entropy() as captured:
        await asked.acomplete(UNSURE)
    broken = replace(captured.calls[0], logprobs=UnreadableLogprobs("a NaN"))
    after = restored(DraftEvent(draft="", calls=(broken,))).calls[0]
    assert (type(after.logprobs), str(after.logprobs)) == (UnreadableLogprobs, "a NaN")
    assert (after.usage, after.model, after.temperature) == (broken.usage, broken.model, broken.temperature)


def test_what_are_no_captured_calls_is_refused() -> None:
    with pytest.raises(ValueError, match=r"captured\.calls"):
        DraftEvent(draft="", calls=["no call"])


def test_the_answer_of_an_engine_comes_back_with_its_sources() -> None:
    nodes = [NodeWithScore(node=TextNode(text="Paris is in France.", id_="n1"), score=0.5)]
    after = restored(DraftEvent(draft=Response("Paris", source_nodes=nodes, metadata={"a": 1}))).draft
    assert (type(after), after.response, after.metadata) == (Response, "Paris", {"a": 1})
    assert (after.source_nodes[0].node, after.source_nodes[0].score) == (nodes[0].node, 0.5)


def test_an_agents_output_comes_back_without_its_raw_answer_as_llama_index_saves_it() -> None:
    output = AgentOutput(response=ChatMessage("Paris"), current_agent_name="a", raw={"object": "chat.completion"})
    after = restored(DraftEvent(draft=output)).draft
    assert (type(after), after.response.content, after.raw) == (AgentOutput, "Paris", None)


def test_a_providers_own_object_that_has_no_plain_form_is_left_out() -> None:
    response = ChatResponse(message=ChatMessage("Paris"), raw=object())
    after = restored(DraftEvent(draft=response)).draft
    assert (after.message.content, after.raw) == ("Paris", None)


def test_a_kind_of_draft_that_is_not_known_is_refused() -> None:
    saved = json.loads(JsonSerializer().serialize(DraftEvent(draft=ChatResponse(message=ChatMessage("Paris")))))
    saved["value"]["draft"]["__tje_draft"] = "os.system"
    with pytest.raises(ValueError, match=r"'os\.system' is not known here"):
        JsonSerializer().deserialize(json.dumps(saved))


async def test_the_decision_comes_back_as_a_decision(asked: LLM, gate: EntropyGate) -> None:
    decision = decide(DraftEvent(draft=await chat_response(asked)), gate)
    assert restored(DecisionEvent(decision=decision)).decision == decision
    assert restored(DeeperEvent(draft="w0", decision=decision)).decision == decision


def approving(model: LLM, gate: EntropyGate) -> Workflow:
    """A human approves of what is uncertain."""

    class Approve(Workflow):
        @step
        async def ask(self, ev: StartEvent) -> DraftEvent:
            return DraftEvent(draft=await model.achat([ChatMessage(ev.question)]), question=ev.question)

        route = entropy_route(gate=gate, decisions_key="tje")

        @step
        async def deepen(self, ctx: Context, ev: DeeperEvent) -> StopEvent:
            reply = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent(prefix=ev.question))
            answer = ChatResponse(message=ChatMessage(f"{ev.draft.message.content.strip()}, {reply.response}"))
            return StopEvent(result=ev.answered(answer))

    return Approve(timeout=20)


async def test_a_run_that_waits_for_a_human_goes_on_in_another_context(
    asked: LLM, gate: EntropyGate, provider: StandIn
) -> None:
    handler = approving(asked, gate).run(question=UNSURE)
    async for event in handler.stream_events():
        if isinstance(event, InputRequiredEvent):
            break
    saved = json.loads(json.dumps(handler.ctx.to_dict(serializer=JsonSerializer())))
    await handler.cancel_run()

    flow = approving(asked, gate)
    resumed = flow.run(ctx=Context.from_dict(flow, saved, serializer=JsonSerializer()))
    resumed.ctx.send_event(HumanResponseEvent(response="approved"))
    answer = await resumed
    assert answer.message.content == "w0 w1 w2 w3, approved"
    assert answer.message.additional_kwargs["tje"]["answered_by"] == "deeper"
    assert answer.message.additional_kwargs["tje"]["signal_value"] == pytest.approx(2.5)
    assert [each["reason"] for each in await resumed.ctx.store.get("tje")] == ["uncertain"]
    assert len(provider.requests) == 1
