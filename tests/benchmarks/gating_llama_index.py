"""What the gate adds to a LlamaIndex call: against a local server that answers at once, logprobs on in both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llama_index.core import SummaryIndex
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.schema import Document
from llama_index.llms.openai_like import OpenAILike
from llama_index_tje import EntropyGatedLLM, EntropyGatedQueryEngine, ask_logprobs

from tests.benchmarks.drafts import accepted, accepting_gate
from tests.benchmarks.gating import compared_calls
from tests.benchmarks.server import server_in_a_thread
from tests.benchmarks.timing import Row, Timing

QUESTION = [ChatMessage(role="user", content="hello")]


def rows(timing: Timing) -> Iterator[Row]:
    gate = accepting_gate()
    with server_in_a_thread() as url:
        plain, asking = llm(url), llm(url, logprobs=True, top_logprobs=20)
        gated = EntropyGatedLLM(llm=plain, deeper=plain, gate=gate)
        yield compared_calls(
            timing,
            "a gated LlamaIndex chat",
            accepted(lambda: gated.chat(QUESTION), decision_of),
            lambda: asking.chat(QUESTION),
            against="the same chat without the gate",
        )
        index = SummaryIndex.from_documents([Document(text="Nothing is known of it.")])
        ungated = index.as_query_engine(llm=asking)
        engine = index.as_query_engine(llm=ask_logprobs(plain, gate=gate))
        both = EntropyGatedQueryEngine(engine=engine, deeper=ungated, gate=gate)
        yield compared_calls(
            timing,
            "a gated query engine",
            accepted(lambda: both.query("hello"), lambda response: response.metadata["tje"]),
            lambda: ungated.query("hello"),
            against="the same query without the gate",
        )


def llm(url: str, **settings: object) -> OpenAILike:
    """An LLM as any user has it."""
    return OpenAILike(
        model="m", api_base=url, api_key="none", is_chat_model=True, max_retries=0, temperature=0, **settings
    )


def decision_of(answer: ChatResponse) -> Mapping[str, Any]:
    decision: Mapping[str, Any] = answer.message.additional_kwargs["tje"]
    return decision
