from collections.abc import Callable

import pytest
from llama_index.core.llms import LLM
from llama_index.llms.openai_like import OpenAILike
from llama_index_tje import ask_logprobs

from tests.gates import MODEL, make_gate
from tests.standin import StandIn
from tje_middleware import EntropyGate

Make = Callable[..., LLM]


@pytest.fixture
def llm(provider: StandIn) -> Make:
    """Makes LLMs of the stand-in provider, by any name, that ask for no logprobs."""

    def make(model: str = MODEL, **settings: object) -> OpenAILike:
        settings = {
            "temperature": 0.0,
            "max_retries": 0,
            "timeout": 60,
            "is_chat_model": True,
            "is_function_calling_model": True,
            "reuse_client": False,  # a client belongs to the loop on which it was first used
            **settings,
        }
        return OpenAILike(model=model, api_base=provider.base_url, api_key="none", **settings)

    return make


@pytest.fixture
def gate() -> EntropyGate:
    return make_gate()


@pytest.fixture
def asked(llm: Make, gate: EntropyGate) -> LLM:
    """The gate's own LLM, asked for logprobs."""
    return ask_logprobs(llm(), gate=gate)


@pytest.fixture
def deep(llm: Make) -> LLM:
    """Names itself in its answers to questions that say so."""
    return llm("deep")
