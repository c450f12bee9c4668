"""Whose logprobs speak for a draft: only those of the call that is known to have written it."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import FakeMessagesListChatModel
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langchain_tje import (
    EntropyGatedChatModel,
    EntropyGateRunnable,
    ask_logprobs,
    sequential_refinement,
    think_just_enough,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt

from tests.integrations.langchain_tje.conftest import make_gate
from tests.standin import StandIn
from tje_middleware import EntropyGate, TjeWarning

PROMPT = ChatPromptTemplate.from_messages([("human", "{question}")])
CERTAIN, UNSURE = {"question": "bits=0.5"}, {"question": "bits=2.5"}
Chat = Callable[..., ChatOpenAI]


@contextmanager
def unjudged(match: str = "model calls were made") -> Iterator[None]:
    with pytest.warns(TjeWarning, match=match):
        yield


def test_a_guard_that_asks_after_the_answer_does_not_speak_for_it(chat: Chat, gate: EntropyGate) -> None:
    model = ask_logprobs(chat())

    def answer(_: dict) -> str:
        text = model.invoke("bits=4.0").text
        model.invoke("is this safe? bits=0.2")
        return text

    with unjudged():
        assert think_just_enough(answer, deeper=lambda _: "deeper", gate=gate).invoke({}) == "deeper"


def test_branches_that_run_one_after_the_other_are_not_judged(chat: Chat, gate: EntropyGate) -> None:
    both = RunnableParallel(one=chat().bind(), two=RunnableLambda(lambda _: "bits=0.2") | chat())
    gated = think_just_enough(both, deeper=lambda _: "deeper", gate=gate)
    with unjudged():
        assert gated.invoke("bits=4.0", {"max_concurrency": 1}) == "deeper"


def test_a_canned_answer_after_a_failed_call_is_not_judged(chat: Chat, gate: EntropyGate) -> None:
    rewriter = chat(logprobs=True, top_logprobs=20)
    chain = rewriter | (lambda _: "bits=0.2") | chat("broken") | StrOutputParser()
    draft = chain.with_fallbacks([RunnableLambda(lambda _: "sorry")])
    with unjudged("no model call was seen"):
        assert think_just_enough(draft, deeper=lambda _: "deeper", gate=gate).invoke("bits=0.2") == "deeper"


def test_a_message_is_judged_by_the_call_that_wrote_it(chat: Chat, gate: EntropyGate) -> None:
    other, own = ask_logprobs(chat("another")), ask_logprobs(chat())

    def answer(_: dict) -> AIMessage:
        draft = other.invoke("bits=0.3")
        own.invoke("bits=0.2")
        return draft

    with unjudged("written by 'another'"):
        assert think_just_enough(answer, deeper=lambda _: "deeper", gate=gate).invoke({}) == "deeper"


def test_an_answer_out_of_the_cache_is_judged_like_the_first(chat: Chat, gate: EntropyGate) -> None:
    model = chat(cache=InMemoryCache())
    gated = think_just_enough(PROMPT | model, deeper=lambda _: "deeper", gate=gate)
    first, second = (gated.invoke(CERTAIN).response_metadata["tje"] for _ in range(2))
    assert first["route"] == "final"
    assert first["draft_usage"]["output_tokens"] == 4
    assert second["draft_usage"]["output_tokens"] == 0  # what came out of the cache cost nothing
    assert first["decision_id"] != second["decision_id"]
    unlike = {"draft_usage": None, "decision_id": None}
    assert {**first, **unlike} == {**second, **unlike}


@tool
def wire(amount: int) -> str:
    """Wire money."""
    return f"wired {amount}"


def test_a_tool_call_is_not_judged_by_the_words_before_it(gate: EntropyGate) -> None:
    token = {
        "token": "Sure. ",
        "logprob": 0.0,
        "top_logprobs": [{"token": "Sure. ", "logprob": -30.0 * i} for i in range(20)],
    }
    message = AIMessage(
        "Sure. ",
        response_metadata={"logprobs": {"content": [token]}},
        tool_calls=[{"name": "wire", "args": {"amount": 1_000_000}, "id": "1"}],
    )
    with unjudged("tool call"):
        assert gate.decide(message).reason == "no_logprobs"


# Gates within gates


def test_a_draft_that_an_inner_gate_accepted_is_judged_by_the_outer_one(chat: Chat, gate: EntropyGate) -> None:
    inner = think_just_enough(PROMPT | chat(), deeper=lambda _: AIMessage("inner"), gate=gate)
    outer = think_just_enough(inner, deeper=lambda _: AIMessage("outer"), gate=gate)
    assert outer.invoke(CERTAIN).text == "w0 w1 w2 w3 "


def test_what_an_inner_gate_rejected_does_not_speak_for_its_replacement(chat: Chat, gate: EntropyGate) -> None:
    chain = PROMPT | chat() | StrOutputParser()
    inner = think_just_enough(chain, deeper=lambda _: "an unmeasured answer", gate=gate)
    outer = think_just_enough(inner, deeper=lambda _: "outer", gate=make_gate(method="info"))  # accepts 1.2 bits
    with unjudged("no model call was seen"):
        assert outer.invoke({"question": "bits=1.2"}) == "outer"


# Refusals


def test_an_error_that_only_mentions_logprobs_is_no_refusal(chat: Chat, provider: StandIn, gate: EntropyGate) -> None:
    def parse(_: AIMessage) -> str:
        raise ValueError("cannot parse: 'a logprob is a number'")

    gated = think_just_enough(PROMPT | chat() | parse, deeper=lambda _: "deeper", gate=gate)
    for _ in range(2):
        with pytest.raises(ValueError, match="cannot parse"):
            gated.invoke(CERTAIN)
    assert provider.asked_for_logprobs() == [20, 20]


# The deeper branch


def test_an_interrupt_in_the_deeper_branch_interrupts_the_graph(chat: Chat, gate: EntropyGate) -> None:
    gated = think_just_enough(PROMPT | chat(), deeper=lambda _: AIMessage(interrupt("please decide")), gate=gate)
    graph = StateGraph(dict)
    graph.add_node("ask", lambda state: {"answer": gated.invoke(state).text})
    graph.add_edge(START, "ask")
    app, config = graph.compile(InMemorySaver()), {"configurable": {"thread_id": "1"}}
    assert app.invoke(UNSURE, config)["__interrupt__"][0].value == "please decide"
    assert app.invoke(Command(resume="a person's answer"), config)["answer"] == "a person's answer"


@pytest.mark.parametrize("form", ["in a sequence", "with fallbacks", "with retries"])
def test_refinement_works_within_a_composition(form: str, chat: Chat, provider: StandIn, gate: EntropyGate) -> None:
    chain = PROMPT | chat()
    refinement = sequential_refinement(chain, steps=1)
    deeper: Runnable = {
        "in a sequence": refinement | (lambda message: message),
        "with fallbacks": refinement.with_fallbacks([RunnableLambda(lambda _: AIMessage("fallback"))]),
        "with retries": refinement.with_retry(),
    }[form]
    answer = think_just_enough(chain, deeper=deeper, gate=gate).invoke(UNSURE)
    assert answer.response_metadata["tje"]["reason"] == "uncertain"
    assert [each["role"] for each in provider.requests[-1]["messages"]] == ["user", "assistant", "user"]


def test_refinement_without_a_draft_says_what_it_needs(chat: Chat) -> None:
    with pytest.raises(ValueError, match="refines a draft"):
        sequential_refinement(PROMPT | chat()).invoke(UNSURE)


def test_an_asynchronous_branch_is_refused_where_there_is_no_loop(chat: Chat, gate: EntropyGate) -> None:
    async def deeper(_: dict) -> AIMessage:
        return AIMessage("deeper")

    gated = think_just_enough(PROMPT | chat(), deeper=deeper, gate=gate)
    with pytest.raises(TypeError, match="use ainvoke"):
        gated.invoke(UNSURE)
    assert asyncio.run(gated.ainvoke(UNSURE)).text == "deeper"


def test_a_copy_with_another_draft_asks_the_other_draft(chat: Chat, provider: StandIn, gate: EntropyGate) -> None:
    gated = think_just_enough(PROMPT | chat(), deeper=lambda _: AIMessage("deeper"), gate=gate)
    gated.invoke(CERTAIN)
    copy = gated.model_copy(update={"draft": PROMPT | chat("openai/standin")})
    copy.invoke(CERTAIN)
    assert [request["model"] for request in provider.requests] == ["standin", "openai/standin"]


async def test_a_cancelled_call_leaves_nothing_behind(chat: Chat, gate: EntropyGate) -> None:
    entered, released = threading.Event(), asyncio.Event()

    async def deeper(_: dict) -> AIMessage:
        entered.set()
        await released.wait()
        return AIMessage("deeper")

    gated = think_just_enough(PROMPT | chat(), deeper=deeper, gate=gate)
    task = asyncio.create_task(gated.ainvoke(UNSURE))
    await asyncio.to_thread(entered.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    released.set()
    assert (await gated.ainvoke(UNSURE)).text == "deeper"


class Strict(FakeMessagesListChatModel):
    """A model whose client takes no logprobs, as Anthropic's."""

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        if "logprobs" in kwargs:
            raise TypeError("Messages.create() got an unexpected keyword argument 'logprobs'")
        return super()._generate(messages, stop, run_manager, **kwargs)


