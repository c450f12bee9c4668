"""The gate next to LangChain's own middleware, in front of it and behind it, in agents that really run."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    AgentMiddleware,
    ClearToolUsesEdit,
    ContextEditingMiddleware,
    HumanInTheLoopMiddleware,
    LLMToolSelectorMiddleware,
    ModelCallLimitMiddleware,
    ModelFallbackMiddleware,
    ModelResponse,
    ModelRetryMiddleware,
    PIIMiddleware,
    SummarizationMiddleware,
    TodoListMiddleware,
    ToolRetryMiddleware,
)
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langchain_tje import EntropyGateMiddleware
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from tests.integrations.langchain_tje.conftest import make_gate
from tests.releases import needs_config_in_nodes
from tests.standin import StandIn
from tje_middleware import EntropyGate
from tje_middleware.errors import TjeWarning

SURE, UNSURE = "bits=0.5 says_model", "bits=2.5 says_model"
CALL = 'says_model call=look args={"word": "moon"}'
Chat = Callable[..., ChatOpenAI]
Answer = Callable[..., Awaitable[dict[str, Any]]]
Together = Callable[..., Any]


@tool
def look(word: str) -> str:
    """Look a word up."""
    return f"seen {word}"


@tool
def jump(height: int) -> str:
    """Jump."""
    return f"{height} high"


def asking(text: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


def thread(name: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": name}}


def models_asked(provider: StandIn) -> list[str]:
    return [request["model"] for request in provider.requests]


def writer_of(state: dict[str, Any]) -> str:
    return state["messages"][-1].text.split("-")[0]


def reasons(state: dict[str, Any]) -> list[str]:
    return [decision["reason"] for decision in state["tje"]]


@pytest.fixture(params=["invoke", "ainvoke"])
def answer(request: pytest.FixtureRequest) -> Answer:
    """Asks an agent, with and without an event loop."""

    async def ask(agent: Any, given: Any, config: Any = None) -> dict[str, Any]:
        given = asking(given) if isinstance(given, str) else given
        if request.param == "invoke":
            return agent.invoke(given, config)
        return await agent.ainvoke(given, config)

    return ask


@pytest.fixture(params=["gate last", "gate first"])
def order(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def together(order: str, chat: Chat, gate: EntropyGate) -> Together:
    """Makes agents with a gate and another middleware, in either order."""

    def make(
        other: AgentMiddleware, *, model: Any = None, tools: Any = (), agents: Any = None, **options: Any
    ) -> Any:
        gating = EntropyGateMiddleware(**{"gate": gate, "deeper": chat("deep"), **options})
        middleware = [other, gating] if order == "gate last" else [gating, other]
        return create_agent(model or chat(), tools=list(tools), middleware=middleware, **(agents or {}))

    return make


class TestModelRetry:
    def retry(self, **options: Any) -> ModelRetryMiddleware:
        return ModelRetryMiddleware(initial_delay=0, jitter=False, **options)

    async def test_repeats_a_draft_that_failed(
        self, together: Together, answer: Answer, chat: Chat, provider: StandIn
    ) -> None:
        agent = together(self.retry(), model=chat("flaky-2"), gate=make_gate(model="flaky-2"))
        state = await answer(agent, UNSURE)
        assert (reasons(state), writer_of(state)) == (["uncertain"], "deep")
        assert models_asked(provider) == ["flaky-2"] * 3 + ["deep"]
        assert provider.asked_for_logprobs() == [20, 20, 20, None]

    async def test_repeats_a_deeper_branch_that_failed_and_in_front_the_draft_with_it(
        self, together: Together, answer: Answer, chat: Chat, provider: StandIn, order: str
    ) -> None:
        agent = together(self.retry(), deeper=chat("flaky-1"), on_branch_error="raise", max_deeper_per_turn=2)
        state = await answer(agent, UNSURE)
        assert (reasons(state), writer_of(state)) == (["uncertain"], "flaky")
        draft_again = ["standin"] if order == "gate last" else []
        assert models_asked(provider) == ["standin", "flaky-1", *draft_again, "flaky-1"]

    async def test_in_front_is_held_to_the_caps_of_the_turn_and_the_run(
        self, chat: Chat, gate: EntropyGate, answer: Answer, provider: StandIn
    ) -> None:
        for cap in ({"max_deeper_per_turn": 1}, {"max_deeper_per_turn": None, "max_deeper_per_run": 1}):
            gating = EntropyGateMiddleware(gate=gate, deeper=chat("broken"), on_branch_error="raise", **cap)
            agent = create_agent(chat(), middleware=[self.retry(max_retries=5), gating])
            state = await answer(agent, UNSURE)
            assert (reasons(state), writer_of(state)) == (["capped"], "standin")
        assert models_asked(provider) == ["standin", "broken", "standin"] * 2

    async def test_that_gives_up_behind_the_gate_leaves_a_message_that_cannot_be_judged(
        self, chat: Chat, gate: EntropyGate, answer: Answer
    ) -> None:
        gating = EntropyGateMiddleware(gate=gate, deeper=chat("deep"))
        agent = create_agent(chat("broken"), middleware=[gating, self.retry(max_retries=1)])
        with pytest.warns(TjeWarning):
            state = await answer(agent, SURE)
        assert (reasons(state), writer_of(state)) == (["no_logprobs"], "deep")


class TestModelFallback:
    async def test_in_front_brings_in_a_model_that_is_gated_behind_one_that_is_not_asked(
        self, together: Together, answer: Answer, chat: Chat, provider: StandIn, order: str
    ) -> None:
        agent = together(ModelFallbackMiddleware(chat()), model=chat("broken"))
        if order == "gate last":
            state = await answer(agent, SURE)
            assert (reasons(state), writer_of(state)) == (["confident"], "standin")
            assert provider.asked_for_logprobs() == [20, 20]
        else:
            with pytest.warns(TjeWarning):
                state = await answer(agent, SURE)
            assert (reasons(state), writer_of(state)) == (["no_logprobs"], "deep")
            assert provider.asked_for_logprobs() == [20, None, None]
            assert state["tje"][0]["draft_usage"]["output_tokens"] == 4

    async def test_that_is_not_needed_changes_nothing(self, together: Together, answer: Answer, chat: Chat) -> None:
        state = await answer(together(ModelFallbackMiddleware(chat("other"))), UNSURE)
        assert (reasons(state), writer_of(state)) == (["uncertain"], "deep")

    async def test_behind_shows_no_token_of_a_draft_that_it_wrote(self, chat: Chat, gate: EntropyGate) -> None:
        gating = EntropyGateMiddleware(gate=gate, deeper=chat("deep"))
        agent = create_agent(chat("broken"), middleware=[gating, ModelFallbackMiddleware(chat("other"))])
        with pytest.warns(TjeWarning):
            shown = [chunk.text for chunk, _ in agent.stream(asking(SURE), stream_mode="messages") if chunk.text]
        assert shown == [f"deep-{number} " for number in range(4)]


class TestModelCallLimit:
    async def test_counts_a_draft_and_its_deeper_answer_as_one(
        self, together: Together, answer: Answer, provider: StandIn
    ) -> None:
        agent = together(ModelCallLimitMiddleware(run_limit=1), tools=[look])
        with pytest.warns(TjeWarning):
            state = await answer(agent, f"bits=2.5 {CALL}")
        assert models_asked(provider) == ["standin", "deep"]
        assert "limits exceeded" in state["messages"][-1].text
        assert reasons(state) == ["no_logprobs"]


class TestSummarization:
    async def test_shortens_what_both_models_read(
        self, together: Together, answer: Answer, chat: Chat, provider: StandIn
    ) -> None:
        other = SummarizationMiddleware(model=chat("short"), trigger=("messages", 3), keep=("messages", 1))
        agent = together(other, agents={"checkpointer": InMemorySaver()})
        await answer(agent, SURE, thread("a"))
        state = await answer(agent, UNSURE, thread("a"))
        assert (reasons(state), writer_of(state)) == (["confident", "uncertain"], "deep")
        assert models_asked(provider) == ["standin", "short", "standin", "deep"]
        draft, deeper = (request["messages"] for request in provider.requests[2:])
        assert draft == deeper
        assert [message["content"] for message in draft][1:] == [UNSURE]


class TestHumanInTheLoop:
    @needs_config_in_nodes
    async def test_asks_a_person_about_the_call_that_was_delivered(self, together: Together, answer: Answer) -> None:
        other = HumanInTheLoopMiddleware(interrupt_on={"look": True})
        agent = together(other, tools=[look], agents={"checkpointer": InMemorySaver()})
        with pytest.warns(TjeWarning):
            stopped = await answer(agent, f"bits=0.5 {CALL}", thread("a"))
        assert stopped["__interrupt__"][0].value["action_requests"][0]["name"] == "look"
        state = await answer(agent, Command(resume={"decisions": [{"type": "approve"}]}), thread("a"))
        assert reasons(state) == ["no_logprobs", "confident"]
        assert [message.type for message in state["messages"]] == ["human", "ai", "tool", "ai"]


class TestContextEditing:
    async def test_edits_what_both_models_read(self, together: Together, answer: Answer, provider: StandIn) -> None:
        other = ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=1, keep=0, placeholder="[gone]")])
        agent = together(other, tools=[look], tool_calls="pass")
        state = await answer(agent, f"bits=2.5 {CALL}")
        assert (reasons(state), writer_of(state)) == (["tool_call", "uncertain"], "deep")
        for request in provider.requests[1:]:
            assert [each["content"] for each in request["messages"] if each["role"] == "tool"] == ["[gone]"]


class TestTodoList:
    async def test_tells_both_models_of_its_tool_next_to_the_gates_instruction(
        self, together: Together, answer: Answer, provider: StandIn, order: str
    ) -> None:
        agent = together(TodoListMiddleware(system_prompt="Keep a list."), instruction="Check twice.")
        state = await answer(agent, UNSURE)
        assert (reasons(state), writer_of(state)) == (["uncertain"], "deep")
        draft, deeper = provider.requests
        assert [each["function"]["name"] for each in draft["tools"]] == ["write_todos"]
        assert draft["tools"] == deeper["tools"]
        told = [_text(request["messages"][0]["content"]).split("\n\n") for request in (draft, deeper)]
        both = ["Keep a list.", "Check twice."] if order == "gate last" else ["Check twice.", "Keep a list."]
        assert [[line for line in lines if line] for lines in told] == [["Keep a list."], both]


class TestPII:
    async def test_redacts_what_is_read_and_what_is_delivered(
        self, together: Together, answer: Answer, provider: StandIn
    ) -> None:
        other = PIIMiddleware("email", strategy="redact", apply_to_input=True, apply_to_output=True)
        state = await answer(together(other), 'bits=2.5 tokens=2 says="to a@example.org"')
        assert all("a@example.org" not in str(request["messages"]) for request in provider.requests)
        assert "a@example.org" not in state["messages"][-1].text
        assert reasons(state) == ["uncertain"]

    async def test_leaves_the_decision_where_it_was(self, together: Together, answer: Answer) -> None:
        other = PIIMiddleware("word", detector=r"deep-\d", strategy="redact", apply_to_output=True)
        state = await answer(together(other), UNSURE)
        assert "[REDACTED_WORD]" in state["messages"][-1].text
        assert (reasons(state), state["tje"][0]["answered_by"]) == (["uncertain"], "deeper")


class TestToolRetry:
    async def test_repeats_the_tool_between_two_gated_turns(self, together: Together, answer: Answer) -> None:
        tries: list[str] = []

        @tool
        def look(word: str) -> str:
            """Look a word up."""
            tries.append(word)
            if len(tries) == 1:
                raise OSError("it is dark")
            return f"seen {word}"

        other = ToolRetryMiddleware(initial_delay=0, jitter=False)
        state = await answer(together(other, tools=[look], tool_calls="pass"), f"bits=2.5 {CALL}")
        assert tries == ["moon", "moon"]
        assert (reasons(state), writer_of(state)) == (["tool_call", "uncertain"], "deep")


class Forgets(AgentMiddleware):
    """Takes the config away, which on Python 3.10 a graph's asynchronous nodes have not."""

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        token = var_child_runnable_config.set(None)
        try:
            return handler(request)
        finally:
            var_child_runnable_config.reset(token)

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        token = var_child_runnable_config.set(None)
        try:
            return await handler(request)
        finally:
            var_child_runnable_config.reset(token)


