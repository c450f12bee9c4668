from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import llama_index.core
import pytest
from llama_index.core.instrumentation import root_dispatcher
from llama_index.llms.openai_like import OpenAILike

from tests.gates import MODEL, make_gate
from tests.standin import StandIn
from tje_middleware import EntropyGate

ASKING = {"logprobs": True, "top_logprobs": 20}
Make = Callable[..., OpenAILike]


@pytest.fixture(autouse=True)
def _encodings_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting tokens needs no network: LlamaIndex ships tiktoken's encodings."""
    cache = Path(llama_index.core.__file__).parent / "_static" / "tiktoken_cache"
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(cache))


@pytest.fixture(autouse=True)
def _nothing_is_left_on_the_dispatchers() -> Iterator[None]:
    before = list(root_dispatcher.event_handlers), list(root_dispatcher.span_handlers)
    yield
    after = list(root_dispatcher.event_handlers), list(root_dispatcher.span_handlers)
    root_dispatcher.event_handlers, root_dispatcher.span_handlers = before
    assert [list(map(id, each)) for each in after] == [list(map(id, each)) for each in before]


@pytest.fixture
def provider() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def gate() -> EntropyGate:
    return make_gate()


def make_llm(provider: StandIn, model: str = MODEL, **settings: object) -> OpenAILike:
    """A chat model of the stand-in provider, by any name."""
    settings = {
        "api_key": "none",
        "temperature": 0.0,
        "max_retries": 0,
        "timeout": 60,
        "is_chat_model": True,
        "is_function_calling_model": True,
        **settings,
    }
    return OpenAILike(model=model, api_base=provider.base_url, **settings)


@pytest.fixture
def like(provider: StandIn) -> Make:
    """Makes LLMs that ask for logprobs."""
    return partial(make_llm, provider, **ASKING)
