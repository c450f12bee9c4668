"""Every form of the gate, called in every way, decides alike and measures alike; or says that it cannot know.

The forms: a gated chain, a gated chat model, an agent with the middleware, a graph with the router. The ways: invoke,
batch, stream and both kinds of event streams, sync and async. The answers: text, a call of tools with logprobs and
without, structured output, and an answer out of a cache.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langchain_tje import EntropyGatedChatModel, EntropyGateMiddleware, EntropyRouter, ask_logprobs, think_just_enough
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from tests.integrations.langchain_tje.conftest import make_gate
from tests.standin import StandIn
from tje_middleware import EntropyGate
from tje_middleware.gate.delivery import Mode

pytestmark = [
    pytest.mark.filterwarnings("ignore:The v3 streaming protocol"),
    pytest.mark.filterwarnings("ignore::tje_middleware.errors.TjeWarning"),  # of drafts that cannot be judged
]
#: Entropies that differ from token to token: what keeps only some tokens measures something else.
SURE = ("bits=0.2,1.1,0.4,0.9,0.3 tokens=5", "final", (0.2 + 1.1 + 0.4 + 0.9 + 0.3) / 5)
UNSURE = ("bits=3.0,0.1,2.9,0.2,3.1 tokens=5", "deeper", (3.0 + 0.1 + 2.9 + 0.2 + 3.1) / 5)
UNKNOWN = "no_logprobs"
V3 = hasattr(BaseChatModel, "stream_events")
Way = Callable[[Runnable, Any], Awaitable[Any]]
Decision = dict[str, Any]


@tool
def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} is a word"


class Reply(BaseModel):
    """A reply."""

    answer: str


# The ways: each gives the answer as the user of that way gets it.


async def invoke(gated: Runnable, question: Any) -> Any:
    return await asyncio.to_thread(gated.invoke, question)


async def ainvoke(gated: Runnable, question: Any) -> Any:
    return await gated.ainvoke(question)


async def batch(gated: Runnable, question: Any) -> Any:
    answers = await asyncio.to_thread(gated.batch, [question] * 3)
    return answers[1]


async def abatch(gated: Runnable, question: Any) -> Any:
    return (await gated.abatch([question] * 3))[1]


async def stream(gated: Runnable, question: Any) -> Any:
    return await asyncio.to_thread(lambda: joined(list(gated.stream(question, **streaming(gated)))))


async def astream(gated: Runnable, question: Any) -> Any:
    return joined([chunk async for chunk in gated.astream(question, **streaming(gated))])


async def astream_events_v2(gated: Runnable, question: Any) -> Any:
    answer = None
    async for event in gated.astream_events(question, version="v2"):
        if not event["parent_ids"] and "output" in event["data"]:
            answer = event["data"]["output"]
    return answer


async def stream_events_v3(gated: Runnable, question: Any) -> Any:
    return await asyncio.to_thread(lambda: gated.stream_events(question, version="v3").output)


async def astream_events_v3(gated: Runnable, question: Any) -> Any:
    run = await gated.astream_events(question, version="v3")
    output = run.output
    return await (output() if callable(output) else output)


def streaming(gated: Runnable) -> dict[str, str]:
    """A graph streams steps unless it is asked for whole states."""
    return {"stream_mode": "values"} if hasattr(gated, "get_state") else {}


def joined(chunks: list[Any]) -> Any:
    if isinstance(chunks[0], dict) and "messages" in chunks[0]:
        return chunks[-1]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    return whole


WAYS: list[Way] = [invoke, ainvoke, batch, abatch, stream, astream, astream_events_v2]
WAYS_V3: list[Way] = [stream_events_v3, astream_events_v3] if V3 else []


# The forms: each takes the models and the gate, and says how a question is put to it.


class Form:
    """A form of the gate around two models; ``ask`` makes its input of a question."""

    ways: ClassVar[list[Way]] = WAYS

    @staticmethod
    def ask(question: str) -> Any:
        return question

    @staticmethod
    def gated(draft: Any, deep: Any, gate: EntropyGate, mode: Mode = "hold") -> Runnable:
        raise NotImplementedError


class Chain(Form):
    @staticmethod
    def gated(draft: Any, deep: Any, gate: EntropyGate, mode: Mode = "hold") -> Runnable:
        return think_just_enough(draft, deeper=deep, gate=gate, mode=mode)


class ChatModel(Form):
    ways: ClassVar[list[Way]] = [*WAYS, *WAYS_V3]

    @staticmethod
    def gated(draft: Any, deep: Any, gate: EntropyGate, mode: Mode = "hold") -> Runnable:
        return EntropyGatedChatModel(draft=draft, deeper=deep, gate=gate, mode=mode)


class Agent(Form):
    ways: ClassVar[list[Way]] = [*WAYS, *WAYS_V3]

    @staticmethod
    def ask(question: str) -> Any:
        return {"messages": [("user", question)]}

    @staticmethod
    def gated(draft: Any, deep: Any, gate: EntropyGate, mode: Mode = "hold", **settings: Any) -> Runnable:
        middleware = [EntropyGateMiddleware(gate=gate, deeper=deep, mode=mode)]
        return create_agent(draft, middleware=middleware, **settings)


class Graph(Agent):
    @staticmethod
    def gated(draft: Any, deep: Any, gate: EntropyGate) -> Runnable:
        router = EntropyRouter(gate=gate, deeper="deep")
        asked = ask_logprobs(draft)
        graph = StateGraph(MessagesState)
        graph.add_node("draft", lambda state: {"messages": [asked.invoke(state["messages"])]})
        graph.add_node("gate", router, destinations=router.destinations)
        graph.add_node("deep", router.replaces_draft(lambda state: {"messages": [deep.invoke(state["messages"])]}))
        graph.add_edge(START, "draft")
        graph.add_edge("draft", "gate")
        return graph.compile()


FORMS: list[type[Form]] = [Chain, ChatModel, Agent, Graph]
CELLS = [pytest.param(form, way, id=f"{form.__name__}-{way.__name__}") for form in FORMS for way in form.ways]
MODEL_CELLS = [cell for cell in CELLS if cell.values[0] in {Chain, ChatModel}]
Chat = Callable[..., ChatOpenAI]


def decisions_in(answer: Any) -> list[Decision]:
    """The decisions that an answer carries, in order."""
    if isinstance(answer, dict) and "raw" in answer:
        answer = answer["raw"]
    messages: list[BaseMessage] = [answer] if isinstance(answer, BaseMessage) else answer["messages"]
    return [
        message.response_metadata["tje"]
        for message in messages
        if isinstance(message, AIMessage) and "tje" in message.response_metadata
    ]


def last_text(answer: Any) -> str:
    return answer.text if isinstance(answer, BaseMessage) else answer["messages"][-1].text


@pytest.mark.parametrize(("form", "way"), CELLS)
@pytest.mark.parametrize(("question", "route", "bits"), [SURE, UNSURE], ids=["sure", "unsure"])
async def test_text_is_measured_and_routed_alike(
    chat: Chat, gate: EntropyGate, form: type[Form], way: Way, question: str, route: str, bits: float
) -> None:
    answer = await way(form.gated(chat(), chat("deep"), gate), form.ask(f"{question} says_model"))
    (decision,) = decisions_in(answer)
    assert decision["route"] == route
    assert decision["signal_value"] == pytest.approx(bits, abs=1e-6)
    assert decision["tokens"] == 5
    assert last_text(answer).startswith("standin-0" if route == "final" else "deep-0")


MODE_CELLS = [cell for cell in CELLS if cell.values[0] is not Graph]


@pytest.mark.parametrize(("form", "way"), MODE_CELLS)
async def test_a_draft_that_passes_through_is_measured_alike(
    chat: Chat, gate: EntropyGate, provider: StandIn, form: type[Form], way: Way
) -> None:
    question, route, bits = UNSURE
    answer = await way(form.gated(chat(), chat("deep"), gate, mode="annotate"), form.ask(f"{question} says_model"))
    (decision,) = decisions_in(answer)
    assert (decision["route"], decision["answered_by"]) == (route, "draft")
    assert decision["signal_value"] == pytest.approx(bits, abs=1e-6)
    assert last_text(answer).startswith("standin-0")
    assert {request["model"] for request in provider.requests} == {"standin"}


@pytest.mark.parametrize(("form", "way"), MODE_CELLS)
async def test_a_draft_is_stopped_at_the_same_token(
    chat: Chat, provider: StandIn, form: type[Form], way: Way
) -> None:
    gate = make_gate(signal="total_entropy")  # at 0.3 bits a token, the fourth is one too many
    gated = form.gated(chat(), chat("deep"), gate, mode="abort")
    answer = await way(gated, form.ask("bits=0.3 tokens=80 pace=0.01 says_model"))
    (decision,) = decisions_in(answer)
    assert (decision["aborted"], decision["answered_by"], decision["tokens"]) == (True, "deeper", 4)
    assert decision["signal_value"] == pytest.approx(1.2, abs=1e-6)
    assert last_text(answer).startswith("deep-0")
    assert provider.wait_for_disconnect()


@pytest.mark.parametrize(("form", "way"), CELLS)
async def test_an_answer_out_of_the_cache_is_measured_like_the_first(
    chat: Chat, gate: EntropyGate, provider: StandIn, form: type[Form], way: Way
) -> None:
    gated = form.gated(chat(cache=InMemoryCache()), chat("deep"), gate)
    question, route, bits = SURE
    for _ in range(2):
        (decision,) = decisions_in(await way(gated, form.ask(question)))
        assert (decision["route"], decision["signal_value"]) == (route, pytest.approx(bits, abs=1e-6))


@pytest.mark.parametrize(("form", "way"), MODEL_CELLS)
@pytest.mark.parametrize(
    ("model", "route", "reason"),
    [("small-toollogprobs", "final", "confident"), ("standin", "deeper", UNKNOWN)],
    ids=["with-logprobs", "without"],
)
async def test_a_call_of_tools_is_measured_or_unknown(
    chat: Chat, form: type[Form], way: Way, model: str, route: str, reason: str
) -> None:
    draft, deep = chat(model), chat("deep")
    if form is ChatModel:
        gated = form.gated(draft, deep, make_gate(model)).bind_tools([look_up])
    else:
        gated = form.gated(draft.bind_tools([look_up]), deep.bind_tools([look_up]), make_gate(model))
    answer = await way(gated, 'bits=0.5 call=look_up args={"word": "gate"}')
    assert [call["args"] for call in answer.tool_calls] == [{"word": "gate"}]
    (decision,) = decisions_in(answer)
    assert (decision["route"], decision["reason"]) == (route, reason)
    assert decision["signal_value"] == (pytest.approx(0.5, abs=1e-6) if reason == "confident" else None)


@pytest.mark.parametrize("way", Agent.ways, ids=lambda way: way.__name__)
@pytest.mark.parametrize(
    ("model", "turns"),
    [
        ("small-toollogprobs", [("deeper", "uncertain", 2.0), ("final", "confident", 0.5)]),
        ("standin", [("deeper", UNKNOWN, None), ("final", "confident", 0.5)]),
    ],
    ids=["with-logprobs", "without"],
)
async def test_an_agents_turns_are_each_measured_or_unknown(
    chat: Chat, way: Way, model: str, turns: list[tuple[str, str, float | None]]
) -> None:
    agent = Agent.gated(chat(model), chat("deep"), make_gate(model), tools=[look_up])
    answer = await way(agent, Agent.ask('bits=0.5 call_bits=2.0 call=look_up args={"word": "gate"}'))
    decided = [(each["route"], each["reason"], each["signal_value"]) for each in decisions_in(answer)]
    assert decided == [
        (route, reason, bits if bits is None else pytest.approx(bits, abs=1e-6)) for route, reason, bits in turns
    ]


@pytest.mark.parametrize(("form", "way"), [cell for cell in MODEL_CELLS if "v3" not in cell.id])
async def test_structured_output_is_measured_alike(chat: Chat, gate: EntropyGate, form: type[Form], way: Way) -> None:
    draft, deep = chat(), chat("deep")
    if form is ChatModel:
        gated = form.gated(draft, deep, gate).with_structured_output(Reply, include_raw=True)
    else:
        draft, deep = (model.with_structured_output(Reply, include_raw=True) for model in (draft, deep))
        gated = form.gated(draft, deep, gate)
    for question, route, _ in (SURE, UNSURE):
        answer = await way(gated, question)
        assert isinstance(answer["parsed"], Reply)
        (decision,) = decisions_in(answer)
        tokens = decision["tokens"]
        entropies = [float(each) for each in question.split()[0].removeprefix("bits=").split(",")]
        expected = sum(entropies[min(i, len(entropies) - 1)] for i in range(tokens)) / tokens
        assert (decision["route"], decision["signal_value"]) == (route, pytest.approx(expected, abs=1e-6))


@pytest.mark.parametrize("way", Agent.ways, ids=lambda way: way.__name__)
async def test_an_agents_structured_output_is_measured_alike(chat: Chat, gate: EntropyGate, way: Way) -> None:
    agent = Agent.gated(chat(), chat("deep"), gate, response_format=ProviderStrategy(Reply))
    for bits, route in ((0.5, "final"), (2.5, "deeper")):
        answer = await way(agent, Agent.ask(f"bits={bits}"))
        assert isinstance(answer["structured_response"], Reply)
        (decision,) = decisions_in(answer)
        assert (decision["route"], decision["signal_value"]) == (route, pytest.approx(bits, abs=1e-6))


@pytest.mark.parametrize("form", FORMS)
async def test_two_hundred_calls_at_once_are_each_decided_by_their_own_tokens(
    chat: Chat, gate: EntropyGate, form: type[Form]
) -> None:
    gated = form.gated(chat(), chat("deep"), gate)
    entropies = [0.005 + 0.01 * number for number in range(200)]
    answers = await asyncio.gather(
        *(gated.ainvoke(form.ask(f"bits={bits:.3f} tokens={3 + i % 5}")) for i, bits in enumerate(entropies))
    )
    for i, (answer, bits) in enumerate(zip(answers, entropies, strict=True)):
        (decision,) = decisions_in(answer)
        assert decision["signal_value"] == pytest.approx(bits, abs=1e-6)
        assert decision["tokens"] == 3 + i % 5
        assert decision["route"] == ("final" if bits < 1.0 else "deeper")


@pytest.mark.parametrize("form", FORMS)
def test_two_hundred_calls_of_threads_are_each_decided_by_their_own_tokens(
    chat: Chat, gate: EntropyGate, form: type[Form]
) -> None:
    gated = form.gated(chat(), chat("deep"), gate)
    entropies = [0.01 * (number + 1) for number in range(200)]
    answers = gated.batch([form.ask(f"bits={bits:.2f}") for bits in entropies], {"max_concurrency": 16})
    measured = [decisions_in(answer)[0]["signal_value"] for answer in answers]
    assert measured == pytest.approx(entropies, abs=1e-6)
