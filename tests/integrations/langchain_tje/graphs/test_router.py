"""EntropyRouter in LangGraph graphs: where drafts go, and what is in the state afterwards."""

import asyncio
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from langchain_tje import ask_logprobs
from langchain_tje.graphs.router import EntropyRouter
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command, Send
from pydantic import BaseModel

from tests.integrations.langchain_tje.conftest import MODEL, make_gate
from tests.samples import profile
from tests.standin import StandIn
from tje_middleware import EntropyGate, GateDecision, GateError, ProfileKey, Threshold, TjeWarning

SURE, UNSURE, HOPELESS = "bits=0.5 tokens=6", "bits=2.5 tokens=6", "bits=4.0 tokens=6"
THREAD = {"configurable": {"thread_id": "1"}}
Chat = Callable[..., ChatOpenAI]


class Plain(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


class Model(BaseModel):
    messages: Annotated[list[AnyMessage], add_messages] = []


@dataclass
class Data:
    messages: Annotated[list[AnyMessage], add_messages] = field(default_factory=list)


class Logged(MessagesState):
    decisions: Annotated[list[dict], operator.add]


@pytest.fixture
def model(chat: Chat) -> Any:
    return ask_logprobs(chat())


@pytest.fixture
def router(gate: EntropyGate) -> EntropyRouter:
    return EntropyRouter(gate=gate, deeper="think")


def abstaining(**settings: Any) -> EntropyRouter:
    """Gives drafts of more than 3 bits up."""
    known = profile(1.0, key=ProfileKey(model=MODEL, task="t", temperature=0.0))
    gate = EntropyGate(known.model_copy(update={"abstain": Threshold(value=3.0)}), abstain=True)
    return EntropyRouter(gate=gate, deeper="think", **settings)


def messages_in(state: Any) -> list[AnyMessage]:
    if isinstance(state, list):
        return state
    return state["messages"] if isinstance(state, dict) else state.messages


def gated(router: EntropyRouter, model: Any, *, schema: Any = MessagesState, judges: bool = False) -> StateGraph:
    """A graph of a node that drafts, the router's node, and a deeper node."""

    def answer(state: Any) -> Any:
        message = model.invoke(messages_in(state))
        message = router.judge(message) if judges else message
        return [message] if isinstance(state, list) else {"messages": [message]}

    def think(state: Any) -> Any:
        return AIMessage("thought over")

    builder = StateGraph(schema)
    builder.add_node("draft", answer)
    builder.add_node("gate", router, destinations=router.destinations)
    builder.add_node("think", router.replaces_draft(think))
    builder.add_edge(START, "draft")
    builder.add_edge("draft", "gate")
    return builder


def ask(graph: Any, question: str, **config: Any) -> AIMessage:
    return graph.invoke({"messages": [("user", question)]}, **config)["messages"][-1]


def decision_of(message: AnyMessage) -> dict:
    return message.response_metadata["tje"]


class TestNode:
    def test_a_confident_draft_ends_the_graph(self, router: EntropyRouter, model: Any) -> None:
        answer = ask(gated(router, model).compile(), SURE)
        assert answer.text.startswith("w0 w1")
        decision = decision_of(answer)
        assert (decision["route"], decision["answered_by"]) == ("final", "draft")
        assert decision["signal_value"] == pytest.approx(0.5, abs=1e-9)
        assert decision["draft_usage"] == {"input_tokens": 10, "output_tokens": 6, "calls": 1, "partly_known": 0}

    def test_an_unsure_draft_goes_to_the_deeper_node(self, router: EntropyRouter, model: Any) -> None:
        answer = ask(gated(router, model).compile(), UNSURE)
        assert (answer.text, decision_of(answer)["route"]) == ("thought over", "deeper")

    async def test_the_asynchronous_graph_decides_alike(self, router: EntropyRouter, model: Any) -> None:
        graph = gated(router, model).compile()
        for question, route in ((SURE, "final"), (UNSURE, "deeper")):
            state = await graph.ainvoke({"messages": [("user", question)]})
            assert decision_of(state["messages"][-1])["route"] == route

    @pytest.mark.parametrize("schema", [Plain, Model, Data, Annotated[list, add_messages]])
    def test_a_state_of_any_form_is_read_and_written(self, router: EntropyRouter, model: Any, schema: Any) -> None:
        graph = gated(router, model, schema=schema).compile()
        is_list = schema not in (Plain, Model, Data)
        for question, route in ((SURE, "final"), (UNSURE, "deeper")):
            asked = [HumanMessage(question)]
            state = graph.invoke(asked if is_list else {"messages": asked})
            messages = messages_in(state)
            assert [message.type for message in messages] == ["human", "ai"]
            assert decision_of(messages[-1])["route"] == route

    def test_the_messages_may_have_another_name(self, gate: EntropyGate, model: Any) -> None:
        class Named(TypedDict):
            talk: Annotated[list[AnyMessage], add_messages]

        router = EntropyRouter(gate=gate, deeper="think", messages_key="talk")
        builder = StateGraph(Named)
        builder.add_node("draft", lambda state: {"talk": [model.invoke(state["talk"])]})
        builder.add_node("gate", router, destinations=router.destinations)
        builder.add_node("think", router.replaces_draft(lambda _: AIMessage("thought over")))
        builder.add_edge(START, "draft")
        builder.add_edge("draft", "gate")
        talk = builder.compile().invoke({"talk": [("user", UNSURE)]})["talk"]
        assert [message.text for message in talk] == [UNSURE, "thought over"]

    def test_decisions_are_collected_in_the_state_where_that_is_asked_for(
        self, gate: EntropyGate, model: Any
    ) -> None:
        router = EntropyRouter(gate=gate, deeper="think", decisions_key="decisions")
        graph = gated(router, model, schema=Logged).compile(checkpointer=InMemorySaver())
        for question in (SURE, UNSURE):
            state = graph.invoke({"messages": [("user", question)]}, THREAD)
        assert [decision["route"] for decision in state["decisions"]] == ["final", "deeper"]

    def test_a_hopeless_draft_goes_where_it_is_given_up(self, model: Any) -> None:
        router = abstaining(abstain="give_up")
        builder = gated(router, model)
        builder.add_node("give_up", lambda _: {"messages": [AIMessage("nobody knows")]})
        graph = builder.compile()
        assert ask(graph, HOPELESS).text == "nobody knows"
        assert ask(graph, UNSURE).text == "thought over"

    def test_a_hopeless_draft_is_the_answer_where_nothing_else_is_named(self, model: Any) -> None:
        answer = ask(gated(abstaining(), model).compile(), HOPELESS)
        assert (decision_of(answer)["route"], decision_of(answer)["answered_by"]) == ("abstain", "draft")

    def test_the_drawn_graph_shows_where_the_gate_may_go(self, model: Any) -> None:
        router = abstaining(abstain="give_up")
        builder = gated(router, model)
        builder.add_node("give_up", lambda _: None)
        edges = {(edge.source, edge.target) for edge in builder.compile().get_graph().edges}
        assert {("gate", "think"), ("gate", "__end__"), ("gate", "give_up")} <= edges

    def test_a_policy_that_does_not_exist_is_refused(self, gate: EntropyGate) -> None:
        with pytest.raises(ValueError, match="on_branch_error must be one of"):
            EntropyRouter(gate=gate, deeper="think", on_branch_error="ignore")


class TestEdge:
    def edged(self, router: EntropyRouter, model: Any, *, judges: bool) -> Any:
        def draft(state: MessagesState) -> dict:
            message = model.invoke(state["messages"])
            return {"messages": [router.judge(message) if judges else message]}

        builder = StateGraph(MessagesState)
        builder.add_node(draft)
        builder.add_node("think", router.replaces_draft(lambda _: AIMessage("thought over")))
        builder.add_edge(START, "draft")
        builder.add_conditional_edges("draft", router.route, router.path_map)
        return builder.compile()

    @pytest.mark.parametrize("judges", [True, False])
    def test_it_leads_where_the_node_would_go(self, router: EntropyRouter, model: Any, judges: bool) -> None:
        graph = self.edged(router, model, judges=judges)
        assert ask(graph, SURE).text.startswith("w0")
        assert ask(graph, UNSURE).text == "thought over"
        assert decision_of(ask(graph, UNSURE))["answered_by"] == "deeper"

    async def test_asynchronously_too(self, router: EntropyRouter, model: Any) -> None:
        state = await self.edged(router, model, judges=True).ainvoke({"messages": [("user", UNSURE)]})
        assert state["messages"][-1].text == "thought over"

    def test_it_is_drawn(self, router: EntropyRouter, model: Any) -> None:
        edges = {(edge.source, edge.target) for edge in self.edged(router, model, judges=True).get_graph().edges}
        assert {("draft", "think"), ("draft", "__end__")} <= edges

    @pytest.mark.parametrize("form", [lambda messages: messages, Data])
    def test_it_needs_no_graph_around_it(self, router: EntropyRouter, model: Any, form: Callable) -> None:
        assert router.route(form([model.invoke(SURE)])) == END
        assert router.route(form([model.invoke(UNSURE)])) == "think"

    def test_a_draft_is_judged_once(self, model: Any) -> None:
        router = EntropyRouter(gate=make_gate(), deeper="think")
        judged = router.judge(model.invoke(SURE))
        assert "logprobs" not in judged.response_metadata
        assert router.route([judged]) == END

    def test_the_decision_of_another_gate_is_not_taken_over(self, model: Any) -> None:
        lax, strict = (EntropyRouter(gate=make_gate().with_threshold(bits), deeper="think") for bits in (4.0, 0.1))
        with pytest.warns(TjeWarning, match="without logprobs"):
            assert strict.route([lax.judge(model.invoke(SURE))]) == "think"

    @pytest.mark.parametrize("settled", [{"answered_by": "deeper"}, {"answered_by": "human"}, {"reason": "capped"}])
    def test_a_draft_that_was_dealt_with_does_not_go_round_again(
        self, router: EntropyRouter, model: Any, settled: dict
    ) -> None:
        message = router.judge(model.invoke(UNSURE))
        decision_of(message).update(settled)
        assert router.route([message]) == END


class TestJudging:
    def test_the_message_holds_the_decision_and_no_logprobs(self, router: EntropyRouter, model: Any) -> None:
        draft = model.invoke(UNSURE)
        judged = router.judge(draft)
        assert decision_of(judged)["signal_value"] == pytest.approx(2.5, abs=1e-9)
        assert "logprobs" not in judged.response_metadata
        assert (judged.id, judged.text) == (draft.id, draft.text)

    def test_the_message_that_was_given_stays_as_it_was(self, router: EntropyRouter, model: Any) -> None:
        draft = model.invoke(UNSURE)
        router.judge(draft)
        assert "logprobs" in draft.response_metadata
        assert "tje" not in draft.response_metadata

    def test_only_messages_of_models_are_drafts(self, router: EntropyRouter) -> None:
        with pytest.raises(TypeError, match="a draft is an AIMessage, not a str"):
            router.judge("an answer")

    def test_a_snapshots_name_is_the_models(self, chat: Chat) -> None:
        router = EntropyRouter(gate=make_gate("dated"), deeper="think")
        judged = router.judge(ask_logprobs(chat("dated")).invoke(SURE))
        assert judged.response_metadata["model_name"] == "dated-2026-01-01"
        assert decision_of(judged)["reason"] == "confident"

    def test_another_models_draft_is_unknown(self, router: EntropyRouter, chat: Chat) -> None:
        with pytest.warns(TjeWarning, match="written by 'other'"):
            judged = router.judge(ask_logprobs(chat("other")).invoke(SURE))
        assert decision_of(judged)["reason"] == "other_settings"

    def test_a_draft_without_an_id_gets_one(self, router: EntropyRouter, model: Any) -> None:
        first, second = (router.judge(model.invoke(SURE).model_copy(update={"id": None})) for _ in range(2))
        assert first.id
        assert first.id != second.id

    def test_a_decision_that_cannot_be_read_is_none(self, router: EntropyRouter, model: Any) -> None:
        for unreadable in ({}, {"route": "elsewhere"}, {"route": "final"}, "final"):
            draft = model.invoke(UNSURE)
            draft.response_metadata["tje"] = unreadable
            assert decision_of(router.judge(draft))["reason"] == "uncertain"


class TestUnknownDrafts:
    def test_a_draft_without_logprobs_goes_deeper_and_the_warning_helps(
        self, router: EntropyRouter, chat: Chat
    ) -> None:
        graph = gated(router, chat()).compile()
        with pytest.warns(TjeWarning, match=r"ask_logprobs\(model\)") as said:
            answers = [ask(graph, SURE), ask(graph, SURE)]
        assert [decision_of(answer)["reason"] for answer in answers] == ["no_logprobs"] * 2
        assert [answer.text for answer in answers] == ["thought over"] * 2
        assert sum(issubclass(warning.category, TjeWarning) for warning in said) == 1

    @pytest.mark.filterwarnings("ignore::tje_middleware.errors.TjeWarning")
    def test_or_where_the_gates_policy_says(self, chat: Chat) -> None:
        router = EntropyRouter(gate=make_gate(on_missing="final"), deeper="think")
        assert router.route([chat().invoke(SURE)]) == END
        router = EntropyRouter(gate=make_gate(on_missing="raise"), deeper="think")
        with pytest.raises(GateError, match=r"ask_logprobs\(model\)"):
            gated(router, chat()).compile().invoke({"messages": [("user", SURE)]})

    def test_the_call_of_a_tool_is_unknown_unless_its_tokens_came(self, chat: Chat) -> None:
        tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
        routers = {name: EntropyRouter(gate=make_gate(name), deeper="think") for name in ("plain", "x-toollogprobs")}
        drafts = {name: ask_logprobs(chat(name)).bind_tools([tool]).invoke("bits=0.5 call=look") for name in routers}
        assert all(draft.tool_calls for draft in drafts.values())
        with pytest.warns(TjeWarning, match="cannot be judged"):
            assert decision_of(routers["plain"].judge(drafts["plain"]))["reason"] == "no_logprobs"
        measured = decision_of(routers["x-toollogprobs"].judge(drafts["x-toollogprobs"]))
        assert (measured["route"], measured["signal_value"]) == ("final", pytest.approx(0.5, abs=1e-9))

    @pytest.mark.parametrize(
        ("state", "said"),
        [
            ({"messages": []}, "'messages' is empty"),
            ({"messages": [HumanMessage("?")]}, "is a HumanMessage"),
            ({"messages": [AIMessage(""), ToolMessage("42", tool_call_id="1")]}, "is a ToolMessage"),
            ({"talk": []}, "the state has no 'messages' but 'talk'"),
            ({}, "but nothing"),
            ([], "'messages' is empty"),
        ],
    )
    def test_a_state_without_a_draft_is_a_mistake_that_is_named(
        self, router: EntropyRouter, state: object, said: str
    ) -> None:
        for use in (router, router.route, router.hand_over, router.replaces_draft(lambda state: state)):
            with pytest.raises(ValueError, match=said):
                use(state)

    @pytest.mark.parametrize(("state", "said"), [("text", "not a str"), ({"messages": 3}, "holds a int")])
    def test_so_is_what_is_no_state(self, router: EntropyRouter, state: object, said: str) -> None:
        with pytest.raises(TypeError, match=said):
            router(state)


class TestStreams:
    def test_the_decision_is_streamed_where_somebody_listens(self, router: EntropyRouter, model: Any) -> None:
        graph = gated(router, model).compile()
        streamed = list(graph.stream({"messages": [("user", UNSURE)]}, stream_mode="custom"))
        assert [part["tje"]["route"] for part in streamed] == ["deeper"]

    @pytest.mark.parametrize("judges", [True, False])
    async def test_once_wherever_it_is_made(self, router: EntropyRouter, model: Any, judges: bool) -> None:
        graph = gated(router, model, judges=judges).compile()
        parts = [part async for part in graph.astream({"messages": [("user", SURE)]}, stream_mode="custom")]
        assert [part["tje"]["route"] for part in parts] == ["final"]

    async def test_callbacks_receive_it_as_an_event(self, router: EntropyRouter, model: Any) -> None:
        heard = []

        class Listener(BaseCallbackHandler):
            def on_custom_event(self, name: str, data: Any, **kwargs: Any) -> None:
                heard.append((name, data["route"]))

        graph, listening = gated(router, model).compile(), {"callbacks": [Listener()]}
        ask(graph, UNSURE, config=listening)
        await graph.ainvoke({"messages": [("user", SURE)]}, listening)
        assert heard == [("tje_decision", "deeper"), ("tje_decision", "final")]

    def test_an_edge_tells_of_it_too(self, router: EntropyRouter, model: Any) -> None:
        builder = StateGraph(MessagesState)
        builder.add_node("draft", lambda state: {"messages": [model.invoke(state["messages"])]})
        builder.add_node("think", lambda _: None)
        builder.add_edge(START, "draft")
        builder.add_conditional_edges("draft", router.route, router.path_map)
        parts = builder.compile().stream({"messages": [("user", UNSURE)]}, stream_mode="custom")
        assert [part["tje"]["route"] for part in parts] == ["deeper"]

    def test_updates_name_the_gate(self, router: EntropyRouter, model: Any) -> None:
        parts = list(gated(router, model).compile().stream({"messages": [("user", UNSURE)]}, stream_mode="updates"))
        assert [next(iter(part)) for part in parts] == ["draft", "gate", "think"]
        ids = {next(iter(part.values()))["messages"][-1].id for part in parts}
        assert len(ids) == 1

    def test_an_accepted_draft_is_shown_once_as_a_message(self, router: EntropyRouter, model: Any) -> None:
        stream = gated(router, model).compile().stream({"messages": [("user", SURE)]}, stream_mode="messages")
        assert [(message.text.split()[0], meta["langgraph_node"]) for message, meta in stream] == [("w0", "draft")]

    def test_a_deeper_answer_is_streamed_as_it_comes(self, router: EntropyRouter, model: Any, chat: Chat) -> None:
        def think(state: MessagesState) -> dict:
            return {"messages": [chat("deep").invoke(state["messages"])]}

        builder = StateGraph(MessagesState)
        builder.add_node("draft", lambda state: {"messages": [model.invoke(state["messages"])]})
        builder.add_node("gate", router, destinations=router.destinations)
        builder.add_node("think", router.replaces_draft(think))
        builder.add_edge(START, "draft")
        builder.add_edge("draft", "gate")
        question = {"messages": [("user", f"{UNSURE} says_model")]}
        shown = [
            (meta["langgraph_node"], message.text)
            for message, meta in builder.compile().stream(question, stream_mode="messages")
        ]
        deeper = [text for node, text in shown if node == "think" and text]
        assert len(deeper) == 6
        assert {node for node, _ in shown} == {"draft", "think"}

    @pytest.mark.skipif(not hasattr(CompiledStateGraph, "stream_events"), reason="LangGraph before 1.2 has none")
    @pytest.mark.filterwarnings("ignore:The v3 streaming protocol")
    def test_events_of_the_third_version_lose_no_evidence(
        self, router: EntropyRouter, model: Any, chat: Chat
    ) -> None:
        def last(model: Any, question: str) -> dict:
            run = gated(router, model).compile().stream_events({"messages": [("user", question)]}, version="v3")
            return decision_of(run.output["messages"][-1])

        rising = "bits=2.5,2.5,2.5,0.1 tokens=4"  # the last token alone looks confident
        assert last(model, rising)["signal_value"] == pytest.approx(1.9)
        with pytest.warns(TjeWarning, match="some were lost on the way"):
            assert last(chat(logprobs=True, top_logprobs=20), rising)["reason"] == "unreadable_logprobs"


class TestCheckpoints:
    @pytest.mark.parametrize("judges", [True, False])
    def test_logprobs_are_in_none_or_in_one(self, router: EntropyRouter, model: Any, judges: bool) -> None:
        graph = gated(router, model, judges=judges).compile(checkpointer=InMemorySaver())
        ask(graph, SURE, config=THREAD)
        holding = [
            any("logprobs" in message.response_metadata for message in snapshot.values["messages"])
            for snapshot in graph.get_state_history(THREAD)
        ]
        assert sum(holding) == (0 if judges else 1)

    def test_a_run_that_goes_back_decides_the_same(
        self, router: EntropyRouter, model: Any, provider: StandIn
    ) -> None:
        graph = gated(router, model).compile(checkpointer=InMemorySaver())
        first = ask(graph, UNSURE, config=THREAD)
        [before] = [each for each in graph.get_state_history(THREAD) if each.next == ("gate",)]
        again = graph.invoke(None, before.config)["messages"]
        assert [message.text for message in again] == [UNSURE, "thought over"]
        assert GateDecision.from_dict(decision_of(again[-1])) == GateDecision.from_dict(decision_of(first))
        assert len(provider.requests) == 1

    def test_every_turn_of_a_conversation_is_judged_for_itself(self, router: EntropyRouter, model: Any) -> None:
        graph = gated(router, model).compile(checkpointer=InMemorySaver())
        for question in (UNSURE, SURE, UNSURE):
            state = graph.invoke({"messages": [("user", question)]}, THREAD)
        routes = [decision_of(message)["route"] for message in state["messages"] if message.type == "ai"]
        assert routes == ["deeper", "final", "deeper"]
        assert [message.type for message in state["messages"]] == ["human", "ai"] * 3

    async def test_a_gated_graph_is_a_node_of_another(self, router: EntropyRouter, model: Any) -> None:
        builder = StateGraph(MessagesState)
        builder.add_node("answer", gated(router, model).compile())
        builder.add_edge(START, "answer")
        graph = builder.compile(checkpointer=InMemorySaver())
        assert ask(graph, UNSURE, config=THREAD).text == "thought over"
        state = await graph.ainvoke({"messages": [("user", SURE)]}, THREAD)
        assert [message.type for message in state["messages"]] == ["human", "ai"] * 2
        assert decision_of(state["messages"][-1])["route"] == "final"


BITS = [0.1 * number + 0.05 for number in range(20)]  # half of them within the threshold


class Branches(TypedDict):
    questions: list[str]
    messages: Annotated[list[AnyMessage], add_messages]
    ended: Annotated[list[tuple[str, str, int]], operator.add]
    decisions: Annotated[list[dict], operator.add]


def spread(state: Branches) -> list[Send]:
    return [
        Send("draft", {"question": question, "messages": [HumanMessage(question)]}) for question in state["questions"]
    ]


def branching(gate: EntropyGate, model: Any) -> Any:
    """Every branch of a fan-out drafts, is judged and thinks for itself; what it was sent goes with it."""
    router = EntropyRouter(gate=gate, deeper="think", final="done", decisions_key="decisions", carry_state=True)

    def draft(state: dict) -> Command:
        message = model.invoke(state["messages"])
        return Command(goto=Send("gate", {**state, "messages": [*state["messages"], message]}))

    def think(state: dict) -> Command:
        answer = AIMessage(f"thought over: {state['question']}")
        return Command(update={"messages": [answer]}, goto=Send("done", {**state, "messages": [answer]}))

    def done(state: dict) -> dict:
        return {"ended": [(state["question"], state["messages"][-1].text, len(state.get("decisions", [])))]}

    builder = StateGraph(Branches)
    builder.add_node("draft", draft, destinations=("gate",))
    builder.add_node("gate", router, destinations=router.destinations)
    builder.add_node("think", router.replaces_draft(think), destinations=("done",))
    builder.add_node("done", done)
    builder.add_conditional_edges(START, spread, ["draft"])
    return builder.compile()


def nesting(gate: EntropyGate, model: Any) -> Any:
    """Every branch of a fan-out is a graph of its own."""
    inner = gated(EntropyRouter(gate=gate, deeper="think"), model).compile()

    def whole(state: dict) -> dict:
        answer = inner.invoke({"messages": state["messages"]})["messages"][-1]
        return {"messages": [answer], "ended": [(state["question"], answer.text, 1)]}

    builder = StateGraph(Branches)
    builder.add_node("draft", whole)
    builder.add_conditional_edges(START, spread, ["draft"])
    return builder.compile()


QUESTIONS = [f"bits={bits:.2f} tokens=5" for bits in BITS]


class TestFanOut:
    def check(self, state: dict) -> None:
        by_bits = {round(decision_of(each)["signal_value"], 6): each for each in state["messages"]}
        assert sorted(by_bits) == pytest.approx(BITS)
        for bits, message in by_bits.items():
            expected = ("final", "draft") if bits <= 1 else ("deeper", "deeper")
            assert (decision_of(message)["route"], decision_of(message)["answered_by"]) == expected
        ended = {question: (text, decisions) for question, text, decisions in state["ended"]}
        assert sorted(ended) == sorted(QUESTIONS)
        for question, bits in zip(QUESTIONS, BITS, strict=True):
            text, decisions = ended[question]
            assert text.startswith("w0" if bits <= 1 else "thought over")
            assert decisions == 1

    @pytest.mark.parametrize("build", [branching, nesting])
    def test_every_branch_has_its_own_decision(self, gate: EntropyGate, model: Any, build: Callable) -> None:
        self.check(build(gate, model).invoke({"questions": QUESTIONS}))

    @pytest.mark.parametrize("build", [branching, nesting])
    async def test_asynchronously_too(self, gate: EntropyGate, model: Any, build: Callable) -> None:
        self.check(await build(gate, model).ainvoke({"questions": QUESTIONS}))

    def test_what_was_sent_reaches_the_node_of_that_branch(self, gate: EntropyGate, model: Any) -> None:
        state = branching(gate, model).invoke({"questions": ["bits=2.00", "bits=3.00"]})
        assert {message.text for message in state["messages"]} == {
            "thought over: bits=2.00",
            "thought over: bits=3.00",
        }
        assert len(state["decisions"]) == 2

    @pytest.mark.parametrize("form", [Model, Data])
    def test_states_of_other_forms_are_carried_too(self, gate: EntropyGate, model: Any, form: type) -> None:
        router = EntropyRouter(gate=gate, deeper="think", carry_state=True)
        command = router(form(messages=[HumanMessage("?"), model.invoke(UNSURE)]))
        assert isinstance(command.goto.arg, form)
        assert decision_of(command.goto.arg.messages[-1])["route"] == "deeper"
        assert router(form(messages=[model.invoke(SURE)])).goto == END

    def test_decisions_that_were_sent_along_are_kept(self, gate: EntropyGate, model: Any) -> None:
        router = EntropyRouter(gate=gate, deeper="think", decisions_key="decisions", carry_state=True)
        earlier = {"route": "final"}
        command = router({"messages": [model.invoke(UNSURE)], "decisions": [earlier]})
        [new] = command.update["decisions"]
        assert command.goto.arg["decisions"] == [earlier, new]

    async def test_many_at_once_do_not_mix(self, router: EntropyRouter, model: Any) -> None:
        graph = gated(router, model).compile()
        states = await asyncio.gather(*(graph.ainvoke({"messages": [("user", each)]}) for each in QUESTIONS))
        assert [decision_of(state["messages"][-1])["signal_value"] for state in states] == pytest.approx(BITS)
