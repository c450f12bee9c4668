"""ask_logprobs: whatever a chain looks like, the request that reaches the provider asks for logprobs."""

from collections.abc import Callable

import pytest
from langchain.agents import create_agent
from langchain.chat_models import init_chat_model
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import (
    ConfigurableField,
    Runnable,
    RunnableBranch,
    RunnableLambda,
    RunnableParallel,
    RunnablePassthrough,
)
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langchain_tje import ask_logprobs
from langchain_tje.asking.chain import asks_for_logprobs
from langgraph.graph import START, StateGraph
from pydantic import BaseModel

from tests.standin import StandIn

PROMPT = ChatPromptTemplate.from_messages([("human", "{question}")])
Chat = Callable[..., ChatOpenAI]


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"fine in {city}"


class Reply(BaseModel):
    """A reply."""

    answer: str


CHAINS: dict[str, Callable[[Chat], Runnable]] = {
    "a sequence": lambda chat: PROMPT | chat(),
    "a sequence with a parser": lambda chat: PROMPT | chat() | StrOutputParser(),
    "bound stop words": lambda chat: PROMPT | chat().bind(stop=["END"]),
    "tools bound": lambda chat: PROMPT | chat().bind_tools([weather]),
    "tools bound after a bind that LangChain drops": lambda chat: (
        PROMPT | chat().bind(stop=["E"]).bind_tools([weather])
    ),
    "structured output": lambda chat: PROMPT | chat().with_structured_output(Reply, method="json_schema"),
    "structured output with the raw message": lambda chat: (
        PROMPT | chat().with_structured_output(Reply, method="json_schema", include_raw=True)
    ),
    "retries": lambda chat: PROMPT | chat().with_retry(),
    "a retried chain": lambda chat: (PROMPT | chat()).with_retry(),
    "fallbacks": lambda chat: PROMPT | chat().with_fallbacks([chat("other")]),
    "a config": lambda chat: (PROMPT | chat()).with_config(tags=["mine"]),
    "a branch": lambda chat: PROMPT | RunnableBranch((lambda _: True, chat()), chat("other")),
    "a parallel": lambda chat: PROMPT | RunnableParallel(answer=chat(), length=RunnableLambda(lambda _: 3)),
    "an assignment": lambda chat: RunnablePassthrough.assign(answer=PROMPT | chat()),
    "a function that returns a chain": lambda chat: RunnableLambda(lambda _: PROMPT | chat()),
    "configurable fields": lambda chat: PROMPT | chat().configurable_fields(temperature=ConfigurableField("heat")),
    "alternatives": lambda chat: (
        PROMPT | chat().configurable_alternatives(ConfigurableField("which"), other=chat("other"))
    ),
    "a model chosen when called": lambda chat: (
        PROMPT
        | init_chat_model(
            model="standin",
            model_provider="openai",
            configurable_fields=("model",),
            api_key="none",
            base_url=_url(chat),
        )
    ),
}


def _url(chat: Chat) -> str:
    return str(chat().openai_api_base)


@pytest.mark.parametrize("name", CHAINS)
def test_the_provider_is_asked_for_logprobs_through(name: str, chat: Chat, provider: StandIn) -> None:
    asked = ask_logprobs(CHAINS[name](chat), top_k=20)
    asked.invoke({"question": "bits=0.5"})
    assert provider.asked_for_logprobs() == [20]


@pytest.mark.parametrize("name", CHAINS)
async def test_the_provider_is_asked_for_logprobs_asynchronously_through(
    name: str, chat: Chat, provider: StandIn
) -> None:
    asked = ask_logprobs(CHAINS[name](chat), top_k=7)
    await asked.ainvoke({"question": "bits=0.5"})
    assert provider.asked_for_logprobs() == [7]


@pytest.mark.parametrize("name", CHAINS)
def test_the_chain_that_was_given_is_unchanged(name: str, chat: Chat, provider: StandIn) -> None:
    chain = CHAINS[name](chat)
    ask_logprobs(chain)
    chain.invoke({"question": "bits=0.5"})
    assert provider.asked_for_logprobs() == [None]


