"""What the ways into LlamaIndex write into a gate's ledger: each decision once, with its end and its cost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.llms import ChatMessage
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step
from llama_index_tje import (
    DeeperEvent,
    DraftEvent,
    EntropyGatedLLM,
    ask_logprobs,
    entropy_route,
    think_just_enough,
)

from tests.integrations.ledgers import Written
from tests.integrations.llama_index_tje.conftest import Make

SURE, UNSURE = "bits=0.5 tokens=6", "bits=2.5 tokens=6"


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    made = Written(tmp_path)
    yield made
    made.ledger.close()


def endings(written: Written) -> list[tuple[Any, ...]]:
    return [(row.route, row.answered_by, row.draft_model, row.deeper_model) for row in written.rows]


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

    def test_texts_only_where_they_are_wanted(self, like: Make, tmp_path: Path) -> None:
        written = Written(tmp_path, texts=True)
        llm = EntropyGatedLLM(llm=like(), deeper=like("big"), gate=written.gate())
        whole = llm.complete(UNSURE).text
        streamed = [chunk.delta for chunk in llm.stream_complete(SURE)]
        assert [(row.prompt, row.answer) for row in written.rows] == [(UNSURE, whole), (SURE, "".join(streamed))]
        written.ledger.close()


def test_a_function_writes_one_decision_whatever_it_calls(like: Make, written: Written) -> None:
    llm = ask_logprobs(like())

    @think_just_enough(deeper=lambda text: like("big").complete(text), gate=written.gate())
    def twice(text: str) -> Any:
        llm.complete(text)
        return llm.complete(text)

    twice(SURE)
    twice(UNSURE)
    assert endings(written) == [
        ("final", "draft", "standin", None),
        ("deeper", "deeper", "standin", "big"),
    ]


async def test_a_workflow_writes_where_a_draft_is_judged_and_where_it_is_answered(
    like: Make, written: Written
) -> None:
    gate = written.gate()
    small, big = ask_logprobs(like(reuse_client=False), gate=gate), like("big", reuse_client=False)

    class Answer(Workflow):
        route = entropy_route(gate=gate)

        @step
        async def draft(self, ev: StartEvent) -> DraftEvent:
            return DraftEvent(draft=await small.acomplete(ev.question), question=ev.question)

        @step
        async def think(self, ev: DeeperEvent) -> StopEvent:
            return StopEvent(result=ev.answered(await big.acomplete(ev.question)))

    await Answer().run(question=SURE)
    await Answer().run(question=UNSURE)
    first, second = written.rows
    assert (first.answered_by, second.answered_by) == ("draft", "deeper")
    assert second.deeper_model == "big"
    assert (second.draft_output_tokens, second.deeper_output_tokens) == (6, 6)
