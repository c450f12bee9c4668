"""What takes a draft's place in a LangGraph state: a deeper node's answer, or a human's."""

from collections.abc import Callable
from typing import Any, Literal

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langchain_tje import ask_logprobs
from langchain_tje.branches.deeper import rejected_draft
from langchain_tje.graphs.router import EntropyRouter
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.runtime import Runtime
from langgraph.types import Command, StreamWriter, interrupt

from tests.integrations.langchain_tje.conftest import make_gate
from tests.standin import StandIn
from tje_middleware import EntropyGate, TjeWarning

SURE, UNSURE = "bits=0.5 tokens=6 says_model", "bits=2.5 tokens=6 says_model"
THREAD: RunnableConfig = {"configurable": {"thread_id": "1"}}
Chat = Callable[..., ChatOpenAI]


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"fine in {city}"


@pytest.fixture
def router(gate: EntropyGate) -> EntropyRouter:
    return EntropyRouter(gate=gate, deeper="think")


@pytest.fixture
def deep(chat: Chat) -> ChatOpenAI:
    return chat("deep")


@pytest.fixture
def graph(router: EntropyRouter, chat: Chat) -> Callable[..., Any]:
    """Makes graphs of a node that drafts, the gate, and a deeper node."""

    def make(node: Any, *, router: EntropyRouter = router, sees_draft: bool = False, **settings: Any) -> Any:
        return building(router, chat, node, sees_draft=sees_draft).compile(**settings)

    return make


def building(router: EntropyRouter, chat: Chat, node: Any, **settings: Any) -> StateGraph:
    model = ask_logprobs(chat())
    builder = StateGraph(MessagesState)
    builder.add_node("draft", lambda state: {"messages": [router.judge(model.invoke(state["messages"]))]})
    builder.add_node("gate", router, destinations=router.destinations)
    builder.add_node("think", router.replaces_draft(node, **settings))
    builder.add_edge(START, "draft")
    builder.add_edge("draft", "gate")
    return builder


def asked(question: str) -> dict:
    return {"messages": [("user", question)]}


def decision_of(message: Any) -> dict:
    return message.response_metadata["tje"]


