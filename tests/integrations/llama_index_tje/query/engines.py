"""Query engines over documents that say, in the stand-in's language, how sure the LLM is of its answer."""

from __future__ import annotations

from llama_index.core import PromptHelper, SummaryIndex
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse
from llama_index.core.llms import LLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import TextNode
from llama_index.llms.openai_like import OpenAILike
from llama_index_tje import ask_logprobs

from tests.integrations.llama_index_tje.conftest import make_llm
from tests.standin import StandIn
from tje_middleware import EntropyGate, GateDecision

CHEAP, DEEP = "standin", "deep"
SURE, UNSURE = "bits=0.5 tokens=4", "bits=3.0 tokens=6"


class Engines:
    """Makes query engines of the stand-in provider."""

    def __init__(self, provider: StandIn) -> None:
        self.provider = provider

    def llm(self, model: str = CHEAP, **settings: object) -> OpenAILike:
        # The connections of a client that is used again are of one event loop.
        return make_llm(self.provider, model, **{"reuse_client": False, "context_window": 4096, **settings})

    def engine(
        self,
        *texts: str,
        model: str = CHEAP,
        llm: LLM | None = None,
        gate: EntropyGate | None = None,
        mode: str = "compact",
        **settings: object,
    ) -> RetrieverQueryEngine:
        """An engine that answers from all of these texts; with a gate, its LLM is asked for logprobs."""
        llm = llm or self.llm(model)
        llm = llm if gate is None else ask_logprobs(llm, gate=gate)
        texts = texts or ("A text.",)
        helper = None
        if mode == "tree_summarize":  # a text fills more than one prompt, and all summaries go into one
            texts = tuple(f"{text} and so on, " * 8 for text in texts)
            helper = PromptHelper(chunk_size_limit=64, chunk_overlap_ratio=0.0)
        nodes = [TextNode(text=text, id_=f"n{number}") for number, text in enumerate(texts)]
        synthesizer = get_response_synthesizer(llm=llm, response_mode=mode, prompt_helper=helper, **settings)
        return RetrieverQueryEngine(SummaryIndex(nodes).as_retriever(), response_synthesizer=synthesizer)

    def deep(self, *texts: str, **settings: object) -> RetrieverQueryEngine:
        """An engine whose every token names the model that wrote it, which is not the gate's."""
        return self.engine(*(texts or ["says_model"]), model=DEEP, **settings)

    @property
    def asked(self) -> list[str]:
        """The models of all requests, in their order."""
        return [request["model"] for request in self.provider.requests]


def decision_in(response: object) -> GateDecision:
    return GateDecision.from_dict(response.metadata["tje"])


async def atext(response: AsyncStreamingResponse) -> str:
    return "".join([token async for token in response.response_gen])


async def aread(engine: BaseQueryEngine, question: str) -> tuple[str, object]:
    """The answer's text, read to its end, and the response, asynchronously."""
    response = await engine.aquery(question)
    if isinstance(response, AsyncStreamingResponse):
        return await atext(response), response
    return str(response), response


def read(engine: BaseQueryEngine, question: str) -> tuple[str, object]:
    """The same without an event loop."""
    response = engine.query(question)
    if isinstance(response, StreamingResponse):
        return "".join(response.response_gen), response
    return str(response), response
