from collections.abc import Callable

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tje import EntropyGatedChatModel

from tests.standin import StandIn
from tje_middleware import EntropyGate

Chat = Callable[..., ChatOpenAI]
Gated = Callable[..., EntropyGatedChatModel]

CERTAIN, UNSURE = "bits=0.7 tokens=9 says_model", "bits=2.5 tokens=9 says_model"


@pytest.fixture
def gated(chat: Chat, gate: EntropyGate) -> Gated:
    def model(it: str | BaseChatModel) -> BaseChatModel:
        return chat(it, stream_usage=True) if isinstance(it, str) else it

    def make(
        draft: str | BaseChatModel = "standin", deeper: str | BaseChatModel = "deep", **settings: object
    ) -> EntropyGatedChatModel:
        return EntropyGatedChatModel(**{"gate": gate, "draft": model(draft), "deeper": model(deeper), **settings})

    return make


def models_asked(provider: StandIn) -> list[str]:
    return [request["model"] for request in provider.requests]