class TestWithoutAConfig:
    @pytest.mark.parametrize(("question", "reason"), [(SURE, "confident"), (UNSURE, "uncertain")])
    async def test_all_is_judged_and_counted_and_no_event_is_dispatched(
        self, chat: Chat, gate: EntropyGate, answer: Answer, question: str, reason: str
    ) -> None:
        gating = EntropyGateMiddleware(gate=gate, deeper=chat("deep"))
        state = await answer(create_agent(chat(), middleware=[Forgets(), gating]), question)
        assert reasons(state) == [reason]
        assert state["tje"][0]["draft_usage"]["output_tokens"] == 4


class SaysNothing(AgentMiddleware):
    """Answers in the model's place, with nothing."""

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        return ModelResponse(result=[])

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        return ModelResponse(result=[])


class TestNoAnswer:
    async def test_leaves_nothing_to_judge(
        self, chat: Chat, gate: EntropyGate, answer: Answer, provider: StandIn
    ) -> None:
        gating = EntropyGateMiddleware(gate=gate, deeper=chat("deep"))
        state = await answer(create_agent(chat(), middleware=[gating, SaysNothing()]), SURE)
        assert [message.type for message in state["messages"]] == ["human"]
        assert state["tje"] == []
        assert provider.requests == []


class TestLLMToolSelector:
    async def test_selects_for_both_models_and_behind_the_gate_for_each(
        self, together: Together, answer: Answer, chat: Chat, provider: StandIn, order: str
    ) -> None:
        other = LLMToolSelectorMiddleware(model=chat("selector"), always_include=["look"])
        state = await answer(together(other, tools=[look, jump]), UNSURE)
        assert (reasons(state), writer_of(state)) == (["uncertain"], "deep")
        again = [] if order == "gate last" else ["selector"]
        assert models_asked(provider) == ["selector", "standin", *again, "deep"]
        for request in provider.requests:
            if request["model"] != "selector":
                assert [each["function"]["name"] for each in request["tools"]] == ["look"]
        calls = [state["tje"][0][part]["calls"] for part in ("draft_usage", "deeper_usage")]
        assert calls == ([1, 1] if order == "gate last" else [2, 2])

    async def test_may_select_with_the_agents_model(self, together: Together, answer: Answer) -> None:
        other = LLMToolSelectorMiddleware(always_include=["look"])
        state = await answer(together(other, tools=[look, jump]), UNSURE)
        assert (reasons(state), writer_of(state)) == (["uncertain"], "deep")


