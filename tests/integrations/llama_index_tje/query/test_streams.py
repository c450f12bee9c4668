"""Streaming query engines: held until judged, passed on where they are the deeper ones, left without a trace."""

from __future__ import annotations

import asyncio
import gc
from itertools import islice

import pytest
from llama_index.core.base.response.schema import AsyncStreamingResponse, Response, StreamingResponse
from llama_index.core.query_engine import CustomQueryEngine
from llama_index_tje import EntropyGatedQueryEngine
from llama_index_tje.capture.blocks import _blocks

from tests.gates import make_gate
from tje_middleware import GateError, TokenUsage

from .engines import CHEAP, DEEP, SURE, UNSURE, aread, atext, decision_in, read

SLOW = "bits=0.5 tokens=50 pace=0.02"

pytestmark = pytest.mark.filterwarnings("ignore::tje_middleware.errors.TjeWarning")


@pytest.fixture
def gated(engines, gate):
    def make(*texts, deep=("says_model",), gate=gate, **options):
        return EntropyGatedQueryEngine(
            engine=engines.engine(*texts, streaming=True, gate=gate),
            deeper=engines.deep(*deep, streaming=True),
            gate=gate,
            **options,
        )

    return make


class TestHeld:
    def test_an_accepted_stream_is_one_token_and_stays_a_stream(self, gated):
        response = gated(SURE).query("What?")
        assert isinstance(response, StreamingResponse)
        assert decision_in(response).answered_by == "draft"
        assert list(response.response_gen) == ["w0 w1 w2 w3 "]

    async def test_likewise_on_the_event_loop(self, gated):
        response = await gated(SURE).aquery("What?")
        assert isinstance(response, AsyncStreamingResponse)
        assert decision_in(response).answered_by == "draft"
        assert [token async for token in response.response_gen] == ["w0 w1 w2 w3 "]

    async def test_its_text_can_be_had_in_all_the_ways_of_llama_index(self, gated):
        response, later = gated(SURE).query("What?"), await gated(SURE).aquery("What?")
        assert str(response) == response.get_response().response == "w0 w1 w2 w3 "
        assert (await later.get_response()).response == "w0 w1 w2 w3 "
        assert [token async for token in later.async_response_gen()] == ["w0 w1 w2 w3 "]

    def test_a_rejected_one_is_never_seen(self, gated, engines):
        text, response = read(gated(UNSURE), "What?")
        assert (text.split()[0], engines.asked) == ("deep-0", [CHEAP, DEEP])
        assert decision_in(response).draft_usage.output_tokens == 6

    async def test_a_blocking_stream_does_not_block_the_loop(self, engines, gate):
        engine = engines.engine(SURE, streaming=True)

        class OnlySync(CustomQueryEngine):
            def custom_query(self, query_str):
                return engine.query(query_str)

        engine._response_synthesizer._llm = engines.llm(logprobs=True, top_logprobs=20)
        both = EntropyGatedQueryEngine(engine=OnlySync(), deeper=engines.deep(), gate=gate)
        response = await both.aquery("What?")
        assert isinstance(response, StreamingResponse)
        assert decision_in(response).answered_by == "draft"

    def test_an_asynchronous_stream_is_read_where_there_is_no_loop(self, engines, gate):
        async def tokens():
            yield "Par"
            yield "is"

        class OnlyAsync(CustomQueryEngine):
            def custom_query(self, query_str):
                return AsyncStreamingResponse(tokens())

        both = EntropyGatedQueryEngine(engine=OnlyAsync(), deeper=engines.deep(), gate=make_gate(on_missing="final"))
        assert both.query("What?").response_txt == "Paris"


class TestTheDeeperStream:
    def test_passes_through_as_it_comes(self, gated):
        response = gated(UNSURE).query("What?")
        assert [token.strip() for token in response.response_gen if token] == [f"deep-{i}" for i in range(4)]

    async def test_likewise_on_the_event_loop(self, gated):
        response = await gated(UNSURE).aquery("What?")
        tokens = [token.strip() async for token in response.response_gen if token]
        assert tokens == [f"deep-{i}" for i in range(4)]

    def test_its_usage_is_known_when_it_has_ended(self, gated):
        response = gated(UNSURE, deep=(f"says_model {SLOW}",)).query("What?")
        tokens = iter(response.response_gen)
        next(tokens)
        assert decision_in(response).deeper_usage.output_tokens < 50
        assert len(list(tokens)) >= 48
        assert decision_in(response).deeper_usage.output_tokens == 50

    async def test_likewise_of_an_asynchronous_one(self, gated):
        response = await gated(UNSURE).aquery("What?")
        await atext(response)
        assert decision_in(response).deeper_usage == TokenUsage(0, 4, calls=1, partly_known=1)

    async def test_one_that_fails_before_its_first_token_leaves_the_draft(self, engines, gate, on_loop):
        # Its LLM is asked only when the first token is.
        deeper = engines.engine(SURE, model="broken", streaming=True)
        engine = EntropyGatedQueryEngine(
            engine=engines.engine(UNSURE, streaming=True, gate=gate), deeper=deeper, gate=gate
        )
        text, response = await aread(engine, "What?") if on_loop else read(engine, "What?")
        decision = decision_in(response)
        assert (text, decision.reason) == ("w0 w1 w2 w3 w4 w5 ", "branch_failed")
        assert decision.answered_by == "draft"

    def test_one_that_fails_later_fails_its_reader(self, engines, gate):
        def tokens():
            yield "Par"
            raise ConnectionError("broken off")

        engine = EntropyGatedQueryEngine(
            engine=engines.engine(UNSURE, gate=gate), deeper=lambda _query: StreamingResponse(tokens()), gate=gate
        )
        response = engine.query("What?")
        assert next(response.response_gen) == "Par"
        with pytest.raises(ConnectionError, match="broken off"):
            next(response.response_gen)
        assert decision_in(response).answered_by == "deeper"