def test_a_client_that_knows_no_logprobs_is_asked_without(gate: EntropyGate) -> None:
    model = Strict(responses=[AIMessage("the answer")])
    gated = think_just_enough(PROMPT | model, deeper=lambda _: "deeper", gate=gate)
    with unjudged("unexpected keyword argument 'logprobs'"):
        assert [gated.invoke(CERTAIN) for _ in range(2)] == ["deeper", "deeper"]


def test_what_the_deeper_model_of_a_gated_one_wrote_is_not_judged_as_its_drafts(
    chat: Chat, gate: EntropyGate
) -> None:
    # The inner gate rejects at 2.5 bits; its deeper model answers at 2.5 bits of its own, which an outer gate with a
    # higher threshold would accept if it took them for the draft model's.
    inner = EntropyGatedChatModel(draft=chat(), deeper=chat("deep", logprobs=True, top_logprobs=20), gate=gate)
    outer = EntropyGateRunnable(
        draft=PROMPT | inner, deeper=RunnableLambda(lambda _: AIMessage("outer")), gate=gate, threshold=3.0
    )
    with unjudged("written by 'deep'"):
        decision = outer.invoke({"question": "bits=2.5"}).response_metadata["tje"]
    assert (decision["route"], decision["reason"]) == ("deeper", "other_settings")