class TestASecondGate:
    def gates(self, chat: Chat, outer: EntropyGate, inner: EntropyGate, **options: Any) -> list[AgentMiddleware]:
        return [
            EntropyGateMiddleware(gate=outer, deeper=chat("deepest"), name="outer", **options),
            EntropyGateMiddleware(gate=inner, deeper=chat("deep"), name="inner", **options),
        ]

    async def test_judges_what_the_first_one_delivers(
        self, chat: Chat, gate: EntropyGate, answer: Answer, provider: StandIn
    ) -> None:
        agent = create_agent(chat(), middleware=self.gates(chat, make_gate(model="deep"), gate, max_deeper_per_run=5))
        state = await answer(agent, UNSURE)
        assert (reasons(state), writer_of(state)) == (["uncertain"], "deepest")
        assert models_asked(provider) == ["standin", "deep", "deepest"]
        assert provider.asked_for_logprobs() == [20, 20, None]
        assert state["tje"][0]["draft_usage"]["calls"] == 2

    async def test_that_is_satisfied_leaves_two_decisions(
        self, chat: Chat, gate: EntropyGate, answer: Answer, provider: StandIn
    ) -> None:
        agent = create_agent(chat(), middleware=self.gates(chat, make_gate(), gate, max_deeper_per_run=5))
        state = await answer(agent, SURE)
        assert (reasons(state), writer_of(state)) == (["confident", "confident"], "standin")
        assert models_asked(provider) == ["standin"]

    async def test_holds_back_what_the_first_one_went_deeper_for(self, chat: Chat, gate: EntropyGate) -> None:
        agent = create_agent(chat(), middleware=self.gates(chat, make_gate(model="deep"), gate))
        shown = [chunk.text for chunk, _ in agent.stream(asking(UNSURE), stream_mode="messages") if chunk.text]
        assert shown == [f"deepest-{number} " for number in range(4)]

    @needs_config_in_nodes
    async def test_streams_no_event_of_what_the_first_one_went_deeper_for(
        self, chat: Chat, gate: EntropyGate
    ) -> None:
        agent = create_agent(chat(), middleware=self.gates(chat, make_gate(model="deep"), gate))
        events = [event async for event in agent.astream_events(asking(UNSURE), version="v2")]
        streamed = [event for event in events if event["event"] == "on_chat_model_stream"]
        assert {event["metadata"]["ls_model_name"] for event in streamed} == {"deepest"}

    async def test_that_goes_deeper_through_the_first_one_leaves_its_count_of_the_run(
        self, chat: Chat, gate: EntropyGate, answer: Answer, provider: StandIn
    ) -> None:
        call, stop = 'call=look args={"word": "moon"}', "bits=2.5"
        outer = EntropyGateMiddleware(
            gate=make_gate(model="deep"), deeper=chat("deepest"), name="outer", tool_calls="deeper_on_unknown"
        )
        inner = EntropyGateMiddleware(gate=gate, deeper=chat("deep"), name="inner", max_deeper_per_run=1)
        agent = create_agent(chat(), tools=[look], middleware=[outer, inner])
        with pytest.warns(TjeWarning):
            await answer(agent, f"{stop} says_model {call}")
        # In the second turn the inner gate has gone deeper as often as it may.
        assert models_asked(provider) == ["standin", "deep", "deepest", "standin", "deepest"]

    def test_of_the_same_name_is_refused_by_the_agent(self, chat: Chat, gate: EntropyGate) -> None:
        gating = [EntropyGateMiddleware(gate=gate, deeper=chat("deep")) for _ in range(2)]
        with pytest.raises(AssertionError, match="duplicate middleware"):
            create_agent(chat(), middleware=gating)


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "\n\n".join(block["text"] for block in content)


class TestAMiddlewareThatAsksSeveralTimesAtOnce:
    async def test_gets_answers_that_are_each_decided_by_themselves(self, chat: Chat, gate: EntropyGate) -> None:
        class Hedging(AgentMiddleware):
            async def awrap_model_call(self, request: Any, handler: Any) -> Any:
                async def ask(number: int) -> Any:
                    await asyncio.sleep(0.1 * number)
                    return await handler(request)

                return (await asyncio.gather(*(ask(number) for number in range(3))))[1]

        async def slow(messages: object) -> AIMessage:
            await asyncio.sleep(0.3)
            return AIMessage("slow and deep")

        gated = EntropyGateMiddleware(gate=gate, deeper=slow, max_deeper_per_turn=None)
        agent = create_agent(chat(), middleware=[Hedging(), gated])
        message = (await agent.ainvoke(asking(UNSURE)))["messages"][-1]
        assert message.text == "slow and deep"
        assert message.response_metadata["tje"]["answered_by"] == "deeper"