class TestAnnotated:
    @pytest.mark.parametrize("bits", [SURE, UNSURE])
    def test_the_draft_streams_and_the_decision_comes_at_its_end(self, gated, engines, bits):
        response = gated(bits, mode="annotate").query("What?")
        assert "tje" not in response.metadata
        tokens = [token for token in response.response_gen if token]
        assert len(tokens) == (4 if bits == SURE else 6)
        decision = decision_in(response)
        assert (decision.accepted, decision.answered_by) == (bits == SURE, "draft")
        assert (decision.draft_usage.output_tokens, engines.asked) == (len(tokens), [CHEAP])

    async def test_likewise_on_the_event_loop(self, gated):
        response = await gated(UNSURE, mode="annotate").aquery("What?")
        assert "tje" not in response.metadata
        assert len([token async for token in response.response_gen if token]) == 6
        assert (decision_in(response).accepted, decision_in(response).answered_by) == (False, "draft")

    def test_the_first_token_comes_before_the_last_is_written(self, gated, provider):
        response = gated(SLOW, mode="annotate").query("What?")
        next(response.response_gen)
        assert not provider.streams[0].finished
        response.response_gen.close()

    def test_a_stream_without_tokens_has_a_decision_too(self, engines):
        class Silent(CustomQueryEngine):
            def custom_query(self, query_str):
                return StreamingResponse(iter(()))

        gate = make_gate()
        engine = EntropyGatedQueryEngine(engine=Silent(), deeper=engines.deep(), gate=gate, mode="annotate")
        text, response = read(engine, "What?")
        assert (text, decision_in(response).reason) == ("", "no_logprobs")

    def test_a_gate_that_raises_does_so_at_its_end(self, gated):
        engine = gated(SURE, mode="annotate", gate=make_gate("another", on_missing="raise"))
        response = engine.query("What?")
        with pytest.raises(GateError, match="another"):
            list(response.response_gen)

    def test_a_response_that_is_whole_is_annotated_at_once(self, engines, gate):
        engine = EntropyGatedQueryEngine(
            engine=engines.engine(UNSURE, gate=gate), deeper=engines.deep(), gate=gate, mode="annotate"
        )
        response = engine.query("What?")
        assert isinstance(response, Response)
        assert decision_in(response).answered_by == "draft"


class TestLeft:
    @pytest.mark.parametrize("mode", ["hold", "annotate"])
    @pytest.mark.parametrize("read_first", [True, False], ids=["begun", "unread"])
    def test_an_abandoned_stream_is_hung_up_on_and_nothing_stays(self, gated, provider, mode, read_first):
        texts, deep = ((SLOW,), "x") if mode == "annotate" else ((UNSURE,), f"says_model {SLOW}")
        response = gated(*texts, deep=(deep,), mode=mode).query("What?")
        if read_first:
            next(response.response_gen)
        del response
        gc.collect()
        assert provider.wait_for_disconnect()
        assert _blocks._tracking.is_idle

    async def test_so_is_an_annotated_one_on_the_event_loop(self, gated, provider):
        response = await gated(SLOW, mode="annotate").aquery("What?")
        await anext(response.response_gen)
        await response.response_gen.aclose()
        # What LlamaIndex has in between is closed by the loop.
        assert await asyncio.to_thread(provider.wait_for_disconnect)
        assert _blocks._tracking.is_idle

    async def test_a_deeper_one_is_closed_at_once_on_the_event_loop(self, engines, gate):
        closed = []

        async def tokens():
            try:
                yield "Par"
                yield "is"
            finally:
                closed.append(True)

        async def deeper(_query):
            return AsyncStreamingResponse(tokens())

        engine = EntropyGatedQueryEngine(engine=engines.engine(UNSURE, gate=gate), deeper=deeper, gate=gate)
        response = await engine.aquery("What?")
        assert await anext(response.response_gen) == "Par"
        await response.response_gen.aclose()
        assert closed
        assert decision_in(response).answered_by == "deeper"

    def test_what_was_spent_until_then_is_in_the_decision(self, gated):
        response = gated(UNSURE, deep=(f"says_model {SLOW}",)).query("What?")
        read = list(islice(response.response_gen, 5))
        response.response_gen.close()
        usage = decision_in(response).deeper_usage
        assert (usage.calls, usage.partly_known) == (1, 1)
        assert len("".join(read).split()) <= usage.output_tokens < 50

    def test_a_draft_that_fails_while_it_is_read_fails_the_query(self, engines, gate):
        engine = EntropyGatedQueryEngine(
            engine=engines.engine(SURE, model="broken", streaming=True, gate=gate), deeper=engines.deep(), gate=gate
        )
        with pytest.raises(Exception, match="500"):
            engine.query("What?")
        assert _blocks._tracking.is_idle