class TestDeeperAnswers:
    def nodes(self, model: Runnable) -> dict[str, Any]:
        def update(state: MessagesState) -> dict:
            return {"messages": [model.invoke(state["messages"])]}

        async def on_the_loop(state: MessagesState) -> dict:
            return {"messages": [await model.ainvoke(state["messages"])]}

        def bare(state: MessagesState) -> dict:
            return {"messages": model.invoke(state["messages"])}

        def message(state: MessagesState) -> Any:
            return model.invoke(state["messages"])

        def command(state: MessagesState) -> Command[Literal["__end__"]]:
            return Command(update={"messages": [model.invoke(state["messages"])]}, goto="__end__")

        def pairs(state: MessagesState) -> Command[Literal["__end__"]]:
            return Command(update=[("messages", [model.invoke(state["messages"])])])

        class Node:
            async def __call__(self, state: MessagesState) -> dict:
                return {"messages": [await model.ainvoke(state["messages"])]}

        picked = RunnableLambda(lambda state: state["messages"])
        nodes = (update, on_the_loop, bare, message, command, pairs)
        return {node.__name__: node for node in nodes} | {"Node": Node(), "chain": picked | model}

    @pytest.mark.parametrize(
        "kind", ["update", "on_the_loop", "bare", "message", "command", "pairs", "Node", "chain"]
    )
    async def test_the_answer_of_any_node_takes_the_drafts_place(
        self, graph: Callable, deep: ChatOpenAI, provider: StandIn, kind: str
    ) -> None:
        made = graph(self.nodes(deep)[kind], checkpointer=InMemorySaver())
        state = await made.ainvoke(asked(UNSURE), THREAD)
        _, answer = state["messages"]
        [draft] = [each.values["messages"][-1] for each in made.get_state_history(THREAD) if each.next == ("gate",)]
        assert draft.text.startswith("standin-0")
        assert answer.text.startswith("deep-0")
        assert answer.id == draft.id
        assert decision_of(answer) | {"deeper_usage": None, "answered_by": None} == decision_of(draft)
        assert decision_of(answer)["answered_by"] == "deeper"
        assert [request["model"] for request in provider.requests] == ["standin", "deep"]

    @pytest.mark.parametrize("kind", ["update", "bare", "message", "command", "pairs", "chain"])
    def test_without_an_event_loop_too(self, graph: Callable, deep: ChatOpenAI, kind: str) -> None:
        answer = graph(self.nodes(deep)[kind]).invoke(asked(UNSURE))["messages"][-1]
        assert (answer.text.split("-")[0], decision_of(answer)["answered_by"]) == ("deep", "deeper")

    def test_its_usage_is_that_of_draft_and_deeper_node(self, graph: Callable, deep: ChatOpenAI) -> None:
        answer = graph(self.nodes(deep)["update"]).invoke(asked(UNSURE))["messages"][-1]
        assert answer.usage_metadata["input_tokens"] == 20
        assert answer.usage_metadata["output_tokens"] == 12
        spent = {"input_tokens": 10, "output_tokens": 6, "calls": 1, "partly_known": 0}
        assert (decision_of(answer)["draft_usage"], decision_of(answer)["deeper_usage"]) == (spent, spent)

    def test_every_call_of_the_deeper_node_counts(self, graph: Callable, deep: ChatOpenAI) -> None:
        def think(state: MessagesState) -> dict:
            for _ in range(3):
                answer = deep.invoke(state["messages"])
            return {"messages": [answer]}

        answer = graph(think).invoke(asked(UNSURE))["messages"][-1]
        assert decision_of(answer)["deeper_usage"]["calls"] == 3
        assert answer.usage_metadata["output_tokens"] == 24

    @pytest.mark.parametrize(("sees_draft", "roles"), [(False, ["user"]), (True, ["user", "assistant"])])
    def test_the_deeper_model_is_shown_the_draft_only_where_asked(
        self, graph: Callable, deep: ChatOpenAI, provider: StandIn, sees_draft: bool, roles: list
    ) -> None:
        graph(self.nodes(deep)["update"], sees_draft=sees_draft).invoke(asked(UNSURE))
        assert [message["role"] for message in provider.requests[-1]["messages"]] == roles

    def test_what_looks_for_the_rejected_draft_finds_it(self, graph: Callable) -> None:
        made = graph(lambda _: AIMessage(f"not {rejected_draft().text.split()[0]}"))
        assert made.invoke(asked(UNSURE))["messages"][-1].text == "not standin-0"

    def test_a_node_is_given_what_its_parameters_name(self, router: EntropyRouter, chat: Chat) -> None:
        def think(state: MessagesState, config: RunnableConfig, runtime: Runtime, *, writer: StreamWriter) -> dict:
            writer("thinking")
            return {"messages": [AIMessage(f"{config['metadata']['langgraph_node']} for {runtime.context}")]}

        made = building(router, chat, think).compile()
        *_, last = made.stream(asked(UNSURE), context="you", stream_mode=["custom", "values"])
        assert last[1]["messages"][-1].text == "think for you"

    def test_where_a_node_goes_is_drawn_as_before(self, graph: Callable, deep: ChatOpenAI) -> None:
        edges = {(edge.source, edge.target) for edge in graph(self.nodes(deep)["command"]).get_graph().edges}
        assert ("think", "__end__") in edges

    def test_a_better_answer_replaces_a_deeper_one(self, router: EntropyRouter, deep: ChatOpenAI, chat: Chat) -> None:
        node = router.replaces_draft(self.nodes(deep)["update"])
        draft = router.judge(ask_logprobs(chat()).invoke(UNSURE))
        [first] = node({"messages": [HumanMessage(UNSURE), draft]})["messages"]
        [second] = node({"messages": [HumanMessage(UNSURE), first]})["messages"]
        assert second.id == draft.id
        assert second.usage_metadata["output_tokens"] == 18
        assert decision_of(second)["deeper_usage"]["calls"] == 2

    @pytest.mark.parametrize("result", [None, {"messages": []}, {"notes": "none"}, 3, {"messages": [("user", "?")]}])
    def test_a_node_without_an_answer_is_a_mistake_that_is_named(self, graph: Callable, result: object) -> None:
        with pytest.raises(TypeError, match="the deeper node returned no"):
            graph(lambda _: result).invoke(asked(UNSURE))

    def test_an_asynchronous_chain_needs_an_event_loop(self, graph: Callable) -> None:
        async def think(state: dict) -> AIMessage:
            return AIMessage("thought over")

        with pytest.raises(TypeError, match="asynchronous"):
            graph(RunnableLambda(think)).invoke(asked(UNSURE))


