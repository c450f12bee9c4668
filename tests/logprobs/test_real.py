"""The same question to a real model: every route to it must give the same entropies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from operator import add
from typing import Any

import httpx
import numpy as np
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult
from langchain_openai import ChatOpenAI
from llama_index.core.base.llms.types import ChatMessage
from llama_index.llms.openai_like import OpenAILike
from openai import OpenAI

from tje_middleware import parse_logprobs, token_entropies
from tje_middleware.errors import MissingLogprobs
from tje_middleware.local import LocalServer

QUESTION = "What is the capital of France? Say why in one sentence."
ASKED: dict[str, Any] = {"temperature": 0.0, "max_tokens": 24}
LOGPROBS: dict[str, Any] = {"logprobs": True, "top_logprobs": 20}
MESSAGES: Any = [{"role": "user", "content": QUESTION}]


class Keeper(BaseCallbackHandler):
    def __init__(self) -> None:
        self.results: list[LLMResult] = []
        self.chunks: list[Any] = []

    def on_llm_new_token(self, token: str, *, chunk: Any = None, **_: Any) -> None:
        self.chunks.append(chunk)

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        self.results.append(response)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with LocalServer(parallel=1) as running:
        raw(running)  # fills the cache of the prompt, which all others share
        yield running


def raw(server: LocalServer) -> Any:
    body = {"messages": MESSAGES, **ASKED, **LOGPROBS}
    return httpx.post(f"{server.base_url}/chat/completions", json=body, timeout=60, trust_env=False).json()


def client(server: LocalServer) -> OpenAI:
    return OpenAI(base_url=server.base_url, api_key="none", http_client=httpx.Client(trust_env=False))


def openai(server: LocalServer) -> Any:
    return client(server).chat.completions.create(model=server.model, messages=MESSAGES, **ASKED, **LOGPROBS)


def openai_stream(server: LocalServer) -> Any:
    return list(
        client(server).chat.completions.create(
            model=server.model,
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
            **ASKED,
            **LOGPROBS,
        )
    )


def chat_openai(server: LocalServer, **settings: Any) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=server.base_url, model=server.model, api_key="none", **{**ASKED, **LOGPROBS, **settings}
    )


def langchain_callback(server: LocalServer) -> Any:
    keeper = Keeper()
    chat_openai(server).invoke(QUESTION, config={"callbacks": [keeper]})
    return keeper.results[0]


def langchain_streamed_callback(server: LocalServer) -> Any:
    keeper = Keeper()
    list(chat_openai(server).stream(QUESTION, config={"callbacks": [keeper]}))
    return keeper.chunks


def llama_index(server: LocalServer, **settings: Any) -> OpenAILike:
    extra = {"max_tokens": ASKED["max_tokens"], "temperature": 0.0, "is_chat_model": True, **LOGPROBS, **settings}
    return OpenAILike(model=server.model, api_base=server.base_url, api_key="none", **extra)


ASK = [ChatMessage(role="user", content=QUESTION)]

ROUTES: dict[str, Callable[[LocalServer], Any]] = {
    "openai": openai,
    "openai dumped": lambda server: openai(server).model_dump(),
    "openai stream": openai_stream,
    "ChatOpenAI.invoke": lambda server: chat_openai(server).invoke(QUESTION),
    "ChatOpenAI.stream, added": lambda server: reduce(add, chat_openai(server).stream(QUESTION)),
    "ChatOpenAI.stream, listed": lambda server: list(chat_openai(server).stream(QUESTION)),
    "ChatOpenAI on_llm_end": langchain_callback,
    "ChatOpenAI on_llm_new_token": langchain_streamed_callback,
    "OpenAILike.chat": lambda server: llama_index(server).chat(ASK),
    "OpenAILike.chat dumped": lambda server: llama_index(server).chat(ASK).model_dump(),
    "OpenAILike.stream_chat": lambda server: list(llama_index(server).stream_chat(ASK)),
    "OpenAILike.complete": lambda server: llama_index(server).complete(QUESTION),
}


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_gives_the_same_entropies(server: LocalServer, route: str) -> None:
    expected, got = parse_logprobs(raw(server)), parse_logprobs(ROUTES[route](server))
    assert got.tokens == expected.tokens
    assert got.top_k == 20
    assert len(got) > 5
    np.testing.assert_allclose(token_entropies(got), token_entropies(expected), atol=1e-6)


def test_the_copy_that_llama_index_keeps_has_the_same_entropies(server: LocalServer) -> None:
    response = llama_index(server).chat(ASK)
    whole = token_entropies(parse_logprobs(response))
    response.raw = None
    copied = token_entropies(parse_logprobs(response))  # it names no tokens, so the end of the turn stays in it
    np.testing.assert_allclose(copied[: len(whole)], whole, atol=1e-6)


def test_llama_cpp_native_answers_are_read(server: LocalServer) -> None:
    body: dict[str, Any] = {"prompt": QUESTION, "n_predict": 8, "n_probs": 20, "temperature": 0.0}
    url = f"{server.base_url.removesuffix('/v1')}/completion"
    whole = httpx.post(url, json=body, timeout=60, trust_env=False).json()
    assert parse_logprobs(whole).text == whole["content"]
    sampled = httpx.post(url, json={**body, "post_sampling_probs": True}, timeout=60, trust_env=False).json()
    assert parse_logprobs(sampled).text == sampled["content"]


def test_text_completions_are_read(server: LocalServer) -> None:
    answer = client(server).completions.create(model=server.model, prompt="The sky", logprobs=20, **ASKED)
    assert parse_logprobs(answer).text == answer.choices[0].text


@pytest.mark.parametrize("settings", [{"logprobs": None, "top_logprobs": None}, {"top_logprobs": 0}])
def test_answers_to_callers_that_did_not_ask_are_missing(server: LocalServer, settings: dict[str, Any]) -> None:
    with pytest.raises(MissingLogprobs):
        parse_logprobs(chat_openai(server, **settings).invoke(QUESTION))
