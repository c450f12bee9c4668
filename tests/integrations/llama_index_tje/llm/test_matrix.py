"""Wherever LlamaIndex calls a gated LLM, it decides alike and measures alike; or says that it cannot know.

The places: query engines, chat engines, agents and workflows of agents, structured prediction; whole and streamed,
sync and async. The LLM itself is called in its eight ways in ``test_calling``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from llama_index.core import SummaryIndex
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.prompts import PromptTemplate
from llama_index.core.schema import Document
from llama_index_tje import EntropyEventHandler, EntropyGatedLLM, capture_entropy
from pydantic import BaseModel

from tests.gates import make_gate
from tests.integrations.llama_index_tje.conftest import Make
from tests.integrations.llama_index_tje.ways import decision_of, messages
from tests.standin import StandIn
from tje_middleware import EntropyGate, GateDecision

pytestmark = pytest.mark.filterwarnings("ignore::tje_middleware.errors.TjeWarning")  # of drafts that cannot be judged
#: Entropies that differ from token to token: what keeps only some tokens measures something else.
SURE = ("bits=0.2,1.1,0.4,0.9,0.3 tokens=5 says_model", "final", (0.2 + 1.1 + 0.4 + 0.9 + 0.3) / 5)
UNSURE = ("bits=3.0,0.1,2.9,0.2,3.1 tokens=5 says_model", "deeper", (3.0 + 0.1 + 2.9 + 0.2 + 3.1) / 5)
questions = pytest.mark.parametrize(("question", "route", "bits"), [SURE, UNSURE], ids=["sure", "unsure"])
Place = Callable[[EntropyGatedLLM, str], Awaitable[str]]


def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} is a word"


class Reply(BaseModel):
    """A reply."""

    answer: str


# The places: each gives the text that its user ends up with.


def engine(**settings: Any) -> Callable[[EntropyGatedLLM], Any]:
    def make(llm: EntropyGatedLLM) -> Any:
        index = SummaryIndex.from_documents([Document(text="Nothing is known of it.")])
        return index.as_query_engine(llm=llm, **settings)

    return make


async def query(make: Any, llm: EntropyGatedLLM, question: str) -> str:
    return str(await asyncio.to_thread(make(llm).query, question))


async def aquery(make: Any, llm: EntropyGatedLLM, question: str) -> str:
    return str(await make(llm).aquery(question))


async def streamed_query(make: Any, llm: EntropyGatedLLM, question: str) -> str:
    return await asyncio.to_thread(lambda: "".join(make(llm).query(question).response_gen))


async def streamed_aquery(make: Any, llm: EntropyGatedLLM, question: str) -> str:
    response = await make(llm).aquery(question)
    return "".join([text async for text in response.async_response_gen()])


async def chat(llm: EntropyGatedLLM, question: str) -> str:
    return str(await asyncio.to_thread(SimpleChatEngine.from_defaults(llm=llm).chat, question))


async def achat(llm: EntropyGatedLLM, question: str) -> str:
    return str(await SimpleChatEngine.from_defaults(llm=llm).achat(question))


async def streamed_chat(llm: EntropyGatedLLM, question: str) -> str:
    chat_engine = SimpleChatEngine.from_defaults(llm=llm)
    return await asyncio.to_thread(lambda: "".join(chat_engine.stream_chat(question).response_gen))


async def streamed_achat(llm: EntropyGatedLLM, question: str) -> str:
    response = await SimpleChatEngine.from_defaults(llm=llm).astream_chat(question)
    return "".join([text async for text in response.async_response_gen()])


async def context_chat(llm: EntropyGatedLLM, question: str) -> str:
    index = SummaryIndex.from_documents([Document(text="Nothing is known of it.")])
    return str(await index.as_chat_engine(chat_mode="context", llm=llm).achat(question))


def agent(kind: type, *, streaming: bool, within: bool = False) -> Place:
    async def run(llm: EntropyGatedLLM, question: str) -> str:
        one = kind(name="one", description="the one", llm=llm, tools=[look_up], streaming=streaming)
        runner = AgentWorkflow(agents=[one], root_agent="one") if within else one
        return str(await runner.run(question))

    return run


def at(way: Any, **settings: Any) -> Place:
    async def run(llm: EntropyGatedLLM, question: str) -> str:
        return await way(engine(**settings), llm, question)

    return run


MODES = ("compact", "refine", "tree_summarize", "simple_summarize")
PLACES: dict[str, Place] = {
    **{f"query-{mode}": at(query, response_mode=mode) for mode in MODES},
    **{f"aquery-{mode}": at(aquery, response_mode=mode) for mode in MODES},
    **{f"streamed-query-{mode}": at(streamed_query, response_mode=mode, streaming=True) for mode in MODES},
    **{f"streamed-aquery-{mode}": at(streamed_aquery, response_mode=mode, streaming=True) for mode in MODES},
    "chat-engine": chat,
    "async-chat-engine": achat,
    "streamed-chat-engine": streamed_chat,
    "streamed-async-chat-engine": streamed_achat,
    "context-chat-engine": context_chat,
    **{
        f"{name}{'-streaming' if streaming else ''}": agent(kind, streaming=streaming)
        for name, kind in (("function-agent", FunctionAgent), ("react-agent", ReActAgent))
        for streaming in (False, True)
    },
    "agent-workflow": agent(FunctionAgent, streaming=False, within=True),
    "agent-workflow-streaming": agent(FunctionAgent, streaming=True, within=True),
}
every_place = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())


@questions
@every_place
async def test_one_answer_is_decided_by_its_own_tokens(
    like: Make, gate: EntropyGate, place: Place, question: str, route: str, bits: float
) -> None:
    llm = EntropyGatedLLM(llm=like(), deeper=like("deep"), gate=gate)
    with capture_entropy() as seen:
        text = await place(llm, question)
    (decision,) = seen.decisions
    assert (decision.route, decision.signal_value) == (route, pytest.approx(bits, abs=1e-6))
    assert text.startswith("standin-0" if route == "final" else "deep-0")


@every_place
async def test_without_logprobs_it_goes_deeper(like: Make, place: Place) -> None:
    llm = EntropyGatedLLM(llm=like("ignores-logprobs"), deeper=like("deep"), gate=make_gate("ignores-logprobs"))
    with capture_entropy() as seen:
        text = await place(llm, SURE[0])
    assert [each.reason for each in seen.decisions] == ["no_logprobs"]
    assert text.startswith("deep-0")


@pytest.mark.parametrize("name", [name for name in PLACES if name.startswith(("function-agent", "agent-workflow"))])
@pytest.mark.parametrize(
    ("model", "tool_calls", "turns"),
    [
        ("small-toollogprobs", "gate", [("deeper", "uncertain", 2.0), ("final", "confident", 0.5)]),
        ("standin", "gate", [("deeper", "no_logprobs", None), ("final", "confident", 0.5)]),
        ("standin", "pass", [("final", "tool_call", None), ("final", "confident", 0.5)]),
        ("small-toollogprobs", "deeper_on_unknown", [("deeper", "uncertain", 2.0), ("final", "confident", 0.5)]),
    ],
    ids=["measured", "unknown", "passed", "measured-or-deeper"],
)
async def test_an_agents_turns_are_each_measured_or_unknown(
    like: Make, name: str, model: str, tool_calls: str, turns: list[tuple[str, str, float | None]]
) -> None:
    gate = make_gate(model)
    llm = EntropyGatedLLM(llm=like(model), deeper=like("deep"), gate=gate, tool_calls=tool_calls)
    with capture_entropy() as seen:
        text = await PLACES[name](llm, 'bits=0.5 call_bits=2.0 call=look_up args={"word": "gate"}')
    assert [(each.route, each.reason, each.signal_value) for each in seen.decisions] == [
        (route, reason, bits if bits is None else pytest.approx(bits, abs=1e-6)) for route, reason, bits in turns
    ]
    assert text.startswith("w0")


async def test_on_missing_final_does_not_make_an_unknown_call_confident(like: Make) -> None:
    gate = make_gate(on_missing="final")
    llm = EntropyGatedLLM(llm=like(), deeper=like("deep"), gate=gate, tool_calls="deeper_on_unknown")
    with capture_entropy() as seen:
        await PLACES["function-agent"](llm, 'bits=0.5 call=look_up args={"word": "gate"}')
    assert [str(each.route) for each in seen.decisions] == ["deeper", "final"]


@pytest.mark.parametrize("streaming", [False, True])
async def test_an_agents_answer_has_the_decision_in_its_message(
    like: Make, gate: EntropyGate, streaming: bool
) -> None:
    llm = EntropyGatedLLM(llm=like(), deeper=like("deep"), gate=gate)
    output = await FunctionAgent(llm=llm, tools=[look_up], streaming=streaming).run(UNSURE[0])
    decision = GateDecision.from_dict(output.response.additional_kwargs["tje"])
    assert (decision.answered_by, decision.draft_usage.output_tokens, decision.deeper_usage.output_tokens) == (
        "deeper", 5, 5
    )  # fmt: skip


async def test_tools_go_to_each_llm_in_its_own_form(like: Make, gate: EntropyGate, provider: StandIn) -> None:
    llm = EntropyGatedLLM(llm=like(strict=True), deeper=like("deep"), gate=gate)
    await FunctionAgent(llm=llm, tools=[look_up]).run("bits=2.5")
    strict = [request["tools"][0]["function"]["strict"] for request in provider.requests]
    assert strict == [True, False]


def test_a_history_is_given_to_both_llms_once(like: Make, gate: EntropyGate, provider: StandIn) -> None:
    llm = EntropyGatedLLM(llm=like(), deeper=like("deep"), gate=gate)
    history = messages("bits=0.5")
    llm.chat_with_tools([], user_msg="bits=2.5", chat_history=history)
    assert [len(request["messages"]) for request in provider.requests] == [2, 2]
    assert len(history) == 1


# Structured prediction


PROMPT = PromptTemplate("{question}")


async def structured(llm: EntropyGatedLLM, question: str) -> Any:
    return await asyncio.to_thread(llm.structured_predict, Reply, PROMPT, question=question)


async def astructured(llm: EntropyGatedLLM, question: str) -> Any:
    return await llm.astructured_predict(Reply, PROMPT, question=question)


async def stream_structured(llm: EntropyGatedLLM, question: str) -> Any:
    def last() -> Any:
        return list(llm.stream_structured_predict(Reply, PROMPT, question=question))[-1]

    return await asyncio.to_thread(last)


async def astream_structured(llm: EntropyGatedLLM, question: str) -> Any:
    stream = await llm.astream_structured_predict(Reply, PROMPT, question=question)
    return [each async for each in stream][-1]


async def as_structured_llm(llm: EntropyGatedLLM, question: str) -> Any:
    return (await llm.as_structured_llm(Reply).achat(messages(question))).raw


STRUCTURED = [structured, astructured, stream_structured, astream_structured, as_structured_llm]
every_structured = pytest.mark.parametrize("predict", STRUCTURED, ids=lambda predict: predict.__name__)


@questions
@every_structured
async def test_a_native_schema_stays_and_is_measured(
    like: Make, gate: EntropyGate, provider: StandIn, predict: Place, question: str, route: str, bits: float
) -> None:
    native = {"should_use_structured_outputs": True}
    llm = EntropyGatedLLM(llm=like(**native), deeper=like("deep", **native), gate=gate)
    with capture_entropy() as seen:
        reply = await predict(llm, question)
    (decision,) = seen.decisions
    entropies = [float(each) for each in question.split(maxsplit=1)[0].removeprefix("bits=").split(",")]
    expected = sum(entropies[min(i, len(entropies) - 1)] for i in range(decision.tokens)) / decision.tokens
    assert reply.answer.startswith("standin" if decision.accepted else "deep")
    assert (decision.accepted, decision.signal_value) == (expected <= 1, pytest.approx(expected, abs=1e-6))
    assert all(request["response_format"]["type"] == "json_schema" for request in provider.requests)
    assert provider.asked_for_logprobs()[0] == 20


@every_structured
@pytest.mark.parametrize(
    ("model", "route", "reason"),
    [("small-toollogprobs", "final", "confident"), ("standin", "deeper", "no_logprobs")],
    ids=["with-logprobs", "without"],
)
async def test_an_object_by_a_call_of_tools_is_measured_or_unknown(
    like: Make, predict: Place, model: str, route: str, reason: str
) -> None:
    llm = EntropyGatedLLM(llm=like(model), deeper=like("deep"), gate=make_gate(model))
    with capture_entropy() as seen:
        reply = await predict(llm, "bits=0.5 says_model")
    (decision,) = seen.decisions
    assert (decision.route, decision.reason) == (route, reason)
    if route == "final":
        assert reply.answer == model
    else:
        assert reply.model_dump() == (await predict(like("deep"), "bits=0.5 says_model")).model_dump()


async def test_a_draft_that_is_no_object_goes_deeper_where_it_is_unsure(like: Make, gate: EntropyGate) -> None:
    # Without tools and schema the object is read out of the text, and this text has none.
    plain = {"is_function_calling_model": False}
    native = {"should_use_structured_outputs": True}
    llm = EntropyGatedLLM(llm=like(**plain), deeper=like("deep", **native), gate=gate)
    reply = await astructured(llm, "bits=2.5 says_model")
    assert reply.answer.startswith("deep")
    with pytest.raises(ValueError, match="json"):
        await astructured(llm, "bits=0.5 says_model")


# Many at once


async def test_two_hundred_calls_at_once_are_each_decided_by_their_own_tokens(like: Make, gate: EntropyGate) -> None:
    llm = EntropyGatedLLM(llm=like(), deeper=like("deep"), gate=gate)
    entropies = [0.005 + 0.01 * number for number in range(200)]

    async def ask(number: int, bits: float) -> dict:
        question = messages(f"bits={bits:.3f} tokens={3 + number % 5}")
        if number % 2:
            return decision_of(await llm.achat(question))
        return decision_of([chunk async for chunk in await llm.astream_chat(question)][-1])

    decisions = await asyncio.gather(*(ask(number, bits) for number, bits in enumerate(entropies)))
    for number, (decision, bits) in enumerate(zip(decisions, entropies, strict=True)):
        assert decision["signal_value"] == pytest.approx(bits, abs=1e-6)
        assert decision["tokens"] == 3 + number % 5
        assert decision["route"] == ("final" if bits < 1.0 else "deeper")


def test_two_hundred_calls_of_threads_are_each_decided_by_their_own_tokens(like: Make, gate: EntropyGate) -> None:
    llm = EntropyGatedLLM(llm=like(), deeper=like("deep"), gate=gate)
    entropies = [0.01 * (number + 1) for number in range(200)]
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda bits: llm.complete(f"bits={bits:.2f}"), entropies))
    assert [decision_of(answer)["signal_value"] for answer in answers] == pytest.approx(entropies, abs=1e-6)


# Where the decision of a stream is kept


def test_of_a_stream_the_block_is_told_in_which_the_draft_was_judged(like: Make, gate: EntropyGate) -> None:
    llm = EntropyGatedLLM(llm=like(), deeper=like("deep"), gate=gate)
    with capture_entropy() as begun:
        stream = llm.stream_chat(messages("bits=2.5"))
        next(stream)
    with capture_entropy() as left:
        stream.close()
    assert ([each.reason for each in begun.decisions], left.decisions) == (["uncertain"], ())


async def test_a_stream_that_is_left_on_the_event_loop_has_told_its_block(like: Make, gate: EntropyGate) -> None:
    llm = EntropyGatedLLM(llm=like(), deeper=like("deep"), gate=gate)
    with capture_entropy() as seen:
        async for _ in await llm.astream_chat(messages("bits=2.5 tokens=30")):
            break
    del _
    for _ in range(100):
        if seen.decisions:
            break
        await asyncio.sleep(0.01)
    (decision,) = seen.decisions
    assert (decision.answered_by, decision.draft_usage.output_tokens) == (None, 30)


def test_a_handler_that_is_attached_hears_of_a_decision_once(like: Make, gate: EntropyGate) -> None:
    llm = EntropyGatedLLM(llm=like(), deeper=like("deep"), gate=gate)
    with EntropyEventHandler() as handler, capture_entropy() as outer, capture_entropy() as inner:
        llm.complete("bits=0.5")
    assert [len(each.decisions) for each in (handler, outer, inner)] == [1, 1, 1]
