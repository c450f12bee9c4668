"""What a graph's router writes into a gate's ledger: each draft once a run, with how it ended and what it cost."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from langchain_tje import EntropyRouter, ask_logprobs
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

from tests.integrations.ledgers import Written

SURE, UNSURE = "bits=0.5 tokens=6", "bits=2.5 tokens=6"
Chat = Callable[..., ChatOpenAI]


class TestGraph:
    @pytest.fixture
    def ask(self, chat: Chat, written: Written) -> Callable[[str], Any]:
        asked, big = ask_logprobs(chat()), chat("big")
        router = EntropyRouter(gate=written.gate(), deeper="think")
        builder = StateGraph(MessagesState)
        builder.add_node("draft", lambda state: {"messages": [asked.invoke(state["messages"])]})
        builder.add_node("gate", router)
        builder.add_node("think", router.replaces_draft(lambda state: {"messages": [big.invoke(state["messages"])]}))
        builder.add_edge(START, "draft")
        builder.add_edge("draft", "gate")
        graph = builder.compile()
        return lambda question: graph.invoke({"messages": [("user", question)]})

    def test_a_decision_is_written_where_the_draft_is_judged_and_again_where_it_ends(
        self, ask: Callable[[str], Any], written: Written
    ) -> None:
        ask(SURE)
        ask(UNSURE)
        first, second = written.rows
        assert (first.answered_by, first.draft_output_tokens) == ("draft", 6)
        assert (second.answered_by, second.deeper_model, second.deeper_output_tokens) == ("deeper", "big", 6)

    def test_a_draft_that_an_edge_judges_first_is_one_decision(self, chat: Chat, written: Written) -> None:
        asked, big = ask_logprobs(chat()), chat("big")
        router = EntropyRouter(gate=written.gate(), deeper="think")
        builder = StateGraph(MessagesState)
        builder.add_node("draft", lambda state: {"messages": [asked.invoke(state["messages"])]})
        builder.add_node("think", router.replaces_draft(lambda state: {"messages": [big.invoke(state["messages"])]}))
        builder.add_edge(START, "draft")
        builder.add_conditional_edges("draft", router.route, router.path_map)
        builder.compile().invoke({"messages": [("user", UNSURE)]})
        assert (written.row.answered_by, written.row.deeper_model) == ("deeper", "big")

    def test_a_human_answered(self, chat: Chat, written: Written) -> None:
        asked = ask_logprobs(chat())
        gate = written.gate().with_threshold(1.0)
        router = EntropyRouter(gate=gate, deeper="ask_human")
        builder = StateGraph(MessagesState)
        builder.add_node("draft", lambda state: {"messages": [asked.invoke(state["messages"])]})
        builder.add_node("gate", router)
        builder.add_node("ask_human", router.hand_over)
        builder.add_edge(START, "draft")
        builder.add_edge("draft", "gate")
        graph = builder.compile(checkpointer=InMemorySaver())
        thread = {"configurable": {"thread_id": "1"}}
        graph.invoke({"messages": [("user", UNSURE)]}, thread)
        graph.invoke(Command(resume="Paris"), thread)
        assert written.row.answered_by == "human"


class TestTextsOfGraphs:
    @pytest.fixture
    def written(self, tmp_path: Path) -> Iterator[Written]:
        made = Written(tmp_path, texts=True)
        yield made
        made.ledger.close()

    @pytest.mark.parametrize("judges", ["node", "edge", "drafting node"])
    @pytest.mark.parametrize("question", [SURE, UNSURE])
    def test_are_what_was_asked_and_answered(self, chat: Chat, written: Written, judges: str, question: str) -> None:
        asked, big = ask_logprobs(chat()), chat("big")
        router, builder = EntropyRouter(gate=written.gate(), deeper="think"), StateGraph(MessagesState)

        def draft(state: MessagesState) -> Any:
            message = asked.invoke(state["messages"])
            return {"messages": [router.judge(message, state["messages"]) if judges == "drafting node" else message]}

        builder.add_node("draft", draft)
        builder.add_node("gate", router if judges != "edge" else lambda _: {})
        builder.add_node("think", router.replaces_draft(lambda state: {"messages": [big.invoke(state["messages"])]}))
        builder.add_edge(START, "draft")
        builder.add_edge("draft", "gate")
        if judges == "edge":
            builder.add_conditional_edges("gate", router.route, router.path_map)
        answer = builder.compile().invoke({"messages": [("system", "Be brief."), ("user", question)]})["messages"][-1]
        assert written.row.prompt == f"System: Be brief.\nHuman: {question}"
        assert written.row.answer == answer.text != ""
        assert written.row.latency_seconds is None

    def test_are_not_there_of_an_answer_that_is_still_to_come(self, chat: Chat, written: Written) -> None:
        EntropyRouter(gate=written.gate(), deeper="think").judge(ask_logprobs(chat()).invoke(UNSURE))
        assert (written.row.prompt, written.row.answer) == (None, None)

    def test_are_the_draft_where_the_deeper_node_fails(self, chat: Chat, written: Written) -> None:
        router = EntropyRouter(gate=written.gate(), deeper="think")

        def fail(_: object) -> Any:
            raise RuntimeError("no")

        draft = router.judge(ask_logprobs(chat()).invoke(UNSURE))
        with pytest.warns(UserWarning, match="the deeper branch failed"):
            router.replaces_draft(fail)({"messages": [draft]})
        assert (written.row.reason, written.row.answer) == ("branch_failed", draft.text)

    @pytest.mark.parametrize(("reply", "kept"), [("Paris", "Paris"), ("", None)])
    def test_are_the_humans_or_the_draft_that_a_human_kept(
        self, chat: Chat, written: Written, reply: str, kept: str | None
    ) -> None:
        asked = ask_logprobs(chat())
        router, builder = EntropyRouter(gate=written.gate(), deeper="ask_human"), StateGraph(MessagesState)
        builder.add_node("draft", lambda state: {"messages": [asked.invoke(state["messages"])]})
        builder.add_node("gate", router)
        builder.add_node("ask_human", router.hand_over)
        builder.add_edge(START, "draft")
        builder.add_edge("draft", "gate")
        graph, thread = builder.compile(checkpointer=InMemorySaver()), {"configurable": {"thread_id": "1"}}
        draft = graph.invoke({"messages": [("user", UNSURE)]}, thread)["messages"][-1]
        graph.invoke(Command(resume=reply), thread)
        assert (written.row.prompt, written.row.answer) == (f"Human: {UNSURE}", kept or draft.text)


class TestDraftsOutOfTheCache:
    """LangChain's cache gives a message the id of the run that it was first written in."""

    @pytest.fixture
    def asked(self, chat: Chat) -> Any:
        model = ask_logprobs(chat(cache=InMemoryCache()))
        model.invoke([("user", UNSURE)])
        return model

    def parts(self, written: Written) -> tuple[EntropyRouter, StateGraph]:
        return EntropyRouter(gate=written.gate(), deeper="think"), StateGraph(MessagesState)

    @pytest.mark.parametrize("judges", [False, True], ids=["router", "judged in its node"])
    def test_are_a_decision_of_their_own_in_each_run(
        self, asked: Any, chat: Chat, written: Written, judges: bool
    ) -> None:
        router, builder = self.parts(written)
        big = chat("big")

        def draft(state: MessagesState) -> Any:
            message = asked.invoke(state["messages"])
            return {"messages": [router.judge(message) if judges else message]}

        builder.add_node("draft", draft)
        builder.add_node("gate", router)
        builder.add_node("think", router.replaces_draft(lambda state: {"messages": [big.invoke(state["messages"])]}))
        builder.add_edge(START, "draft")
        builder.add_edge("draft", "gate")
        graph, again = builder.compile(), {"messages": [HumanMessage(UNSURE)]}  # add_messages gives it an id for good
        answers = [graph.invoke(again)["messages"][-1] for _ in range(3)]
        assert [row.decision_id for row in written.rows] == [
            answer.response_metadata["tje"]["decision_id"] for answer in answers
        ]
        assert {row.answered_by for row in written.rows} == {"deeper"}

    def test_that_an_edge_judges_are_one_decision_a_run(self, asked: Any, chat: Chat, written: Written) -> None:
        router, builder = self.parts(written)
        big = chat("big")
        builder.add_node("draft", lambda state: {"messages": [asked.invoke(state["messages"])]})
        builder.add_node("think", router.replaces_draft(lambda state: {"messages": [big.invoke(state["messages"])]}))
        builder.add_edge(START, "draft")
        builder.add_conditional_edges("draft", router.route, router.path_map)
        graph = builder.compile()
        for _ in range(3):
            graph.invoke({"messages": [("user", UNSURE)]})
        assert [row.answered_by for row in written.rows] == ["deeper"] * 3

    def test_that_an_edge_judges_stay_one_decision_when_the_graph_is_resumed(
        self, asked: Any, written: Written
    ) -> None:
        router = EntropyRouter(gate=written.gate(), deeper="ask_human")
        builder = StateGraph(MessagesState)
        builder.add_node("draft", lambda state: {"messages": [asked.invoke(state["messages"])]})
        builder.add_node("ask_human", router.hand_over)
        builder.add_edge(START, "draft")
        builder.add_conditional_edges("draft", router.route, router.path_map)
        graph = builder.compile(checkpointer=InMemorySaver())
        for thread_id in ("1", "2"):
            thread = {"configurable": {"thread_id": thread_id}}
            graph.invoke({"messages": [("user", UNSURE)]}, thread)
            graph.invoke(Command(resume="Paris"), thread)
        assert [row.answered_by for row in written.rows] == ["human"] * 2

    def test_have_spent_nothing(self, asked: Any, chat: Chat, written: Written) -> None:
        router = EntropyRouter(gate=written.gate(), deeper="think")
        router.judge(asked.invoke([("user", UNSURE)]))
        assert (written.row.draft_input_tokens, written.row.draft_output_tokens) == (0, 0)
        assert written.row.usage_partly_known is False
