"""What the gate adds to a LlamaIndex call: against a local server that answers at once, logprobs on in both."""

from __future__ import annotations

from collections.abc import Iterator

from llama_index.core import SummaryIndex
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.schema import Document
from llama_index.llms.openai_like import OpenAILike
from llama_index_tje import EntropyGatedLLM, EntropyGatedQueryEngine, ask_logprobs

from tests.benchmarks.gating import accepting_gate, compared_calls, instant_server
from tests.benchmarks.timing import Row


def rows() -> Iterator[Row]:
    gate = accepting_gate()
    with instant_server() as url:
        settings = {"model": "m", "api_base": url, "api_key": "none", "is_chat_model": True, "max_retries": 0}
        plain = OpenAILike(**settings, temperature=0)
        asking = OpenAILike(**settings, temperature=0, logprobs=True, top_logprobs=20)
        gated = EntropyGatedLLM(llm=plain, deeper=plain, gate=gate)
        question = [ChatMessage(role="user", content="hello")]
        assert gated.chat(question).message.additional_kwargs["tje"]["route"] == "final"
        yield compared_calls(
            "a gated LlamaIndex chat",
            lambda: gated.chat(question),
            lambda: asking.chat(question),
            against="the same chat without the gate",
        )
        index = SummaryIndex.from_documents([Document(text="Nothing is known of it.")])
        ungated = index.as_query_engine(llm=asking)
        engine = index.as_query_engine(llm=ask_logprobs(plain, gate=gate))
        both = EntropyGatedQueryEngine(engine=engine, deeper=ungated, gate=gate)
        assert both.query("hello").metadata["tje"]["route"] == "final"
        yield compared_calls(
            "a gated query engine",
            lambda: both.query("hello"),
            lambda: ungated.query("hello"),
            against="the same query without the gate",
        )