class TestToolsAndAgents:
    QUESTION = 'bits=2.5 tokens=5 call=weather args={"city": "Rome"}'

    def looping(self, router: EntropyRouter, chat: Chat, node: Any) -> Any:
        """The deeper node calls tools and is called again after them."""
        builder = building(router, chat, node)
        builder.add_node("tools", ToolNode([weather]))
        builder.add_conditional_edges("think", tools_condition)
        builder.add_edge("tools", "think")
        return builder.compile()

    async def test_a_deeper_node_may_call_tools(self, router: EntropyRouter, chat: Chat) -> None:
        model = chat("deep").bind_tools([weather])

        async def think(state: MessagesState) -> dict:
            return {"messages": [await model.ainvoke(state["messages"])]}

        state = await self.looping(router, chat, think).ainvoke(asked(self.QUESTION))
        _, call, result, answer = state["messages"]
        assert call.tool_calls[0]["name"] == "weather"
        assert result.text == "fine in Rome"
        assert decision_of(answer)["answered_by"] == decision_of(call)["answered_by"] == "deeper"
        assert decision_of(answer)["deeper_usage"]["calls"] == 2
        # Every message tells of its own; the first one of the draft, too.
        total = sum(message.usage_metadata["output_tokens"] for message in (call, answer))
        spent = [decision_of(answer)[name]["output_tokens"] for name in ("draft_usage", "deeper_usage")]
        assert total == sum(spent)

    def test_a_failure_after_that_is_raised(self, router: EntropyRouter, chat: Chat) -> None:
        model = chat("deep").bind_tools([weather])

        def think(state: MessagesState) -> dict:
            if state["messages"][-1].type == "tool":
                raise ConnectionError("the line is dead")
            return {"messages": [model.invoke(state["messages"])]}

        with pytest.raises(ConnectionError, match="the line is dead"):
            self.looping(router, chat, think).invoke(asked(self.QUESTION))

    def test_an_agent_may_be_the_deeper_node(self, graph: Callable, deep: ChatOpenAI) -> None:
        made = graph(create_agent(deep, [weather]), checkpointer=InMemorySaver())
        question, call, result, answer = made.invoke(asked(self.QUESTION), THREAD)["messages"]
        assert [message.type for message in (question, call, result, answer)] == ["human", "ai", "tool", "ai"]
        assert "tje" not in call.response_metadata
        decision = decision_of(answer)
        assert (decision["answered_by"], decision["deeper_usage"]["calls"]) == ("deeper", 2)
        total = sum(message.usage_metadata["output_tokens"] for message in (call, answer))
        assert total == decision["draft_usage"]["output_tokens"] + decision["deeper_usage"]["output_tokens"]

    def test_an_agent_that_sees_draft_and_history_replaces_the_draft_alone(
        self, graph: Callable, deep: ChatOpenAI, provider: StandIn
    ) -> None:
        made = graph(create_agent(deep, []), sees_draft=True, checkpointer=InMemorySaver())
        for question in (SURE, UNSURE):
            messages = made.invoke(asked(question), THREAD)["messages"]
        assert [message.text.split("-")[0] for message in messages[1::2]] == ["standin", "deep"]
        assert [message.type for message in messages] == ["human", "ai"] * 2
        assert provider.requests[-1]["messages"][-1]["content"].startswith("standin-0")
        assert decision_of(messages[1])["answered_by"] == "draft"

    def test_a_deeper_node_may_answer_with_the_draft_itself(self, graph: Callable) -> None:
        made = graph(lambda state: {"messages": [state["messages"][-1]]}, sees_draft=True)
        _, answer = made.invoke(asked(UNSURE))["messages"]
        assert (answer.text.split("-")[0], decision_of(answer)["answered_by"]) == ("standin", "deeper")
        assert answer.usage_metadata["output_tokens"] == 6

    def test_what_an_agent_spent_before_an_interrupt_counts(self, graph: Callable, deep: ChatOpenAI) -> None:
        @tool
        def book(city: str) -> str:
            """Book a journey."""
            return f"{interrupt('sure?')}, {city}"

        made = graph(create_agent(deep, [book]), checkpointer=InMemorySaver())
        made.invoke(asked('bits=2.5 tokens=5 call=book args={"city": "Rome"}'), THREAD)
        *_, result, answer = made.invoke(Command(resume="yes"), THREAD)["messages"]
        assert result.text == "yes, Rome"
        assert decision_of(answer)["deeper_usage"]["calls"] == 2


