"""Answers of several LLM calls: in every mode of LlamaIndex's synthesizers, the rule that was chosen decides."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from llama_index.core.async_utils import asyncio_run
from llama_index.core.indices.query.query_transform import HyDEQueryTransform
from llama_index.core.llms import LLM
from llama_index.core.postprocessor import LLMRerank
from llama_index.core.query_engine import CustomQueryEngine, TransformQueryEngine
from llama_index_tje import EntropyGatedQueryEngine, ask_logprobs, capture_entropy
from llama_index_tje.capture import blocks, captured_turn

from tests.gates import make_gate
from tje_middleware import TokenUsage

from .engines import CHEAP, DEEP, SURE, UNSURE, decision_in

# Three calls of 6, 2 and 4 tokens: 0.4, 1.6 and 0.5 bits. The worst is above the threshold of 1, the last and the
# mean over all tokens (0.633 bits) are not.
MIXED = ("bits=0.4 tokens=6", "bits=1.6 tokens=2", "bits=0.5 tokens=4")

# Some releases of LlamaIndex take nodes of the same text for one.
THREE_SURE = tuple(f"{SURE} {number}" for number in "abc")

pytestmark = pytest.mark.filterwarnings("ignore::tje_middleware.errors.TjeWarning")


def gated(engines, gate, *texts, rule="worst", deeper=None, **of_engine):
    engine = engines.engine(*texts, gate=gate, **of_engine)
    return EntropyGatedQueryEngine(engine=engine, deeper=deeper or engines.deep(), gate=gate, aggregate=rule)


@pytest.mark.parametrize("streaming", [False, True], ids=["whole", "streamed"])
class TestRefine:
    @pytest.mark.parametrize(
        ("rule", "bits", "answered_by"),
        [("worst", 1.6, "deeper"), ("last", 0.5, "draft"), ("pooled", 7.6 / 12, "draft")],
    )
    async def test_the_rule_decides_which_calls_speak(self, engines, gate, ask, streaming, rule, bits, answered_by):
        engine = gated(engines, gate, *MIXED, rule=rule, mode="refine", streaming=streaming)
        _, response = await ask(engine)
        decision = decision_in(response)
        assert decision.signal_value == pytest.approx(bits)
        assert decision.answered_by == answered_by
        assert "3 model calls" in decision.detail

    async def test_what_all_calls_cost_is_summed(self, engines, gate, ask, streaming):
        engine = gated(engines, gate, *MIXED, mode="refine", streaming=streaming)
        _, response = await ask(engine)
        usage = decision_in(response).draft_usage
        assert (usage.output_tokens, usage.calls) == (12, 3)

    async def test_each_node_alone_is_a_call_and_so_is_each_refinement(self, engines, gate, ask, streaming):
        await ask(gated(engines, gate, *THREE_SURE, mode="refine", streaming=streaming))
        assert engines.asked == [CHEAP] * 3


#: Whoever asks in parallel asks on a thread, where an older release does not know whose draft the calls are: such a
#: draft cannot be judged, and goes deeper.
_needs_context_on_threads = pytest.mark.skipif(
    "copy_context" not in inspect.getsource(asyncio_run),
    reason="needs a llama-index-core whose asyncio_run keeps the context on its thread",
)


class TestTreeSummarize:
    @pytest.mark.parametrize(
        ("rule", "bits", "answered_by"), [("worst", 3.0, "deeper"), ("last", 0.5, "draft")], ids=["worst", "last"]
    )
    @pytest.mark.parametrize(
        "options",
        [
            pytest.param({}, id="whole"),
            pytest.param({"streaming": True}, id="streamed"),
            pytest.param({"use_async": True}, id="parallel", marks=_needs_context_on_threads),
        ],
    )
    async def test_an_unsure_leaf_is_seen_below_a_sure_root(
        self, engines, gate, ask, rule, bits, answered_by, options
    ):
        engine = gated(engines, gate, SURE, UNSURE, rule=rule, mode="tree_summarize", **options)
        _, response = await ask(engine)
        decision = decision_in(response)
        calls = engines.asked.count(CHEAP)
        assert decision.signal_value == pytest.approx(bits)
        assert (decision.answered_by, decision.draft_usage.calls) == (answered_by, calls)
        assert f"{calls} model calls" in decision.detail

    async def test_every_leaf_and_the_root_are_asked_for_logprobs(self, engines, gate, ask, provider):
        await ask(gated(engines, gate, SURE, SURE, mode="tree_summarize"))
        assert set(provider.asked_for_logprobs()) == {20}


@pytest.mark.parametrize("mode", ["compact", "simple_summarize", "compact_accumulate"])
async def test_an_answer_of_one_call_is_judged_by_it_whatever_the_rule(engines, gate, ask, mode):
    decisions = [
        decision_in((await ask(gated(engines, gate, *MIXED, rule=rule, mode=mode)))[1])
        for rule in ("worst", "last", "pooled")
    ]
    assert [decision.signal_value for decision in decisions] == pytest.approx([0.4] * 3)
    assert not any("model calls" in decision.detail for decision in decisions)


@pytest.mark.parametrize(("rule", "answered_by"), [("worst", "deeper"), ("pooled", "draft")])
async def test_of_accumulated_answers_each_counts(engines, gate, ask, rule, answered_by):
    _, response = await ask(gated(engines, gate, *MIXED, rule=rule, mode="accumulate"))
    assert decision_in(response).answered_by == answered_by


@pytest.mark.parametrize(("rule", "answered_by"), [("worst", "deeper"), ("last", "draft")])
async def test_the_call_of_a_query_transform_counts_and_is_asked(engines, gate, ask, provider, rule, answered_by):
    # The made-up document has no options of its own, and the query is asked of the transform alone.
    hyde = HyDEQueryTransform(llm=ask_logprobs(engines.llm(), gate=gate), include_original=False)
    cheap = TransformQueryEngine(engines.engine(SURE, gate=gate), hyde)
    engine = EntropyGatedQueryEngine(engine=cheap, deeper=engines.deep(), gate=gate, aggregate=rule)
    _, response = await ask(engine, UNSURE)
    decision = decision_in(response)
    assert provider.asked_for_logprobs()[:2] == [20, 20]
    assert (decision.answered_by, decision.draft_usage.calls) == (answered_by, 2)


async def test_the_call_of_a_reranker_counts_and_is_asked(engines, gate, ask, provider):
    engine = engines.engine(SURE, gate=gate)
    asked = ask_logprobs(engines.llm(), gate=gate)
    engine._node_postprocessors.append(
        LLMRerank(llm=asked, parse_choice_select_answer_fn=lambda _answer, _count: ([1], [9.0]))
    )
    both = EntropyGatedQueryEngine(engine=engine, deeper=engines.deep(), gate=gate)
    _, response = await ask(both)
    assert provider.asked_for_logprobs() == [20, 20]
    assert decision_in(response).draft_usage.calls == 2


async def test_a_call_of_another_model_among_them_cannot_be_judged(engines, gate, ask):
    hyde = HyDEQueryTransform(llm=ask_logprobs(engines.llm("another"), gate=gate))
    cheap = TransformQueryEngine(engines.engine(SURE, gate=gate), hyde)
    _, response = await ask(EntropyGatedQueryEngine(engine=cheap, deeper=engines.deep(), gate=gate))
    assert decision_in(response).reason == "other_settings"
    assert engines.asked == ["another", CHEAP, DEEP]


def test_calls_that_were_too_many_to_keep_are_not_taken_for_sure(engines, gate, monkeypatch):
    capture = captured_turn.capture_entropy
    monkeypatch.setattr(captured_turn, "capture_entropy", lambda: capture(max_calls=2))
    response = gated(engines, gate, *THREE_SURE, mode="refine").query("What?")
    decision = decision_in(response)
    assert (decision.reason, decision.answered_by) == ("no_logprobs", "deeper")
    assert "1 of the model calls" in decision.detail
    assert decision.draft_usage == TokenUsage(input_tokens=30, output_tokens=12, calls=3)


async def test_a_call_by_a_worker_that_was_begun_in_an_earlier_draft_leaves_the_draft_unjudged(engines, gate):
    class Worker:
        task = None

        async def run(self):
            while True:
                llm, prompt, answer = await self.queue.get()
                answer.set_result((await llm.acomplete(prompt)).text)

        async def ask(self, llm, prompt):
            if self.task is None:
                self.queue = asyncio.Queue()
                self.task = asyncio.create_task(self.run())
            answer = asyncio.get_running_loop().create_future()
            await self.queue.put((llm, prompt, answer))
            return await answer

    class Batching(CustomQueryEngine):
        llm: LLM
        worker: Any

        def custom_query(self, query_str):
            raise NotImplementedError

        async def acustom_query(self, query_str):
            await self.llm.acomplete(SURE)
            return await self.worker.ask(self.llm, query_str)

    engine = Batching(llm=ask_logprobs(engines.llm(), gate=gate), worker=Worker())
    both = EntropyGatedQueryEngine(engine=engine, deeper=lambda _: "deeper", gate=gate)
    with capture_entropy() as seen:
        decisions = [decision_in(await both.aquery(bits)) for bits in (SURE, SURE)]
    engine.worker.task.cancel()
    assert [each.reason for each in decisions] == ["confident", "no_logprobs"]
    assert "without this draft's context" in decisions[1].detail
    assert len(seen.calls) == 4


def test_a_call_on_a_bare_thread_leaves_the_draft_unjudged(engines, gate):
    hidden = ask_logprobs(engines.llm(), gate=gate)

    class Hiding(CustomQueryEngine):
        def custom_query(self, query_str):
            hidden.complete(SURE)
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(hidden.complete, query_str).result().text

    both = EntropyGatedQueryEngine(engine=Hiding(), deeper=lambda _: "deeper", gate=gate)
    decision = decision_in(both.query(UNSURE))
    assert (decision.reason, decision.answered_by) == ("no_logprobs", "deeper")
    assert "without this draft's context" in decision.detail


@pytest.mark.parametrize(("rule", "answered_by"), [("worst", "deeper"), ("last", "draft")])
def test_of_a_first_call_without_logprobs_is_said_which_rule_leaves_it_out(engines, gate, rule, answered_by):
    class Routed(CustomQueryEngine):
        select: LLM
        llm: LLM

        def custom_query(self, query_str):
            self.select.complete(query_str)
            return self.llm.complete(query_str).text

    asked = [ask_logprobs(engines.llm(model), gate=gate) for model in ("ignores-logprobs", CHEAP)]
    engine = Routed(select=asked[0], llm=asked[1])
    both = EntropyGatedQueryEngine(engine=engine, deeper=engines.deep(), gate=gate, aggregate=rule)
    decision = decision_in(both.query(SURE))
    assert decision.answered_by == answered_by
    assert ("aggregate='last'" in decision.detail) == (rule == "worst")


async def test_drafts_at_the_same_time_are_no_strangers_to_one_another(engines, gate):
    asked = ask_logprobs(engines.llm(), gate=gate)

    class Asking(CustomQueryEngine):
        def custom_query(self, query_str):
            raise NotImplementedError

        async def acustom_query(self, query_str):
            return (await asked.acomplete(query_str)).text

    async def elsewhere():
        await ask_logprobs(engines.llm(), gate=make_gate()).acomplete(SURE)

    both = EntropyGatedQueryEngine(engine=Asking(), deeper=lambda _: "deeper", gate=gate)
    *answers, _ = await asyncio.gather(*(both.aquery(f"{SURE} delay=0.2") for _ in range(8)), elsewhere())
    assert [decision_in(each).answered_by for each in answers] == ["draft"] * 8


def test_nothing_is_kept_of_a_draft_that_is_over(engines, gate):
    with pytest.raises(Exception, match="500"):
        gated(engines, gate, SURE, model="broken").query("What?")
    assert not blocks._open
