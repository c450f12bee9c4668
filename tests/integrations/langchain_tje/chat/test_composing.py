"""A gated chat model within chains, agents and other gates."""

from itertools import product

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_tje import EntropyGatedChatModel, EntropyGateRunnable
from pydantic import BaseModel

from tests.integrations.langchain_tje.chat.conftest import CERTAIN, UNSURE, Chat, Gated, models_asked
from tests.integrations.langchain_tje.conftest import make_gate
from tests.standin import StandIn
from tje_middleware import TjeWarning


@pytest.mark.parametrize(("question", "text"), [(CERTAIN, "standin-0"), (UNSURE, "deep-0")])
def test_a_chain_that_ends_in_a_parser(gated: Gated, question: str, text: str) -> None:
    chain = ChatPromptTemplate.from_messages([("human", "{question}")]) | gated() | StrOutputParser()
    assert chain.invoke({"question": question}).startswith(text)


@pytest.mark.parametrize(("bits", "answerer"), [("0.5", "draft"), ("2.5", "deeper")])
def test_an_agent(gated: Gated, bits: str, answerer: str) -> None:
    @tool
    def weather(city: str) -> str:
        """The weather of a city."""
        return f"sunny in {city}"

    name = "standin-toollogprobs"
    agent = create_agent(gated(draft=name, gate=make_gate(name)), [weather])
    question = f'call=weather args={{"city": "Oslo"}} bits={bits}'
    *_, call, result, answer = agent.invoke({"messages": [("user", question)]})["messages"]
    assert result.content == "sunny in Oslo"
    assert [each.response_metadata["tje"]["answered_by"] for each in (call, answer)] == [answerer] * 2


def test_the_draft_of_another_gate(chat: Chat, gated: Gated, provider: StandIn) -> None:
    outer = EntropyGatedChatModel(draft=gated(), deeper=chat("deepest"), gate=make_gate())
    assert outer.invoke(CERTAIN).response_metadata["tje"]["reason"] == "confident"
    assert models_asked(provider) == ["standin"]


def test_what_its_deeper_model_answers_is_judged_as_that_models(chat: Chat, gated: Gated, provider: StandIn) -> None:
    outer = EntropyGatedChatModel(draft=gated(), deeper=chat("deepest"), gate=make_gate())
    with pytest.warns(TjeWarning, match="deep"):
        assert outer.invoke(UNSURE).response_metadata["tje"]["reason"] == "other_settings"
    assert models_asked(provider) == ["standin", "deep", "deepest"]


def test_the_deeper_model_of_another_gate(chat: Chat, gated: Gated, provider: StandIn) -> None:
    cascade = gated(deeper=gated(draft="deep", deeper="deepest", gate=make_gate("deep")))
    answer = cascade.invoke(UNSURE)
    assert models_asked(provider) == ["standin", "deep", "deepest"]
    assert answer.usage_metadata["total_tokens"] == 3 * 19


def test_the_deeper_branch_of_a_gated_chain(chat: Chat, gated: Gated, provider: StandIn) -> None:
    inner = gated(draft="deep", deeper="deepest", gate=make_gate("deep"))
    chain = EntropyGateRunnable(draft=chat(), deeper=inner, gate=make_gate())
    assert chain.invoke(UNSURE).usage_metadata["total_tokens"] == 3 * 19
    assert models_asked(provider) == ["standin", "deep", "deepest"]


def test_the_draft_of_a_gated_chain(chat: Chat, gated: Gated, provider: StandIn) -> None:
    chain = EntropyGateRunnable(draft=gated(), deeper=chat("deepest"), gate=make_gate())
    decision = chain.invoke(CERTAIN).response_metadata["tje"]
    assert (decision["route"], decision["tokens"]) == ("final", 9)
    assert models_asked(provider) == ["standin"]


@pytest.mark.parametrize(("bits", "text"), [("0.5", "standin-0 standin-1 "), ("2.5", "deep-0 deep-1 ")])
def test_a_graph_shows_the_messages_of_the_answer_alone(gated: Gated, bits: str, text: str) -> None:
    agent = create_agent(gated(), [])
    question = {"messages": [("user", f"bits={bits} tokens=2 says_model")]}
    shown = [chunk.text for chunk, _ in agent.stream(question, stream_mode="messages")]
    assert "".join(shown) == text


def test_an_agent_with_a_structured_answer(gated: Gated) -> None:
    class Verdict(BaseModel):
        """A verdict."""

        answer: str

    name = "standin-toollogprobs"
    for strategy, bits in product((ProviderStrategy, ToolStrategy), ("0.5", "2.5")):
        agent = create_agent(gated(draft=name, gate=make_gate(name)), [], response_format=strategy(Verdict))
        state = agent.invoke({"messages": [("user", f"bits={bits}")]})
        assert state["structured_response"] == Verdict(answer="yes")
