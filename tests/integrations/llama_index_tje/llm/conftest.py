from collections.abc import Callable, Iterator

import pytest
from llama_index.core.llms import LLM
from llama_index.llms.openai_like import OpenAILike

from tests.gates import MODEL, make_gate
from tests.standin import StandIn
from tje_middleware import EntropyGate

Make = Callable[..., LLM]
KEY = "a-key-that-nobody-may-see"


@pytest.fixture
def provider() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def like(provider: StandIn) -> Make:
    """Makes LLMs of the stand-in provider, by any name.

    Each has one client, for one loop: with the oldest releases, gated or not, a client for each asynchronous call may
    keep the next from connecting.
    """

    def make(model: str = MODEL, **settings: object) -> OpenAILike:
        settings = {
            "temperature": 0.0,
            "max_retries": 0,
            "timeout": 20,
            "is_chat_model": True,
            "is_function_calling_model": True,
            **settings,
        }
        return OpenAILike(model=model, api_base=provider.base_url, api_key=KEY, **settings)

    return make


@pytest.fixture
def gate() -> EntropyGate:
    return make_gate()