class TestFailures:
    def test_the_draft_stays_and_says_so(self, graph: Callable, chat: Chat) -> None:
        made = graph(lambda state: {"messages": [chat("broken").invoke(state["messages"])]})
        with pytest.warns(TjeWarning, match="the deeper branch failed"):
            _, answer = made.invoke(asked(UNSURE))["messages"]
        assert answer.text.startswith("standin-0")
        decision = decision_of(answer)
        assert (decision["reason"], decision["answered_by"], decision["route"]) == (
            "branch_failed",
            "draft",
            "deeper",
        )

    async def test_asynchronously_too(self, graph: Callable, chat: Chat) -> None:
        async def think(state: MessagesState) -> dict:
            return {"messages": [await chat("broken").ainvoke(state["messages"])]}

        with pytest.warns(TjeWarning, match="the deeper branch failed"):
            state = await graph(think).ainvoke(asked(UNSURE))
        assert decision_of(state["messages"][-1])["reason"] == "branch_failed"

    def test_or_the_error_is_raised(self, graph: Callable) -> None:
        def think(state: MessagesState) -> dict:
            raise ConnectionError("the line is dead")

        strict = EntropyRouter(gate=make_gate(), deeper="think", on_branch_error="raise")
        with pytest.raises(ConnectionError, match="the line is dead"):
            graph(think, router=strict).invoke(asked(UNSURE))

    def test_an_interrupt_of_the_deeper_node_is_no_failure(self, graph: Callable) -> None:
        made = graph(lambda _: AIMessage(interrupt("how?")), checkpointer=InMemorySaver())
        assert made.invoke(asked(UNSURE), THREAD)["__interrupt__"][0].value == "how?"
        answer = made.invoke(Command(resume="so"), THREAD)["messages"][-1]
        assert (answer.text, decision_of(answer)["answered_by"]) == ("so", "deeper")


class TestHandingOver:
    def handing(self, gate: EntropyGate, chat: Chat) -> Any:
        """Whatever is unsure is handed over."""
        router = EntropyRouter(gate=gate, deeper="human")
        model = ask_logprobs(chat())
        builder = StateGraph(MessagesState)
        builder.add_node("draft", lambda state: {"messages": [router.judge(model.invoke(state["messages"]))]})
        builder.add_node("gate", router, destinations=router.destinations)
        builder.add_node("human", router.hand_over)
        builder.add_edge(START, "draft")
        builder.add_edge("draft", "gate")
        return builder.compile(checkpointer=InMemorySaver())

    def test_a_human_is_shown_the_question_the_draft_and_the_decision(self, gate: EntropyGate, chat: Chat) -> None:
        graph = self.handing(gate, chat)
        shown = graph.invoke(asked(UNSURE), THREAD)["__interrupt__"][0].value
        draft = graph.get_state(THREAD).values["messages"][-1]
        assert shown == {"question": UNSURE, "draft": draft.text, "decision": decision_of(draft)}

    @pytest.mark.parametrize(
        "reply",
        [
            "Paris",
            {"content": "Paris"},
            {"role": "assistant", "content": "Paris"},
            HumanMessage("Paris"),
            AIMessage("Paris"),
        ],
    )
    def test_the_reply_takes_the_drafts_place(
        self, gate: EntropyGate, chat: Chat, provider: StandIn, reply: object
    ) -> None:
        graph = self.handing(gate, chat)
        graph.invoke(asked(UNSURE), THREAD)
        draft = graph.get_state(THREAD).values["messages"][-1]
        _, answer = graph.invoke(Command(resume=reply), THREAD)["messages"]
        assert (answer.type, answer.text, answer.id) == ("ai", "Paris", draft.id)
        assert decision_of(answer)["answered_by"] == "human"
        assert answer.usage_metadata == draft.usage_metadata
        assert "model_name" not in answer.response_metadata
        assert len(provider.requests) == 1

    @pytest.mark.parametrize("reply", [lambda _: "", lambda pending: {pending.id: None}])
    def test_no_reply_keeps_the_draft(self, gate: EntropyGate, chat: Chat, reply: Callable) -> None:
        graph = self.handing(gate, chat)
        [pending] = graph.invoke(asked(UNSURE), THREAD)["__interrupt__"]
        answer = graph.invoke(Command(resume=reply(pending)), THREAD)["messages"][-1]
        assert answer.text.startswith("standin-0")
        assert decision_of(answer)["answered_by"] == "draft"

    @pytest.mark.parametrize("wrong", [{"answer": "Paris"}, 3])
    def test_what_is_no_reply_can_be_mended(self, gate: EntropyGate, chat: Chat, wrong: object) -> None:
        graph = self.handing(gate, chat)
        graph.invoke(asked(UNSURE), THREAD)
        [again] = graph.invoke(Command(resume=wrong), THREAD)["__interrupt__"]
        assert "'content'" in again.value["problem"]
        assert graph.invoke(Command(resume="Paris"), THREAD)["messages"][-1].text == "Paris"

    async def test_asynchronously_too(self, gate: EntropyGate, chat: Chat) -> None:
        graph = self.handing(gate, chat)
        assert "__interrupt__" in await graph.ainvoke(asked(UNSURE), THREAD)
        answer = (await graph.ainvoke(Command(resume="Paris"), THREAD))["messages"][-1]
        assert (answer.text, decision_of(answer)["answered_by"]) == ("Paris", "human")

    def test_a_confident_draft_disturbs_nobody(self, gate: EntropyGate, chat: Chat) -> None:
        assert "__interrupt__" not in self.handing(gate, chat).invoke(asked(SURE), THREAD)
