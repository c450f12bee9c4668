"""A gated query engine wherever LlamaIndex takes a query engine; gated ones within one another; many at once."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from llama_index.core import Settings
from llama_index.core.chat_engine import CondenseQuestionChatEngine
from llama_index.core.evaluation import BaseEvaluator, EvaluationResult
from llama_index.core.indices.query.query_transform.base import IdentityQueryTransform
from llama_index.core.query_engine import (
    RetryQueryEngine,
    RouterQueryEngine,
    SubQuestionQueryEngine,
    TransformQueryEngine,
)
from llama_index.core.question_gen.types import BaseQuestionGenerator, SubQuestion
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.selectors import LLMSingleSelector
from llama_index.core.tools import QueryEngineTool, ToolMetadata
from llama_index_tje import EntropyGatedQueryEngine, ask_logprobs
from llama_index_tje.capture.handler import capture_entropy

from tests.gates import make_gate
from tje_middleware import TokenUsage

from .engines import CHEAP, DEEP, SURE, UNSURE, decision_in

pytestmark = pytest.mark.filterwarnings("ignore::tje_middleware.errors.TjeWarning")


class TestAsATool:
    async def test_gives_its_answer_and_its_decision(self, gated):
        tool = QueryEngineTool.from_defaults(gated(), name="city", description="Knows cities.")
        for output in (tool.call(UNSURE), await tool.acall(UNSURE)):
            assert output.content.startswith("deep-0")
            assert decision_in(output.raw_output).answered_by == "deeper"

    @pytest.mark.parametrize("use_async", [False, True], ids=["one by one", "at once"])
    def test_of_an_engine_that_asks_sub_questions_each_is_gated_alone(self, gated, engines, on_loop, use_async):
        class Both(BaseQuestionGenerator):
            def generate(self, tools, query):
                return [SubQuestion(sub_question=text, tool_name="city") for text in (SURE, UNSURE)]

            async def agenerate(self, tools, query):
                return self.generate(tools, query)

            def _get_prompts(self):
                return {}

            def _update_prompts(self, prompts_dict):
                pass

        engine = SubQuestionQueryEngine(
            Both(),
            get_response_synthesizer(llm=engines.llm("sums up"), use_async=use_async),
            [QueryEngineTool(gated(), ToolMetadata(name="city", description="Knows cities."))],
            verbose=False,
            use_async=use_async,
        )
        with capture_entropy() as seen:
            response = asyncio.run(engine.aquery("What?")) if on_loop else engine.query("What?")
        assert sorted(decision.route for decision in seen.decisions) == ["deeper", "final"]
        assert sorted(engines.asked) == sorted([CHEAP, CHEAP, DEEP, "sums up"])
        assert len(response.source_nodes) > 2


class TestInAChatEngine:
    def test_answers_each_message_gated(self, gated, engines):
        chat = CondenseQuestionChatEngine.from_defaults(gated(), llm=engines.llm("condenses"))
        assert str(chat.chat(SURE)).strip() == "w0 w1 w2 w3"
        answer = chat.chat("And now?")
        assert decision_in(answer.sources[0].raw_output).answered_by == "draft"
        assert engines.asked == [CHEAP, "condenses", CHEAP]

    async def test_likewise_on_the_event_loop(self, gated, engines):
        chat = CondenseQuestionChatEngine.from_defaults(gated(), llm=engines.llm("condenses"))
        answer = await chat.achat(UNSURE)
        assert decision_in(answer.sources[0].raw_output).answered_by == "deeper"

    @pytest.mark.parametrize(("bits", "first"), [(SURE, "w0"), (UNSURE, "deep-0")])
    def test_streams_what_is_accepted_and_what_is_deeper(self, engines, gate, bits, first):
        engine = EntropyGatedQueryEngine(
            engine=engines.engine(bits, streaming=True, gate=gate),
            deeper=engines.deep(streaming=True),
            gate=gate,
        )
        chat = CondenseQuestionChatEngine.from_defaults(engine, llm=engines.llm("condenses"))
        text = "".join(chat.stream_chat("What?").response_gen)
        assert text.split()[0] == first
        assert chat.chat_history[-1].content.strip() == text.strip()

    @pytest.mark.parametrize(("bits", "first"), [(SURE, "w0"), (UNSURE, "deep-0")])
    async def test_likewise_on_the_event_loop_in_a_stream(self, engines, gate, bits, first):
        engine = EntropyGatedQueryEngine(
            engine=engines.engine(bits, streaming=True, gate=gate),
            deeper=engines.deep(streaming=True),
            gate=gate,
        )
        chat = CondenseQuestionChatEngine.from_defaults(engine, llm=engines.llm("condenses"))
        answer = await chat.astream_chat("What?")
        text = "".join([token async for token in answer.async_response_gen()])
        assert text.split()[0] == first


class TestAroundOtherEngines:
    """Every LLM of the engines within an engine is one that is asked."""

    async def test_a_transformed_query(self, gated, gate, engines, ask, provider):
        engine = TransformQueryEngine(engines.engine(SURE, gate=gate), IdentityQueryTransform())
        assert decision_in((await ask(gated(engine=engine)))[1]).accepted
        assert provider.asked_for_logprobs() == [20]

    async def test_a_chosen_engine_and_the_llm_that_chooses(self, gated, gate, engines, ask, provider):
        choose = ask_logprobs(engines.llm(), gate=gate)
        tools = [
            QueryEngineTool(engines.engine(text, gate=gate), ToolMetadata(name=name, description=name))
            for name, text in (("sure", SURE), ("unsure", UNSURE))
        ]
        selector = LLMSingleSelector.from_defaults(llm=choose)
        router = RouterQueryEngine(selector, tools, llm=choose)
        # The selector reads JSON, which the query tells the stand-in to say; the engine is told the same.
        said = 'says="[{\\"choice\\": 1, \\"reason\\": \\"so\\"}]" bits=0.4'
        decision = decision_in((await ask(gated(engine=router), said))[1])
        assert (decision.accepted, decision.draft_usage.calls) == (True, 2)
        assert provider.asked_for_logprobs() == [20, 20]

    async def test_a_retried_answer_counts_every_try(self, gated, gate, engines, ask, provider, monkeypatch):
        monkeypatch.setattr(Settings, "_llm", engines.llm("never asked"))

        class FailsOnce(BaseEvaluator):
            tries = 0

            async def aevaluate(self, query=None, response=None, contexts=None, **kwargs):
                FailsOnce.tries += 1
                return EvaluationResult(passing=FailsOnce.tries > 1, feedback="more", response=response)

            def _get_prompts(self):
                return {}

            def _update_prompts(self, prompts_dict):
                pass

        engine = RetryQueryEngine(engines.engine(SURE, gate=gate), FailsOnce(), max_retries=2)
        decision = decision_in((await ask(gated(engine=engine)))[1])
        assert (decision.accepted, decision.draft_usage.calls) == (True, 2)
        assert provider.asked_for_logprobs() == [20, 20]


class TestWithinOneAnother:
    @pytest.fixture
    def three(self, engines):
        """A gate of 2.5 bits for the cheap model within a gate of 1 bit: cheap, then middle, then deep."""

        def make(cheap, middle, **outer):
            gate = make_gate()
            inner = EntropyGatedQueryEngine(
                engine=engines.engine(cheap, gate=gate),
                deeper=engines.engine(middle, gate=gate),  # it answers what the outer gate judges
                gate=gate,
                threshold=2.5,
            )
            return EntropyGatedQueryEngine(engine=inner, deeper=engines.deep(), gate=make_gate(), **outer)

        return make

    async def test_what_both_accept_is_the_cheap_answer(self, three, engines, ask):
        decision = decision_in((await ask(three(SURE, SURE)))[1])
        assert (decision.answered_by, decision.threshold, engines.asked) == ("draft", 1.0, [CHEAP])

    async def test_what_only_the_inner_accepts_goes_deeper(self, three, engines, ask):
        decision = decision_in((await ask(three("bits=2.0", SURE)))[1])
        assert (decision.answered_by, decision.signal_value) == ("deeper", pytest.approx(2.0))
        assert engines.asked == [CHEAP, DEEP]

    @pytest.mark.parametrize("rule", ["worst", "last", "pooled"])
    async def test_a_draft_that_the_inner_rejected_does_not_speak_for_its_better_answer(
        self, three, engines, ask, provider, rule
    ):
        decision = decision_in((await ask(three(UNSURE, SURE, aggregate=rule)))[1])
        assert (decision.answered_by, decision.signal_value) == ("draft", pytest.approx(0.5))
        assert decision.draft_usage == TokenUsage(input_tokens=20, output_tokens=10, calls=2)
        assert provider.asked_for_logprobs() == [20, 20]

    async def test_where_the_inner_deeper_engine_fails_its_draft_speaks(self, engines, gate, ask):
        inner = EntropyGatedQueryEngine(
            engine=engines.engine("bits=2.0", gate=gate), deeper=engines.engine(model="broken"), gate=gate
        )
        outer = EntropyGatedQueryEngine(engine=inner, deeper=engines.deep(), gate=make_gate(), threshold=2.5)
        decision = decision_in((await ask(outer))[1])
        assert (decision.answered_by, decision.signal_value) == ("draft", pytest.approx(2.0))

    async def test_a_gated_deeper_engine_has_its_own_gate(self, engines, gate, ask):
        middle = make_gate("middle")
        deeper = EntropyGatedQueryEngine(
            engine=engines.engine(UNSURE, model="middle", gate=middle), deeper=engines.deep(), gate=middle
        )
        engine = EntropyGatedQueryEngine(engine=engines.engine(UNSURE, gate=gate), deeper=deeper, gate=gate)
        text, response = await ask(engine)
        decision = decision_in(response)
        assert (text.split()[0], engines.asked) == ("deep-0", [CHEAP, "middle", DEEP])
        assert decision.key.startswith(CHEAP)
        assert decision.deeper_usage == TokenUsage(input_tokens=20, output_tokens=10, calls=2)


class TestManyAtOnce:
    BITS = tuple(round(0.22 + 0.05 * number, 2) for number in range(50))

    def check(self, responses):
        for bits, response in zip(self.BITS, responses, strict=False):
            decision = decision_in(response)
            assert decision.signal_value == pytest.approx(bits)
            assert decision.answered_by == ("draft" if bits <= 1.0 else "deeper")
            assert decision.draft_usage == TokenUsage(input_tokens=20, output_tokens=4 + 3, calls=2)
            assert (decision.deeper_usage is None) == (bits <= 1.0)

    def engine(self, engines, gate):
        # Two calls a draft: the first is of the query's bits, the second always sure.
        engine = engines.engine(gate=gate)

        class Twice(type(engine)):
            def _query(self, query_bundle):
                assert str(self.sure.query("What?"))
                return super()._query(query_bundle)

            async def _aquery(self, query_bundle):
                assert str(await self.sure.aquery("What?"))
                return await super()._aquery(query_bundle)

        twice = Twice(engine._retriever, engine._response_synthesizer)
        twice.sure = engines.engine("bits=0.1 tokens=3", gate=gate)
        return EntropyGatedQueryEngine(engine=twice, deeper=engines.deep(), gate=gate)

    async def test_tasks_have_each_their_own_decision(self, engines, gate):
        engine = self.engine(engines, gate)
        self.check(await asyncio.gather(*[engine.aquery(f"bits={bits}") for bits in self.BITS]))

    def test_so_have_threads(self, engines, gate):
        engine = self.engine(engines, gate)
        with ThreadPoolExecutor(30) as pool:
            self.check(list(pool.map(lambda bits: engine.query(f"bits={bits}"), self.BITS[:30])))
