"""The stand-in provider keeps what its question language promises, on the wire and through ChatOpenAI."""

import asyncio
import json
import math
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ToolStrategy
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import BadRequestError, InternalServerError, OpenAI
from pydantic import BaseModel, Field

from tests.standin import StandIn, StreamRecord, distribution
from tje_middleware import SequenceLogprobs, mean_entropy, parse_logprobs, token_entropies

Chat = Callable[..., ChatOpenAI]


@tool
def weather(city: str = "Oslo") -> str:
    """The weather of a city."""
    return f"sunny in {city}"


class Verdict(BaseModel):
    """An answer."""

    answer: str


class Part(BaseModel):
    name: str
    count: int = Field(ge=3)
    kind: "Kind | None"


class Kind(BaseModel):
    exact: bool
    parent: "Kind | None"


class Report(BaseModel):
    parts: list[Part] = Field(min_length=2)
    score: float
    tags: list[str]


@pytest.fixture
def provider() -> Iterator[StandIn]:
    with StandIn() as server:
        yield server


@pytest.fixture
def chat(provider: StandIn) -> Chat:
    def make(model: str = "standin", **settings: object) -> ChatOpenAI:
        settings = {"max_retries": 0, "timeout": 20, **settings}
        return ChatOpenAI(base_url=provider.base_url, model=model, api_key="none", **settings)

    return make


@pytest.fixture
def asked(chat: Chat) -> Chat:
    """Chat models that ask for all 20 alternatives."""
    return lambda model="standin", **settings: chat(model, logprobs=True, top_logprobs=20, **settings)


def sequence(message: object) -> SequenceLogprobs:
    return parse_logprobs(message.response_metadata["logprobs"])


def bits(message: object) -> list[float]:
    return [round(float(each), 6) for each in token_entropies(sequence(message))]


# --- entropies and texts ---


def test_each_token_has_its_own_entropy_and_the_last_repeats(asked: Chat) -> None:
    assert bits(asked().invoke("bits=0.2,3.0,0.1 tokens=5")) == [0.2, 3.0, 0.1, 0.1, 0.1]


def test_a_stream_brings_the_same_tokens_and_entropies(asked: Chat) -> None:
    whole = asked().invoke("bits=0.2,3.0 tokens=3")
    chunks = list(asked().stream("bits=0.2,3.0 tokens=3"))
    assert [chunk.text for chunk in chunks if chunk.text] == ["w0 ", "w1 ", "w2 "]
    joined = sum(chunks[1:], chunks[0])
    assert (joined.text, bits(joined)) == (whole.text, bits(whole))


def test_without_options_an_answer_has_four_tokens_of_half_a_bit(asked: Chat) -> None:
    answer = asked().invoke("Is it safe? It takes 3.5 tokens.")
    assert (answer.text, bits(answer)) == ("w0 w1 w2 w3 ", [0.5] * 4)


@pytest.mark.parametrize(
    ("option", "text"),
    [("says=yes", "yes"), ('says="yes, bits=4.0 it is"', "yes, bits=4.0 it is")],
)
def test_an_answer_can_be_dictated(option: str, text: str, asked: Chat) -> None:
    answer = asked().invoke(f"Really? {option} bits=1.5")
    assert answer.text == text
    assert set(bits(answer)) == {1.5}


def test_an_answer_can_be_empty(chat: Chat) -> None:
    answer = chat().invoke('says=""')
    assert (answer.text, answer.usage_metadata["output_tokens"]) == ("", 0)


def test_a_dictated_answer_has_a_token_a_word(chat: Chat) -> None:
    texts = [chunk.text for chunk in chat().stream('says="one two  three"')]
    assert [text for text in texts if text] == ["one ", "two  ", "three"]


def test_says_model_tells_who_answers(chat: Chat) -> None:
    assert chat("deep").invoke("says_model tokens=2").text == "deep-0 deep-1 "
    structured = chat("deep").with_structured_output(Verdict, method="json_schema")
    assert structured.invoke("says_model") == Verdict(answer="deep")