@pytest.mark.parametrize("name", CHAINS)
def test_the_answer_is_kept_back_until_it_is_whole_through(name: str, chat: Chat, provider: StandIn) -> None:
    asked = ask_logprobs(CHAINS[name](chat))
    graph = StateGraph(dict)
    graph.add_node("ask", lambda state: {"answer": str(asked.invoke(state))})
    graph.add_edge(START, "ask")
    shown = list(graph.compile().stream({"question": "bits=0.5"}, stream_mode="messages"))
    assert shown == []
    assert [bool(request.get("stream")) for request in provider.requests] == [False]


def test_a_model_that_always_streams_is_asked_without(chat: Chat, provider: StandIn) -> None:
    message = ask_logprobs(PROMPT | chat(streaming=True)).invoke({"question": "bits=0.5"})
    assert len(message.response_metadata["logprobs"]["content"]) == 4
    assert not provider.requests[0].get("stream")


def test_a_fallback_is_asked_too_and_answers_without_where_it_refuses(chat: Chat, provider: StandIn) -> None:
    chain = PROMPT | chat("broken").with_fallbacks([chat("refuses-logprobs")])
    assert ask_logprobs(chain).invoke({"question": "bits=0.5"}).text
    assert [(request["model"], request.get("logprobs")) for request in provider.requests] == [
        ("broken", True),
        ("refuses-logprobs", True),
        ("refuses-logprobs", None),
    ]


def test_what_has_no_model_to_be_asked_is_refused(chat: Chat) -> None:
    with pytest.raises(TypeError, match="wrap the model before an agent, a graph or a function is made of it"):
        ask_logprobs(create_agent(chat()))
    with pytest.raises(TypeError, match="takes a chat model or a chain, not a str"):
        ask_logprobs("gpt-4o")


def test_a_refusal_is_not_taken_for_a_failure_by_fallbacks(chat: Chat, provider: StandIn) -> None:
    asked = ask_logprobs(PROMPT | chat("refuses-logprobs").with_fallbacks([chat("other")]))
    for _ in range(2):
        assert asked.invoke({"question": ""}).response_metadata["model_name"] == "refuses-logprobs"
    assert provider.asked_for_logprobs() == [20, None, None]


async def test_a_refusal_is_met_however_the_chain_is_called(chat: Chat) -> None:
    def asked() -> Runnable:
        return ask_logprobs(PROMPT | chat("refuses-logprobs") | StrOutputParser())

    question, answer = {"question": ""}, "w0 w1 w2 w3 "
    assert asked().invoke(question) == answer
    assert "".join(asked().stream(question)) == answer
    assert asked().batch([question] * 2) == [answer] * 2
    assert await asked().ainvoke(question) == answer
    assert "".join([chunk async for chunk in asked().astream(question)]) == answer
    assert await asked().abatch([question] * 2) == [answer] * 2


def test_what_was_bound_before_stays_bound(chat: Chat, provider: StandIn) -> None:
    ask_logprobs(PROMPT | chat().bind_tools([weather]).bind(stop=["END"])).invoke({"question": "bits=0.5"})
    (request,) = provider.requests
    assert request["tools"][0]["function"]["name"] == "weather"
    assert request["stop"] == ["END"]


def test_only_the_model_that_writes_the_answer_is_asked(chat: Chat, provider: StandIn) -> None:
    rewrite = PROMPT | chat("rewriter") | StrOutputParser() | (lambda text: {"question": text})
    ask_logprobs(rewrite | PROMPT | chat()).invoke({"question": "bits=0.5"})
    assert provider.asked_for_logprobs() == [None, 20]


async def test_an_asynchronous_function_that_returns_a_chain_is_asked(chat: Chat, provider: StandIn) -> None:
    async def build(_: dict) -> Runnable:
        return PROMPT | chat()

    await ask_logprobs(RunnableLambda(build)).ainvoke({"question": "bits=0.5"})
    assert provider.asked_for_logprobs() == [20]


def test_a_chain_without_a_model_works_as_before() -> None:
    chain = PROMPT | RunnableLambda(lambda prompt: prompt.to_string())
    assert ask_logprobs(chain).invoke({"question": "hello"}) == chain.invoke({"question": "hello"})


def test_a_user_who_asks_for_logprobs_is_recognised(chat: Chat) -> None:
    assert asks_for_logprobs(PROMPT | chat(logprobs=True))
    assert asks_for_logprobs(PROMPT | chat().bind(logprobs=True) | StrOutputParser())
    assert not asks_for_logprobs(PROMPT | chat())
