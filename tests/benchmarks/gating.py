"""What the gate adds to a LangChain call, and logprobs to an ungated one, against a server that answers at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI
from langchain_tje import EntropyGatedChatModel, EntropyGateMiddleware, think_just_enough

from tests.benchmarks.drafts import accepted, accepting_gate
from tests.benchmarks.server import server_in_a_process, server_in_a_thread
from tests.benchmarks.timing import Row, Timing


def rows(timing: Timing) -> Iterator[Row]:
    gate = accepting_gate()
    with server_in_a_thread() as url:
        chat = chat_model(url)
        ungated = chat.bind(logprobs=True, top_logprobs=20)
        for what, gated in (
            ("a gated LangChain call", think_just_enough(chat, deeper=ungated, gate=gate)),
            ("a gated chat model", EntropyGatedChatModel(draft=chat, deeper=chat, gate=gate)),
        ):
            yield compared_calls(
                timing,
                what,
                accepted(lambda gated=gated: gated.invoke("hello"), decision_of),
                lambda: ungated.invoke("hello"),
                against="the same call without the gate",
            )
        agent = create_agent(chat, middleware=[EntropyGateMiddleware(gate=gate, deeper=chat)])
        ungated_agent = create_agent(ungated)
        question = {"messages": [("user", "hello")]}
        yield compared_calls(
            timing,
            "an agent's gated turn",
            accepted(lambda: agent.invoke(question), lambda state: decision_of(state["messages"][-1])),
            lambda: ungated_agent.invoke(question),
            against="the same agent without the gate, logprobs on",
        )
    yield from rows_of_a_server_in_a_process(timing)


def rows_of_a_server_in_a_process(timing: Timing) -> Iterator[Row]:
    with server_in_a_process() as url:
        chat = chat_model(url)
        ungated = chat.bind(logprobs=True, top_logprobs=20)
        gated = think_just_enough(chat, deeper=ungated, gate=accepting_gate())
        call = accepted(lambda: gated.invoke("hello"), decision_of)
        yield compared_calls(
            timing,
            "a gated LangChain call, server in another process",
            call,
            lambda: ungated.invoke("hello"),
            against="the same call without the gate, logprobs on",
            at_most=1.05,
        )
        off = "the same call without logprobs and gate"
        yield compared_calls(
            timing,
            "an ungated LangChain call with logprobs, server in another process",
            lambda: ungated.invoke("hello"),
            lambda: chat.invoke("hello"),
            against="the same call without logprobs",
            at_most=None,
        )
        yield compared_calls(
            timing,
            "CPU of a gated LangChain call",
            call,
            lambda: chat.invoke("hello"),
            against=off,
            at_most=8,
            clock=time.process_time,
        )


def chat_model(url: str) -> ChatOpenAI:
    """A chat model as any user has it."""
    return ChatOpenAI(base_url=url, model="m", api_key="none", temperature=0, max_retries=0)


def decision_of(answer: AIMessage) -> Mapping[str, Any]:
    decision: Mapping[str, Any] = answer.response_metadata["tje"]
    return decision


def compared_calls(
    timing: Timing,
    what: str,
    ours: Callable[[], object],
    reference: Callable[[], object],
    *,
    against: str,
    at_most: float | None = 1.1,
    clock: Callable[[], float] = time.perf_counter,
) -> Row:
    """Calls of a server side by side; one with the gate takes at most a tenth more, where nothing else is said."""
    return timing.compared(
        what, ours, against=against, reference=reference, at_most=at_most, rounds=40, repeat=2, clock=clock
    )