def test_an_entropy_that_cannot_be_is_refused(chat: Chat) -> None:
    with pytest.raises(BadRequestError, match=r"an entropy between 0 and 4\.322 bits, not 5\.0"):
        chat().invoke("bits=5.0")


def test_the_last_user_message_counts(asked: Chat) -> None:
    messages = [("system", "bits=1.0"), ("human", "bits=2.0"), ("ai", "bits=3.0")]
    assert set(bits(asked().invoke(messages))) == {2.0}


# --- models ---


def test_a_snapshot_answers_under_its_dated_name(chat: Chat) -> None:
    names = {chat(name).invoke("?").response_metadata["model_name"] for name in ("dated", "deep")}
    assert names == {"dated-2026-01-01", "deep"}


def test_a_model_can_give_fewer_alternatives_than_asked(asked: Chat) -> None:
    assert sequence(asked("top5").invoke("?")).top_k == 5


def test_a_flaky_model_answers_in_the_end(chat: Chat) -> None:
    for _ in range(2):
        with pytest.raises(InternalServerError):
            chat("flaky-2").invoke("?")
    assert chat("flaky-2").invoke("?").text == "w0 w1 w2 w3 "
    with pytest.raises(InternalServerError):
        chat("broken").invoke("?")


def test_refusing_and_ignoring_logprobs(asked: Chat, chat: Chat) -> None:
    with pytest.raises(BadRequestError, match="logprobs are not supported"):
        asked("refuses-logprobs").invoke("?")
    assert chat("refuses-logprobs").invoke("?").text
    assert asked("ignores-logprobs").invoke("?").response_metadata["logprobs"] is None


def test_usage_comes_with_a_stream_when_it_is_asked_for(chat: Chat) -> None:
    def usage(**settings: object) -> list[dict]:
        chunks = chat(**settings).stream("tokens=7")
        return [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]

    assert usage() == []
    assert [each["output_tokens"] for each in usage(stream_usage=True)] == [7]


# --- tools ---


def test_an_agent_calls_its_tool_and_answers(chat: Chat) -> None:
    question = 'call=weather args={"city": "bits=4.0"} says=done'
    messages = create_agent(chat(), [weather]).invoke({"messages": [("human", question)]})["messages"]
    assert [(each.type, each.text) for each in messages[1:]] == [
        ("ai", ""),
        ("tool", "sunny in bits=4.0"),
        ("ai", "done"),
    ]
    assert messages[1].response_metadata["finish_reason"] == "tool_calls"


def test_rounds_of_calls_have_their_own_ids(chat: Chat) -> None:
    agent = create_agent(chat(), [weather])
    messages = agent.invoke({"messages": [("human", "call=weather calls=2")]})["messages"]
    messages = agent.invoke({"messages": [*messages, ("human", "call=weather")]})["messages"]
    calls = [call["id"] for each in messages if each.type == "ai" for call in each.tool_calls]
    assert calls == ["call_1", "call_2", "call_3"]


def test_without_tools_to_call_the_answer_is_text(chat: Chat) -> None:
    assert chat().invoke("call=weather says=no").text == "no"
    assert chat().bind_tools([weather], tool_choice="none").invoke("call=weather says=no").text == "no"
    assert chat().bind_tools([weather]).invoke("says=no").text == "no"


@pytest.mark.parametrize("streams", [False, True])
def test_calls_come_without_logprobs_unless_the_model_gives_them(streams: bool, asked: Chat) -> None:
    question = 'call=weather args={"city": "Oslo"} bits=0.5 call_bits=2.0,1.0'

    def ask(model: str):
        runnable = asked(model).bind_tools([weather])
        if not streams:
            return runnable.invoke(question)
        chunks = list(runnable.stream(question))
        assert len(chunks) > 5
        return sum(chunks[1:], chunks[0])

    plain, spelled = ask("gpt"), ask("qwen-toollogprobs")
    assert [(call["name"], call["args"]) for call in plain.tool_calls] == [("weather", {"city": "Oslo"})]
    assert plain.tool_calls == spelled.tool_calls
    assert not plain.response_metadata.get("logprobs")
    tokens = [position["token"] for position in spelled.response_metadata["logprobs"]["content"]]
    assert json.loads("".join(tokens)) == {"name": "weather", "arguments": {"city": "Oslo"}}
    assert bits(spelled) == [2.0] + [1.0] * (len(tokens) - 1)


