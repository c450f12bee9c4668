"""The deeper branch of a query: an engine or a function, what it is given, and what happens when it fails."""

from __future__ import annotations

import asyncio
import functools
import threading

import pytest
from llama_index.core.base.response.schema import Response, StreamingResponse
from llama_index.core.schema import QueryBundle
from llama_index.core.workflow import Context, StartEvent, StopEvent, Workflow, step
from llama_index.core.workflow.events import HumanResponseEvent, InputRequiredEvent
from llama_index_tje import EntropyGatedQueryEngine

from tje_middleware import Route, TokenUsage

from .engines import CHEAP, SURE, UNSURE, decision_in

pytestmark = pytest.mark.filterwarnings("ignore::tje_middleware.errors.TjeWarning")


@pytest.fixture
def gated(engines, gate):
    """Makes an engine whose cheap answer is unsure."""

    def make(deeper, **options):
        return EntropyGatedQueryEngine(engine=engines.engine(UNSURE, gate=gate), deeper=deeper, gate=gate, **options)

    return make


class TestAFunction:
    def test_is_given_the_query_and_answers_in_a_text(self, gated):
        response = gated(lambda query: f"thought about {query.query_str}").query("What?")
        assert (str(response), decision_in(response).answered_by) == ("thought about What?", "deeper")

    def test_may_answer_in_a_response_whose_metadata_stay(self, gated):
        response = gated(lambda _query: Response("deep", metadata={"mine": 1})).query("What?")
        assert (str(response), response.metadata["mine"]) == ("deep", 1)

    def test_is_given_what_else_it_names(self, gated):
        def deeper(query, draft, decision):
            return f"{query.query_str} {str(draft).strip()} {decision.route} {len(draft.source_nodes)}"

        assert str(gated(deeper).query("What?")) == "What? w0 w1 w2 w3 w4 w5 deeper 1"

    def test_and_of_synthesis_the_nodes(self, gated):
        engine, bundle = gated(lambda _query, nodes: nodes[0].text), QueryBundle("What?")
        assert str(engine.synthesize(bundle, engine.retrieve(bundle))) == UNSURE

    def test_may_be_an_object_or_a_part_of_a_function(self, gated):
        class Deeper:
            def __call__(self, query):
                return f"object {query.query_str}"

        def named(word, query):
            return f"{word} {query.query_str}"

        assert str(gated(Deeper()).query("What?")) == "object What?"
        assert str(gated(functools.partial(named, "part")).query("What?")) == "part What?"

    async def test_may_be_asynchronous(self, gated):
        async def deeper(query, decision):
            await asyncio.sleep(0)
            return f"{query.query_str} {decision.route}"

        assert str(await gated(deeper).aquery("What?")) == "What? deeper"

    async def test_that_blocks_does_not_block_the_loop(self, gated):
        response = await gated(lambda _query: threading.current_thread().name).aquery("What?")
        assert str(response) != threading.main_thread().name

    async def test_that_gives_what_is_to_be_awaited_is_awaited(self, gated, engines):
        deep = engines.deep()

        def later(query):
            return deep.aquery(query)

        assert str(await gated(later).aquery("What?")).startswith("deep-0")

    def test_that_is_asynchronous_is_not_called_without_a_loop(self, gated):
        async def deeper(query):
            return query.query_str

        with pytest.raises(TypeError, match="aquery"):
            gated(deeper).query("What?")

    async def test_pays_for_the_models_that_it_calls(self, gated, engines, on_loop):
        deep = engines.llm("deep")
        engine = gated(lambda _query: str(deep.complete(SURE)))
        response = await engine.aquery("What?") if on_loop else engine.query("What?")
        assert decision_in(response).deeper_usage == TokenUsage(input_tokens=10, output_tokens=4, calls=1)

    def test_whose_required_parameter_nobody_gives_is_refused_when_the_gate_is_built(self, gated):
        def deeper(query, style):
            return f"{style} {query.query_str}"

        with pytest.raises(TypeError, match="deeper requires 'style', which it is not given"):
            gated(deeper)

    def test_that_has_a_default_for_it_is_taken(self, gated):
        assert str(gated(lambda query, style="plain": f"{style} {query.query_str}").query("What?")) == "plain What?"

    def test_is_not_asked_where_the_draft_is_accepted(self, engines, gate):
        engine = EntropyGatedQueryEngine(
            engine=engines.engine(SURE, gate=gate), deeper=lambda _query: 1 / 0, gate=gate
        )
        assert decision_in(engine.query("What?")).route is Route.FINAL


class TestAFailure:
    async def test_leaves_the_draft_which_says_so(self, gated, engines, on_loop):
        engine = gated(engines.engine(SURE, model="broken"))
        response = await engine.aquery("What?") if on_loop else engine.query("What?")
        decision = decision_in(response)
        assert str(response).strip() == "w0 w1 w2 w3 w4 w5"
        assert (decision.route, decision.reason) == (Route.DEEPER, "branch_failed")
        assert decision.answered_by == "draft"
        assert engines.asked == [CHEAP, "broken"]

    async def test_is_raised_by_choice(self, gated, engines, on_loop):
        engine = gated(engines.engine(SURE, model="broken"), on_branch_error="raise")
        with pytest.raises(Exception, match="500"):
            await engine.aquery("What?") if on_loop else engine.query("What?")

    async def test_is_not_what_a_function_has_that_gives_no_answer(self, gated, on_loop):
        engine = gated(lambda _query: 42)
        with pytest.raises(TypeError, match="not 42"):
            await engine.aquery("What?") if on_loop else engine.query("What?")

    def test_of_the_cheap_engine_is_the_querys(self, engines, gate):
        engine = EntropyGatedQueryEngine(
            engine=engines.engine(SURE, model="broken"), deeper=engines.deep(), gate=gate
        )
        with pytest.raises(Exception, match="500"):
            engine.query("What?")
        assert engines.asked == ["broken"]

    def test_of_a_stream_that_gave_nothing_leaves_the_draft(self, gated):
        def tokens():
            raise ConnectionError("broken off")
            yield

        decision = decision_in(gated(lambda _query: StreamingResponse(tokens())).query("What?"))
        assert (decision.reason, decision.answered_by) == ("branch_failed", "draft")


async def test_a_branch_that_waits_for_a_person_is_waited_for(gated):
    class Ask(Workflow):
        @step
        async def answer(self, ctx: Context, ev: StartEvent) -> StopEvent:
            async def deeper(_query):
                said = await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent())
                return said.response

            return StopEvent(result=await gated(deeper).aquery(ev.question))

    running = Ask(timeout=30).run(question="What?")
    async for event in running.stream_events():
        if isinstance(event, InputRequiredEvent):
            running.ctx.send_event(HumanResponseEvent(response="forty-two"))
    response = await running
    assert (str(response), decision_in(response).answered_by) == ("forty-two", "deeper")
