"""The server that the recipes share answers as the one behind it does, and asks it once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.cookbook.remembering import remembered
from tests.standin import StandIn

SAYS = {"model": "standin", "temperature": 0, "messages": [{"role": "user", "content": "says=6 bits=0.5"}]}
WITH_LOGPROBS = {**SAYS, "logprobs": True, "top_logprobs": 20}


@pytest.fixture
def provider() -> Iterator[StandIn]:
    with StandIn() as running:
        yield running


def ask(address: str, request: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{address}/v1/chat/completions", json=request, trust_env=False, timeout=20)


def direct(provider: StandIn, request: dict[str, Any]) -> dict[str, Any]:
    return ask(provider.base_url.removesuffix("/v1"), request).json()


@pytest.mark.parametrize("request_", [SAYS, WITH_LOGPROBS], ids=["plain", "logprobs"])
def test_an_answer_is_the_servers_own(provider: StandIn, request_: dict[str, Any]) -> None:
    with remembered(provider.base_url.removesuffix("/v1")) as address:
        answers = [ask(address, request_).json() for _ in range(2)]
    (expected,) = direct(provider, request_)["choices"]
    for answer in answers:
        (choice,) = answer["choices"]
        assert choice["message"] == expected["message"]
        assert choice.get("logprobs") == expected["logprobs"]


def test_a_stream_is_passed_on_whole(provider: StandIn) -> None:
    request = {**SAYS, "stream": True}
    with remembered(provider.base_url.removesuffix("/v1")) as address:
        first, again = ask(address, request), ask(address, request)
    assert first.headers["Content-Type"].startswith("text/event-stream")
    assert first.text == again.text
    assert first.text.rstrip().endswith("data: [DONE]")
    assert len(provider.requests) == 1


def test_the_same_question_reaches_the_model_once(provider: StandIn) -> None:
    with remembered(provider.base_url.removesuffix("/v1")) as address, ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda request: ask(address, request), [WITH_LOGPROBS] * 6))
    assert provider.requests == [WITH_LOGPROBS]


def test_an_answer_with_logprobs_serves_without_them(provider: StandIn) -> None:
    with remembered(provider.base_url.removesuffix("/v1")) as address:
        with_logprobs, plain = ask(address, WITH_LOGPROBS).json(), ask(address, SAYS).json()
    assert provider.requests == [WITH_LOGPROBS]
    assert plain["choices"][0]["message"] == with_logprobs["choices"][0]["message"]
    assert "logprobs" not in plain["choices"][0]


def test_what_is_sampled_is_sampled_anew(provider: StandIn) -> None:
    with remembered(provider.base_url.removesuffix("/v1")) as address:
        for _ in range(2):
            ask(address, {**SAYS, "temperature": 1})
    assert len(provider.requests) == 2


def test_an_error_is_passed_on_and_forgotten(provider: StandIn) -> None:
    once = {**SAYS, "model": "flaky-1"}
    with remembered(provider.base_url.removesuffix("/v1")) as address:
        first, again = ask(address, once), ask(address, once)
    assert first.is_server_error
    assert again.is_success
