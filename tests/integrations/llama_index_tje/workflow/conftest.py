from functools import partial

import pytest
from llama_index.core.llms import LLM
from llama_index_tje import ask_logprobs

from tests.integrations.llama_index_tje.conftest import Make, make_llm
from tests.standin import StandIn
from tje_middleware import EntropyGate


@pytest.fixture
def llm(provider: StandIn) -> Make:
    """Makes LLMs that ask for no logprobs by themselves, each call on a connection of its own event loop."""
    return partial(make_llm, provider, reuse_client=False)


@pytest.fixture
def asked(llm: Make, gate: EntropyGate) -> LLM:
    """The gate's own LLM, asked for logprobs."""
    return ask_logprobs(llm(), gate=gate)


@pytest.fixture
def deep(llm: Make) -> LLM:
    """Names itself in its answers to questions that say so."""
    return llm("deep")
