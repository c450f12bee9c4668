"""What the ways into LangChain write into a gate's ledger: each decision once, with how it ended and what it cost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from langchain_tje import EntropyGatedChatModel, EntropyGateMiddleware, EntropyRouter, ask_logprobs, think_just_enough
from langgraph.graph import START, MessagesState, StateGraph

from tests.integrations.ledgers import Written, assert_grounds_and_savings
from tje_middleware import EntropyGate

SURE, UNSURE = "bits=0.5 tokens=6", "bits=2.5 tokens=6"
PROMPT = ChatPromptTemplate.from_messages([("user", "{text}")])
Chat = Callable[..., ChatOpenAI]


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


class TestOfARegistrysGate:
    """By what a draft was accepted, what that saved, and which risk was promised."""

    def by_chain(self, chat: Chat, gate: EntropyGate) -> Callable[[str], Any]:
        gated = think_just_enough(PROMPT | chat(), deeper=PROMPT | chat("big"), gate=gate)
        return lambda question: gated.invoke({"text": question})

    def by_stream(self, chat: Chat, gate: EntropyGate) -> Callable[[str], Any]:
        gated = think_just_enough(PROMPT | chat(), deeper=PROMPT | chat("big"), gate=gate)
        return lambda question: list(gated.stream({"text": question}))

    def by_model(self, chat: Chat, gate: EntropyGate) -> Callable[[str], Any]:
        return EntropyGatedChatModel(draft=chat(), deeper=chat("big"), gate=gate).invoke

    def by_agent(self, chat: Chat, gate: EntropyGate) -> Callable[[str], Any]:
        agent = create_agent(chat(), [], middleware=[EntropyGateMiddleware(gate=gate, deeper=chat("big"))])
        return lambda question: agent.invoke({"messages": [("user", question)]})

    def by_node(self, chat: Chat, gate: EntropyGate) -> Callable[[str], Any]:
        return self.by_graph(chat, gate, edge=False)

    def by_edge(self, chat: Chat, gate: EntropyGate) -> Callable[[str], Any]:
        return self.by_graph(chat, gate, edge=True)

    def by_graph(self, chat: Chat, gate: EntropyGate, *, edge: bool) -> Callable[[str], Any]:
        asked, big = ask_logprobs(chat()), chat("big")
        router, builder = EntropyRouter(gate=gate, deeper="think"), StateGraph(MessagesState)
        builder.add_node("draft", lambda state: {"messages": [asked.invoke(state["messages"])]})
        builder.add_node("think", router.replaces_draft(lambda state: {"messages": [big.invoke(state["messages"])]}))
        builder.add_edge(START, "draft")
        if edge:
            builder.add_conditional_edges("draft", router.route, router.path_map)
        else:
            builder.add_node("gate", router)
            builder.add_edge("draft", "gate")
        graph = builder.compile()
        return lambda question: graph.invoke({"messages": [("user", question)]})

    @pytest.mark.parametrize("way", [by_chain, by_stream, by_model, by_agent, by_node, by_edge])
    def test_each_way_in_writes_it(self, chat: Chat, written: Written, way: Any) -> None:
        ask = way(self, chat, written.stored_gate())
        ask(SURE)
        ask(UNSURE)
        assert_grounds_and_savings(written, tokens=6)

    def test_annotating_saves_nothing_that_would_be_claimed(self, chat: Chat, written: Written) -> None:
        gated = think_just_enough(
            PROMPT | chat(), deeper=PROMPT | chat("big"), gate=written.stored_gate(), mode="annotate"
        )
        gated.invoke({"text": SURE})
        assert (written.row.profile_version, written.row.tokens_saved, written.row.saved_by) == (2, None, None)
