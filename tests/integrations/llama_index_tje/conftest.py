from collections.abc import Callable, Iterator
from pathlib import Path

import llama_index.core
import pytest
from llama_index.core.instrumentation import root_dispatcher
from llama_index.llms.openai import OpenAI
from llama_index.llms.openai_like import OpenAILike

from tests.standin import StandIn

ASKING = {"logprobs": True, "top_logprobs": 20}


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


Make = Callable[..., OpenAILike]


@pytest.fixture
def like(provider: StandIn) -> Make:
    """Makes chat models of the stand-in provider by the way for those that speak like OpenAI."""

    def make(model: str = "standin", **settings: object) -> OpenAILike:
        own = {"is_chat_model": True, "is_function_calling_model": True, "temperature": 0.0, "max_retries": 0}
        settings = {**own, **ASKING, "timeout": 60, **settings}
        return OpenAILike(model=model, api_base=provider.base_url, api_key="none", **settings)

    return make


@pytest.fixture
def llms(provider: StandIn, like: Make) -> dict[str, OpenAI]:
    """One LLM of every kind, each call on a connection of its own, since each test has an event loop of its own."""
    own = {"reuse_client": False}
    openai = OpenAI(
        model="gpt-4o-mini",
        api_base=provider.base_url,
        api_key="none",
        temperature=0.0,
        max_retries=0,
        **ASKING,
        **own,
    )
    return {"openai": openai, "chat": like(**own), "completion": like(is_chat_model=False, **own)}
