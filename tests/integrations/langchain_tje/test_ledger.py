"""What the ways into LangChain write into a gate's ledger: each decision once, with how it ended and what it cost."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from langchain_tje import (
    EntropyGatedChatModel,
    EntropyGateMiddleware,
    EntropyRouter,
    ask_logprobs,
    think_just_enough,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

from tests.integrations.ledgers import Written

SURE, UNSURE = "bits=0.5 tokens=6", "bits=2.5 tokens=6"
PROMPT = ChatPromptTemplate.from_messages([("user", "{text}")])
Chat = Callable[..., ChatOpenAI]


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    made = Written(tmp_path)
    yield made
    made.ledger.close()


def chain(chat: Chat, written: Written, **settings: Any) -> Any:
    return think_just_enough(
        PROMPT | chat(max_tokens=8), deeper=PROMPT | chat("big"), gate=written.gate(), **settings
    )


class TestChain:
    def test_an_accepted_draft(self, chat: Chat, written: Written) -> None:
        answer = chain(chat, written).invoke({"text": SURE})
        row = written.row
        assert row.decision_id == answer.response_metadata["tje"]["decision_id"]
        assert (row.route, row.reason, row.answered_by) == ("final", "confident", "draft")
        assert (row.draft_model, row.deeper_model) == ("standin", None)
        assert (row.draft_output_tokens, row.deeper_output_tokens) == (6, None)
        assert row.signal_value == pytest.approx(0.5)
        assert row.latency_seconds > 0
        assert (row.detail, row.prompt, row.answer) == (None, None, None)

    def test_a_rejected_one(self, chat: Chat, written: Written) -> None:
        chain(chat, written).invoke({"text": UNSURE})
        row = written.row
        assert (row.route, row.answered_by, row.deeper_model) == ("deeper", "deeper", "big")
        assert (row.draft_output_tokens, row.deeper_output_tokens) == (6, 6)
        assert (row.tokens_saved, row.saved_by) == (-6, "measured")

    @pytest.mark.parametrize("mode", ["hold", "abort", "annotate"])
    def test_a_stream_is_one_decision(self, chat: Chat, written: Written, mode: str) -> None:
        for question in (SURE, UNSURE):
            for _ in chain(chat, written, mode=mode).stream({"text": question}):
                pass
        assert [row.answered_by for row in written.rows] == ["draft", "draft" if mode == "annotate" else "deeper"]
        assert {row.draft_model for row in written.rows} == {"standin"}

    async def test_on_the_event_loop(self, chat: Chat, written: Written) -> None:
        gated = chain(chat, written)
        await gated.ainvoke({"text": SURE})
        await gated.abatch([{"text": UNSURE}] * 3)
        assert sorted(row.answered_by for row in written.rows) == ["deeper"] * 3 + ["draft"]

    def test_a_deeper_branch_that_fails(self, chat: Chat, written: Written) -> None:
        def fail(_: object) -> str:
            raise RuntimeError("no")

        with pytest.warns(UserWarning, match="the deeper branch failed"):
            think_just_enough(PROMPT | chat(), deeper=fail, gate=written.gate()).invoke({"text": UNSURE})
        assert (written.row.reason, written.row.answered_by) == ("branch_failed", "draft")

    def test_a_stream_that_is_closed_early(self, chat: Chat, written: Written) -> None:
        stream = chain(chat, written).stream({"text": UNSURE})
        next(stream)
        stream.close()
        assert (written.row.route, written.row.answered_by) == ("deeper", None)

    def test_texts_only_where_they_are_wanted(self, chat: Chat, tmp_path: Path) -> None:
        written = Written(tmp_path, texts=True)
        answer = chain(chat, written).invoke({"text": SURE})
        assert written.row.prompt == str({"text": SURE})
        assert written.row.answer == answer.text
        assert "threshold" in written.row.detail
        written.ledger.close()

    def test_a_streamed_answer_is_kept_whole(self, chat: Chat, tmp_path: Path) -> None:
        written = Written(tmp_path, texts=True)
        chunks = list(chain(chat, written).stream({"text": UNSURE}))
        assert len(chunks) > 1
        assert written.row.answer == "".join(chunk.text for chunk in chunks)
        written.ledger.close()


def test_a_chat_model_writes_one_decision_a_call(chat: Chat, written: Written) -> None:
    model = EntropyGatedChatModel(draft=chat(), deeper=chat("big"), gate=written.gate())
    model.invoke(SURE)
    model.invoke(UNSURE)
    assert [(row.answered_by, row.deeper_model) for row in written.rows] == [("draft", None), ("deeper", "big")]


def test_an_agent_one_a_turn(chat: Chat, written: Written) -> None:
    agent = create_agent(chat(), [], middleware=[EntropyGateMiddleware(gate=written.gate(), deeper=chat("big"))])
    agent.invoke({"messages": [("user", UNSURE)]})
    assert [(row.answered_by, row.deeper_model) for row in written.rows] == [("deeper", "big")]


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
