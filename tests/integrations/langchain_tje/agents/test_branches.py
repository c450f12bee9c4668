"""What a user may put in the place of an agent's rejected draft, and what happens where that fails."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelResponse
from langchain.agents.structured_output import ProviderStrategy
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langchain_tje import EntropyGateMiddleware
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from openai import InternalServerError
from pydantic import BaseModel

from tests.integrations.langchain_tje.conftest import make_gate
from tests.releases import needs_config_in_nodes
from tests.standin import StandIn
from tje_middleware import EntropyGate, GateDecision
from tje_middleware.errors import TjeWarning

SURE, UNSURE = "bits=0.5 says_model", "bits=2.5 says_model"
Chat = Callable[..., ChatOpenAI]
Make = Callable[..., Any]
Answer = Callable[..., Awaitable[dict[str, Any]]]


class Verdict(BaseModel):
    """What comes out."""

    word: str


@tool
def look(word: str) -> str:
    """Look a word up."""
    return f"seen {word}"


def asking(text: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


@pytest.fixture(params=["invoke", "ainvoke"])
def answer(request: pytest.FixtureRequest) -> Answer:
    """Asks an agent, with and without an event loop."""

    async def ask(agent: Any, text: str, config: Any = None) -> dict[str, Any]:
        if request.param == "invoke":
            return agent.invoke(asking(text), config)
        return await agent.ainvoke(asking(text), config)

    return ask


@pytest.fixture
def agent(chat: Chat, gate: EntropyGate) -> Make:
    """Makes agents with a gate and this deeper branch."""

    def make(deeper: Any, *, model: Any = None, tools: Any = (), agents: Any = None, **options: Any) -> Any:
        middleware = EntropyGateMiddleware(**{"gate": gate, "deeper": deeper, **options})
        return create_agent(model or chat(), tools=list(tools), middleware=[middleware], **(agents or {}))

    return make


class TestAFunction:
    async def test_is_given_the_messages_and_answers_with_one(self, agent: Make, answer: Answer) -> None:
        given: list[Any] = []

        def think(messages: list[Any]) -> AIMessage:
            given.extend(messages)
            return AIMessage("thought")

        state = await answer(agent(think, agents={"system_prompt": "Be brief."}, instruction="Twice."), UNSURE)
        assert [(message.type, message.content) for message in given] == [
            ("system", "Be brief.\n\nTwice."),
            ("human", UNSURE),
        ]
        assert [message.text for message in state["messages"]] == [UNSURE, "thought"]
        assert state["messages"][-1].response_metadata["tje"] == state["tje"][0]

    async def test_may_answer_with_text(self, agent: Make, answer: Answer) -> None:
        state = await answer(agent(lambda _: "thought"), UNSURE)
        assert (state["messages"][-1].text, state["tje"][0]["answered_by"]) == ("thought", "deeper")

    async def test_is_given_what_it_names(self, agent: Make, answer: Answer) -> None:
        given: list[Any] = []

        def think(messages: list[Any], *, decision: GateDecision, draft: AIMessage, request: Any) -> str:
            given.extend([decision.reason, draft.text.split()[0], "logprobs" in draft.response_metadata])
            given.append(request.messages == messages)
            return "thought"

        await answer(agent(think), UNSURE)
        assert given == ["uncertain", "standin-0", False, True]

    async def test_may_ask_the_agents_model_in_its_own_way(self, agent: Make, chat: Chat, provider: StandIn) -> None:
        def twice(messages: object, request: Any, handler: Any) -> ModelResponse:
            handler(request.override(model=chat("first")))
            return handler(request.override(model=chat("second")))

        async def atwice(messages: object, request: Any, handler: Any) -> ModelResponse:
            await handler(request.override(model=chat("first")))
            return await handler(request.override(model=chat("second")))

        for state in (agent(twice).invoke(asking(UNSURE)), await agent(atwice).ainvoke(asking(UNSURE))):
            assert state["messages"][-1].text.startswith("second-0")
            assert state["tje"][0]["deeper_usage"]["calls"] == 2
            assert state["messages"][-1].usage_metadata["output_tokens"] == 3 * 4
        assert [request["model"] for request in provider.requests] == ["standin", "first", "second"] * 2

    async def test_of_the_other_kind_is_a_mistake_and_no_failure(self, agent: Make) -> None:
        async def think(messages: object) -> str:
            return "thought"

        def ask(messages: object, request: Any, handler: Any) -> Any:
            return handler(request)

        assert (await agent(think).ainvoke(asking(UNSURE)))["messages"][-1].text == "thought"
        with pytest.raises(TypeError, match="asynchronous function"):
            agent(think).invoke(asking(UNSURE))
        with pytest.raises(TypeError, match="make the deeper branch an async function"):
            await agent(ask).ainvoke(asking(UNSURE))

    async def test_that_answers_with_something_else_is_a_mistake_and_no_failure(
        self, agent: Make, answer: Answer
    ) -> None:
        with pytest.raises(TypeError, match="must answer with an AIMessage, a ModelResponse or a str, not a int"):
            await answer(agent(lambda _: 7), UNSURE)

    async def test_answers_an_agent_with_a_response_format_by_a_model_response(
        self, agent: Make, answer: Answer
    ) -> None:
        def think(messages: object) -> ModelResponse:
            return ModelResponse([AIMessage("thought")], structured_response=Verdict(word="thought"))

        wanting = {"response_format": ProviderStrategy(Verdict)}
        state = await answer(agent(think, agents=wanting), UNSURE)
        assert state["structured_response"] == Verdict(word="thought")
        with pytest.raises(TypeError, match="structured_response"):
            await answer(agent(lambda _: "thought", agents=wanting), UNSURE)

    async def test_may_call_the_agents_tools(self, agent: Make, answer: Answer) -> None:
        call = {"name": "look", "args": {"word": "moon"}, "id": "1"}
        asked: list[int] = []

        def think(messages: list[Any]) -> AIMessage:
            asked.append(len(messages))
            return AIMessage("", tool_calls=[call]) if len(asked) == 1 else AIMessage("thought")

        state = await answer(agent(think, tools=[look]), UNSURE)
        assert [message.text for message in state["messages"]] == [UNSURE, "", "seen moon", "thought"]
        assert asked == [1, 3]

    async def test_leaves_no_logprobs_of_its_model(self, agent: Make, answer: Answer, chat: Chat) -> None:
        deep = chat("deep", logprobs=True, top_logprobs=5)
        state = await answer(agent(deep.invoke), UNSURE)
        assert state["messages"][-1].text.startswith("deep-0")
        assert "logprobs" not in state["messages"][-1].response_metadata


class TestARunnable:
    async def test_is_given_the_messages(self, agent: Make, answer: Answer, chat: Chat, provider: StandIn) -> None:
        prompt = ChatPromptTemplate.from_messages([("system", "Think."), MessagesPlaceholder("messages")])
        chain = RunnableLambda(lambda messages: {"messages": messages}) | prompt | chat("deep")
        state = await answer(agent(chain), UNSURE)
        assert state["messages"][-1].text.startswith("deep-0")
        assert [message["content"] for message in provider.requests[1]["messages"]] == ["Think.", UNSURE]
        assert state["tje"][0]["deeper_usage"]["output_tokens"] == 4

    async def test_may_be_an_agent(self, agent: Make, answer: Answer, chat: Chat) -> None:
        deeper = create_agent(chat("deep"), tools=[look], response_format=ProviderStrategy(Verdict))
        state = await answer(agent(deeper, agents={"response_format": ProviderStrategy(Verdict)}), UNSURE)
        assert [message.type for message in state["messages"]] == ["human", "ai"]
        assert state["structured_response"] == Verdict(word="deep")
        assert state["tje"][0]["answered_by"] == "deeper"

    async def test_may_name_the_draft(self, agent: Make, answer: Answer) -> None:
        deeper = RunnableLambda(lambda _, draft: f"not {draft.text.split()[0]}")
        assert (await answer(agent(deeper), UNSURE))["messages"][-1].text == "not standin-0"


class TestAFailure:
    async def test_leaves_the_draft_and_says_so(self, agent: Make, answer: Answer, chat: Chat) -> None:
        with pytest.warns(TjeWarning, match="the deeper branch failed"):
            state = await answer(agent(chat("broken")), UNSURE)
        assert state["messages"][-1].text.startswith("standin-0")
        decision = state["tje"][0]
        assert (decision["route"], decision["reason"], decision["answered_by"]) == (
            "deeper",
            "branch_failed",
            "draft",
        )
        assert "the deeper branch failed" in decision["detail"]

    async def test_is_raised_where_that_is_the_policy(self, agent: Make, answer: Answer, chat: Chat) -> None:
        with pytest.raises(InternalServerError):
            await answer(agent(chat("broken"), on_branch_error="raise"), UNSURE)

    async def test_keeps_the_structured_response_of_the_draft(self, agent: Make, answer: Answer, chat: Chat) -> None:
        with pytest.warns(TjeWarning):
            state = await answer(agent(chat("broken"), agents={"response_format": ProviderStrategy(Verdict)}), UNSURE)
        assert state["structured_response"] == Verdict(word="standin")

    async def test_of_the_draft_is_the_agents(self, agent: Make, answer: Answer, chat: Chat) -> None:
        with pytest.raises(InternalServerError):
            await answer(agent(chat("deep"), model=chat("broken")), UNSURE)

    async def test_cannot_be_made_good_by_a_draft_that_was_stopped(
        self, agent: Make, answer: Answer, chat: Chat
    ) -> None:
        counting = make_gate(signal="total_entropy")
        with pytest.raises(InternalServerError):
            await answer(agent(chat("broken"), gate=counting, mode="abort"), "bits=0.5 tokens=200 pace=0.01")


class TestAnInterrupt:
    @needs_config_in_nodes
    async def test_hands_the_turn_to_a_person_and_takes_the_answer(self, agent: Make) -> None:
        def ask_someone(messages: object, draft: AIMessage) -> str:
            return f"They say {interrupt({'draft': draft.text})}."

        for resume in ("invoke", "ainvoke"):
            gated = agent(ask_someone, agents={"checkpointer": InMemorySaver()}, max_deeper_per_run=1)
            config = {"configurable": {"thread_id": "a"}}
            if resume == "invoke":
                stopped = gated.invoke(asking(UNSURE), config)
                state = gated.invoke(Command(resume="yes"), config)
            else:
                stopped = await gated.ainvoke(asking(UNSURE), config)
                state = await gated.ainvoke(Command(resume="yes"), config)
            assert stopped["__interrupt__"][0].value["draft"].startswith("standin-0")
            assert state["messages"][-1].text == "They say yes."
            assert [each["answered_by"] for each in state["tje"]] == ["deeper"]
