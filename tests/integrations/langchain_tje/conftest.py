import sys
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest
from langchain_openai import ChatOpenAI

from tests.gates import MODEL, make_gate
from tests.standin import StandIn
from tje_middleware import EntropyGate

__all__ = ["MODEL", "make_gate"]


@pytest.fixture(autouse=True)
def _config_in_nodes(request: pytest.FixtureRequest) -> None:
    """On Python 3.10, skip what needs a config in a graph's asynchronous nodes: tasks take no context there."""
    if sys.version_info >= (3, 11) or request.node.get_closest_marker("needs_config_in_nodes") is None:
        return
    forms = {value for value in getattr(request.node, "callspec", _NoForms).params.values() if isinstance(value, str)}
    if not forms & {"invoke", "stream"}:
        pytest.skip("on Python 3.10 the asynchronous nodes of a graph have no config")


class _NoForms:
    params: ClassVar[dict[str, object]] = {}


@pytest.fixture
def provider() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def chat(provider: StandIn) -> Callable[..., ChatOpenAI]:
    """Makes chat models of the stand-in provider."""

    def make(model: str = MODEL, **settings: object) -> ChatOpenAI:
        settings = {"temperature": 0.0, "max_retries": 0, "timeout": 20, **settings}
        return ChatOpenAI(base_url=provider.base_url, model=model, api_key="none", **settings)

    return make


@pytest.fixture
def gate() -> EntropyGate:
    return make_gate()