def test_a_required_call_satisfies_the_schema_of_the_tool(chat: Chat) -> None:
    structured = chat().with_structured_output(Verdict, method="function_calling")
    assert structured.invoke("?") == Verdict(answer="yes")
    assert chat().bind_tools([weather], tool_choice="required").invoke("?").tool_calls[0]["name"] == "weather"


@pytest.mark.parametrize(("question", "rounds"), [("call=weather", 2), ("call=Verdict", 1), ("?", 2)])
def test_an_agent_with_a_tool_strategy_comes_to_its_answer(question: str, rounds: int, chat: Chat) -> None:
    agent = create_agent(chat(), [weather], response_format=ToolStrategy(Verdict))
    state = agent.invoke({"messages": [("human", question)]}, {"recursion_limit": 10})
    assert state["structured_response"] == Verdict(answer="yes")
    assert sum(each.type == "ai" for each in state["messages"]) == rounds


# --- structured output ---


def test_json_satisfies_the_schema_with_the_stated_entropies(asked: Chat) -> None:
    structured = asked().with_structured_output(Report, method="json_schema", include_raw=True)
    found = structured.invoke("bits=1.5")
    parent = Kind(exact=True, parent=None)
    part = Part(name="yes", count=3, kind=parent)
    assert found["parsed"] == Report(parts=[part, part], score=1, tags=[])
    assert set(bits(found["raw"])) == {1.5}


def test_json_mode_answers_with_an_answer(chat: Chat) -> None:
    assert chat().with_structured_output(Verdict, method="json_mode").invoke("?") == Verdict(answer="yes")


# --- pace and cancellation ---


def test_a_stream_keeps_its_pace(chat: Chat, provider: StandIn) -> None:
    begun = time.perf_counter()
    assert len(list(chat().stream("tokens=10 pace=0.02"))) >= 10
    assert time.perf_counter() - begun >= 0.2
    assert provider.streams == [StreamRecord("standin", produced=10, finished=True)]
    assert not provider.wait_for_disconnect(timeout=0.05)


def test_a_client_that_leaves_is_noticed_before_the_next_token(provider: StandIn) -> None:
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "tokens=3 pace=3"}]}
    with httpx.stream("POST", f"{provider.base_url}/chat/completions", json=body) as response:
        assert next(response.iter_lines()).startswith("data: ")
        left = time.perf_counter()
    assert provider.wait_for_disconnect(timeout=2)
    assert time.perf_counter() - left < 2
    assert provider.streams == [StreamRecord("m", produced=0, disconnected=True)]


