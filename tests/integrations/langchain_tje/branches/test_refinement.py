"""sequential_refinement: what the model is shown, and how often it is asked."""

from collections.abc import Callable

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI
from langchain_tje import sequential_refinement, think_just_enough

from tests.standin import StandIn
from tje_middleware import EntropyGate

PROMPT = ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{question}")])
UNSURE = {"question": "bits=2.5"}
Chat = Callable[..., ChatOpenAI]


def test_each_step_sees_the_question_the_previous_answer_and_the_instruction(chat: Chat, provider: StandIn) -> None:
    deeper = sequential_refinement(PROMPT | chat(), steps=2, instruction="Check it. tokens=2")
    deeper.invoke(UNSURE, draft="my draft")
    shown = [[(each["role"], each["content"]) for each in request["messages"]] for request in provider.requests]
    question = [("system", "Be brief."), ("user", "bits=2.5")]
    assert shown == [
        [*question, ("assistant", "my draft"), ("user", "Check it. tokens=2")],
        [*question, ("assistant", "w0 w1 "), ("user", "Check it. tokens=2")],
    ]


async def test_the_asynchronous_twin_asks_alike(chat: Chat, provider: StandIn) -> None:
    deeper = sequential_refinement(PROMPT | chat(), instruction="Check it. tokens=2")
    sync = deeper.invoke(UNSURE, draft="my draft")
    asked = [request["messages"] for request in provider.requests]
    provider.requests.clear()
    assert (await deeper.ainvoke(UNSURE, draft="my draft")).text == sync.text
    assert [request["messages"] for request in provider.requests] == asked


def test_by_default_three_steps_follow_the_draft(chat: Chat, provider: StandIn, gate: EntropyGate) -> None:
    chain = PROMPT | chat()
    answer = think_just_enough(chain, deeper=sequential_refinement(chain), gate=gate).invoke(UNSURE)
    assert len(provider.requests) == 4
    assert answer.response_metadata["tje"]["route"] == "deeper"


def test_until_repeated_stops_when_nothing_changes_any_more(chat: Chat, provider: StandIn) -> None:
    deeper = sequential_refinement(PROMPT | chat(), steps=9, until_repeated=True)
    deeper.invoke(UNSURE, draft="something else")
    assert len(provider.requests) == 2


def test_what_follows_the_model_is_done_once_after_the_last_step(chat: Chat) -> None:
    calls = []
    chain = PROMPT | chat() | StrOutputParser() | RunnableLambda(lambda text: calls.append(text) or text.upper())
    assert sequential_refinement(chain).invoke(UNSURE, draft="a draft") == "W0 W1 W2 W3 "
    assert len(calls) == 1


def test_a_model_alone_is_refined_too(chat: Chat, provider: StandIn) -> None:
    sequential_refinement(chat(), steps=1).invoke("bits=2.5", draft="a draft")
    assert [each["role"] for each in provider.requests[0]["messages"]] == ["user", "assistant", "user"]


def test_a_chain_without_a_model_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a chat model"):
        sequential_refinement(RunnableLambda(lambda text: text))


def test_less_than_one_step_is_refused(chat: Chat) -> None:
    with pytest.raises(ValueError, match="at least one step"):
        sequential_refinement(chat(), steps=0)
