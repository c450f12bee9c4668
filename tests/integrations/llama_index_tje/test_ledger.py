"""What the ways into LlamaIndex write into a gate's ledger: each decision once, with its end and its cost."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.llms import LLM, ChatMessage, CompletionResponse
from llama_index.core.query_engine import CustomQueryEngine
from llama_index.core.workflow import JsonSerializer, StartEvent, StopEvent, Workflow, step
from llama_index_tje import (
    AbstainEvent,
    DeeperEvent,
    DraftEvent,
    EntropyGatedLLM,
    EntropyGatedQueryEngine,
    ask_logprobs,
    entropy_route,
)
from llama_index_tje.workflow.events import _say_untold
from llama_index_tje.workflow.route import judged

from tests.integrations.ledgers import Written, assert_grounds_and_savings
from tests.integrations.llama_index_tje.conftest import Make
from tests.samples import draft
from tje_middleware import EntropyGate
from tje_middleware.branches import SequentialRefinement
from tje_middleware.gate.delivery import Delivery

SURE, UNSURE = "bits=0.5 tokens=6", "bits=2.5 tokens=6"
PAID = {"usage": {"prompt_tokens": 5, "completion_tokens": 640}}


class EngineOfLLM(CustomQueryEngine):
    """A query engine that asks its LLM once."""

    llm: LLM

    def custom_query(self, query_str: str) -> str:
        return self.llm.complete(query_str).text


@pytest.fixture
def with_texts(tmp_path: Path) -> Iterator[Written]:
    made = Written(tmp_path, texts=True)
    yield made
    made.close()


def endings(written: Written) -> list[tuple[Any, ...]]:
    return [(row.route, row.answered_by, row.draft_model, row.deeper_model) for row in written.rows]


def texts(written: Written) -> list[tuple[Any, ...]]:
    return [(row.prompt, row.answer) for row in written.rows]


def in_a_workflow(like: Make, gate: EntropyGate) -> Workflow:
    """Drafts, routes and thinks deeper in a step each."""
    small, big = ask_logprobs(like(reuse_client=False), gate=gate), like("big", reuse_client=False)

    class Answer(Workflow):
        route = entropy_route(gate=gate)

        @step
        async def draft(self, ev: StartEvent) -> DraftEvent:
            return DraftEvent(draft=await small.acomplete(ev.question), question=ev.question)

        @step
        async def think(self, ev: DeeperEvent) -> StopEvent:
            return StopEvent(result=ev.answered(await big.acomplete(ev.question)))

    return Answer()


class TestLLM:
    def test_each_call_is_one_decision(self, like: Make, written: Written) -> None:
        llm = EntropyGatedLLM(llm=like(), deeper=like("big"), gate=written.gate())
        answer = llm.complete(SURE)
        llm.chat([ChatMessage(UNSURE)])
        assert endings(written) == [
            ("final", "draft", "standin", None),
            ("deeper", "deeper", "standin", "big"),
        ]
        first, second = written.rows
        assert first.decision_id == answer.additional_kwargs["tje"]["decision_id"]
        assert (second.draft_output_tokens, second.deeper_output_tokens) == (6, 6)
        assert second.latency_seconds > 0

    @pytest.mark.parametrize("mode", ["hold", "abort", "annotate"])
    async def test_also_streamed(self, like: Make, written: Written, mode: str) -> None:
        llm = EntropyGatedLLM(llm=like(max_tokens=8), deeper=like("big"), gate=written.gate(), mode=mode)
        for _ in llm.stream_complete(SURE):
            pass
        async for _ in await llm.astream_chat([ChatMessage(UNSURE)]):
            pass
        assert [row.answered_by for row in written.rows] == ["draft", "draft" if mode == "annotate" else "deeper"]
        assert {row.draft_model for row in written.rows} == {"standin"}

    @pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
    def test_a_refined_answer_saves_nothing_since_always_refining_pays_for_the_draft_too(
        self, like: Make, written: Written, streamed: bool
    ) -> None:
        llm = EntropyGatedLLM(llm=like(), deeper=SequentialRefinement(), gate=written.gate())
        if streamed:
            list(llm.stream_chat([ChatMessage(UNSURE)]))
        else:
            llm.chat([ChatMessage(UNSURE)])
        assert endings(written) == [("deeper", "deeper", "standin", "standin")]
        assert (written.row.draft_output_tokens, written.row.deeper_output_tokens) == (6, 12)
        assert (written.row.tokens_saved, written.row.saved_by) == (0, "measured")

    def test_texts_only_where_they_are_wanted(self, like: Make, with_texts: Written) -> None:
        llm = EntropyGatedLLM(llm=like(), deeper=like("big"), gate=with_texts.gate())
        whole = llm.complete(UNSURE).text
        streamed = [chunk.delta for chunk in llm.stream_complete(SURE)]
        assert texts(with_texts) == [(UNSURE, whole), (SURE, "".join(streamed))]


async def test_a_workflow_writes_where_a_draft_is_judged_and_where_it_is_answered(
    like: Make, written: Written
) -> None:
    flow = in_a_workflow(like, written.gate())
    await flow.run(question=SURE)
    await flow.run(question=UNSURE)
    first, second = written.rows
    assert (first.answered_by, second.answered_by) == ("draft", "deeper")
    assert second.deeper_model == "big"
    assert (second.draft_output_tokens, second.deeper_output_tokens) == (6, 6)


class TestOfARegistrysGate:
    """By what a draft was accepted, what that saved, and which risk was promised."""

    def test_an_llm_writes_it(self, like: Make, written: Written) -> None:
        llm = EntropyGatedLLM(llm=like(), deeper=like("big"), gate=written.stored_gate())
        llm.complete(SURE)
        llm.complete(UNSURE)
        assert_grounds_and_savings(written, tokens=6)

    def test_an_engine_writes_it(self, like: Make, written: Written) -> None:
        gate = written.stored_gate()
        cheap, deeper = EngineOfLLM(llm=ask_logprobs(like(), gate=gate)), EngineOfLLM(llm=like("big"))
        gated = EntropyGatedQueryEngine(engine=cheap, deeper=deeper, gate=gate)
        gated.query(SURE)
        gated.query(UNSURE)
        assert_grounds_and_savings(written, tokens=6)

    async def test_a_workflow_writes_it(self, like: Make, written: Written) -> None:
        flow = in_a_workflow(like, written.stored_gate())
        await flow.run(question=SURE)
        await flow.run(question=UNSURE)
        assert_grounds_and_savings(written, tokens=6)

    def test_annotating_saves_nothing_that_would_be_claimed(self, like: Make, written: Written) -> None:
        gate = written.stored_gate()
        EntropyGatedLLM(llm=like(), deeper=like("big"), gate=gate, mode="annotate").complete(SURE)
        assert (written.row.profile_version, written.row.tokens_saved, written.row.saved_by) == (2, None, None)


class TestTexts:
    async def test_of_a_workflow_are_the_question_in_the_drafts_event_and_the_answer(
        self, like: Make, with_texts: Written
    ) -> None:
        flow = in_a_workflow(like, with_texts.gate())
        first, second = await flow.run(question=SURE), await flow.run(question=UNSURE)
        assert texts(with_texts) == [(SURE, first.text), (UNSURE, second.text)]
        assert [row.latency_seconds for row in with_texts.rows] == [None, None]

    async def test_of_a_workflow_whose_question_has_another_name(self, like: Make, with_texts: Written) -> None:
        gate = with_texts.gate()
        small = ask_logprobs(like(reuse_client=False), gate=gate)

        class Answer(Workflow):
            route = entropy_route(gate=gate, question_field="topic", deeper=StopEvent)

            @step
            async def draft(self, ev: StartEvent) -> DraftEvent:
                return DraftEvent(draft=await small.acomplete(ev.topic), topic=ev.topic)

        await Answer().run(topic=UNSURE)
        assert texts(with_texts) == [(UNSURE, None)]

    def test_of_a_human_who_answered(self, with_texts: Written) -> None:
        gate = with_texts.gate()
        _, decision = judged(draft(2.5), (), Delivery(gate), "worst", hands_over=True, question="Where?")
        event = AbstainEvent(draft="Lyon", decision=decision)
        assert event.answered("Paris", gate=gate) == "Paris"
        assert (with_texts.row.prompt, with_texts.row.answer) == ("Where?", "Paris")
        assert with_texts.row.answered_by == "human"

    def test_are_none_of_a_draft_that_is_logprobs_alone(self, with_texts: Written) -> None:
        judged(draft(0.5), (), Delivery(with_texts.gate()), "worst", hands_over=False)
        assert (with_texts.row.route, with_texts.row.answer) == ("final", None)


class TestARestoredEvent:
    """One that was saved with its Context: it does not know its gate any more."""

    @pytest.fixture
    def event(self, written: Written) -> DeeperEvent:
        decision = judged(draft(2.5), (), Delivery(written.gate()), "worst", hands_over=False)[1]
        serializer = JsonSerializer()
        restored: DeeperEvent = serializer.deserialize(
            serializer.serialize(DeeperEvent(draft="Lyon", decision=decision))
        )
        return restored

    def test_tells_the_ledger_of_the_gate_that_it_is_given(self, event: DeeperEvent, written: Written) -> None:
        event.answered(CompletionResponse(text="Paris", raw=PAID), gate=written.gate())
        assert (written.row.answered_by, written.row.deeper_output_tokens) == ("deeper", 640)

    def test_says_once_that_no_ledger_is_told(
        self, event: DeeperEvent, written: Written, caplog: pytest.LogCaptureFixture
    ) -> None:
        _say_untold.cache_clear()
        for _ in range(2):
            event.answered(CompletionResponse(text="Paris", raw=PAID))
        assert written.row.answered_by is None
        [said] = caplog.records
        assert "answered(answer, gate=gate)" in said.getMessage()

    def test_has_nothing_to_say_of_a_decision_that_no_gate_made(
        self, event: DeeperEvent, caplog: pytest.LogCaptureFixture
    ) -> None:
        _say_untold.cache_clear()
        DeeperEvent(draft="Lyon", decision=replace(event.decision, decision_id=None)).answered("Paris")
        assert caplog.records == []