async def test_a_cancelled_task_stops_the_stream(chat: Chat, provider: StandIn) -> None:
    async def read() -> None:
        async for _ in chat("deep").astream("tokens=1000 pace=0.01"):
            arrived.set()

    arrived = asyncio.Event()
    task = asyncio.create_task(read())
    await asyncio.wait_for(arrived.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(provider.wait_for_disconnect, 5)
    (stream,) = provider.streams
    assert (stream.disconnected, stream.finished) == (True, False)
    assert stream.produced < 1000


def test_disconnects_are_counted(provider: StandIn, chat: Chat) -> None:
    for _ in range(2):
        stream = chat().stream("tokens=1000 pace=0.01")
        next(stream)
        stream.close()
    assert provider.wait_for_disconnect(5, count=2)
    assert not provider.wait_for_disconnect(0.05, count=3)


# --- the Responses API ---


@pytest.mark.parametrize("streams", [False, True])
def test_an_answer_through_the_responses_api(streams: bool, chat: Chat) -> None:
    model = chat(use_responses_api=True)
    if streams:
        chunks = list(model.stream("tokens=3"))
        assert [chunk.text for chunk in chunks if chunk.text] == ["w0 ", "w1 ", "w2 "]
        answer = sum(chunks[1:], chunks[0])
    else:
        answer = model.invoke("tokens=3")
    assert answer.text == "w0 w1 w2 "
    assert answer.usage_metadata["output_tokens"] == 3


@pytest.mark.parametrize("streams", [False, True])
def test_an_agent_through_the_responses_api(streams: bool, chat: Chat) -> None:
    agent = create_agent(chat(use_responses_api=True, streaming=streams), [weather])
    messages = agent.invoke({"messages": [("human", 'call=weather args={"city": "Rome"} says=done')]})["messages"]
    assert [(each.type, each.text) for each in messages[1:]] == [
        ("ai", ""),
        ("tool", "sunny in Rome"),
        ("ai", "done"),
    ]


def test_structured_output_through_the_responses_api(chat: Chat) -> None:
    structured = chat(use_responses_api=True).with_structured_output(Verdict, method="json_schema")
    assert structured.invoke("?") == Verdict(answer="yes")


def test_the_responses_api_gives_logprobs_when_they_are_included(provider: StandIn) -> None:
    wants = {"include": ["message.output_text.logprobs"], "top_logprobs": 20}

    def positions(**request: object) -> list[dict]:
        body = {"model": "m", "input": "bits=1.5 tokens=3", **request}
        answer = httpx.post(f"{provider.base_url}/responses", json=body).json()
        return answer["output"][0]["content"][0]["logprobs"]

    assert positions() == []
    assert token_entropies(parse_logprobs({"content": positions(**wants)})) == pytest.approx([1.5] * 3)
    body = {"model": "m", "input": "bits=1.5 tokens=3", "stream": True, **wants}
    lines = httpx.post(f"{provider.base_url}/responses", json=body).text.splitlines()
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    deltas = [event["logprobs"] for event in events if event["type"] == "response.output_text.delta"]
    assert [position for delta in deltas for position in delta] == positions(**wants)
    assert provider.asked_for_logprobs() == [None, 20, 20, 20]


# --- connections ---


async def test_hundreds_of_requests_at_once_are_answered(provider: StandIn) -> None:
    def body(number: int) -> dict:
        return {"model": "m", "stream": number % 2 == 1, "messages": [{"role": "user", "content": f"says=t{number}"}]}

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=30) as client:
        url = f"{provider.base_url}/chat/completions"
        found = await asyncio.gather(*[client.post(url, json=body(number)) for number in range(300)])
    assert all(f'"t{number}"' in each.text for number, each in enumerate(found))
    assert len(provider.requests) == 300


@pytest.mark.parametrize("stream", [False, True])
def test_connections_are_kept_or_closed_as_the_client_wants(stream: bool, provider: StandIn) -> None:
    body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "says=ok"}]}
    with httpx.Client() as client:

        def local_port(**headers: str) -> int:
            with client.stream(
                "POST", f"{provider.base_url}/chat/completions", json=body, headers=headers
            ) as response:
                port = response.extensions["network_stream"].get_extra_info("client_addr")[1]
                assert '"ok"' in response.read().decode()
                return port

        kept = [local_port(), local_port(Connection="close"), local_port()]
    assert kept[0] == kept[1] != kept[2]


def test_a_distribution_has_the_entropy_it_is_made_for() -> None:
    row = distribution(2.5)
    assert math.isclose(-sum(math.exp(each) * each / math.log(2) for each in row), 2.5, rel_tol=1e-9)


def test_prompts_are_answered_in_the_form_of_completions() -> None:
    with StandIn() as server:
        client = OpenAI(base_url=server.base_url, api_key="none")
        whole = client.completions.create(model="standin", prompt="bits=0.5 tokens=3", logprobs=20)
        chunks = list(
            client.completions.create(model="standin", prompt="bits=0.5 tokens=3", logprobs=20, stream=True)
        )
        plain = client.completions.create(model="standin", prompt="bits=0.5 tokens=3")
    assert mean_entropy(parse_logprobs(whole)) == pytest.approx(0.5)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert (whole.usage.completion_tokens, plain.choices[0].logprobs) == (3, None)
