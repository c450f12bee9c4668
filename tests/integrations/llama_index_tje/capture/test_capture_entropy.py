"""Blocks of ``capture_entropy``: which calls belong to which, and that nothing is left when they are over."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from llama_index.core import Document, MockEmbedding, SummaryIndex, VectorStoreIndex
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent, ReActAgent
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.instrumentation import get_dispatcher, root_dispatcher
from llama_index.core.llms import LLM, MockLLM
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.tools import function_tool
from llama_index_tje import EntropyEventHandler, capture_entropy
from llama_index_tje.capture.blocks import _blocks, announce
from llama_index_tje.capture.calls import CallTracking
from llama_index_tje.capture.captured import CapturedEntropy
from openai import InternalServerError

from tje_middleware import GateDecision, Route, TokenUsage
from tje_middleware.calls.log import ModelCall

from ..conftest import Make
from ..ways import EVERY, achat, bits, chat, messages, stream_chat

DECISION = GateDecision(Route.DEEPER, "uncertain", "2 bits", "mean_entropy", "bayes")


def is_listening() -> bool:
    """Whether anything of ours is on the root dispatcher."""
    handlers = [*root_dispatcher.event_handlers, *root_dispatcher.span_handlers]
    return any(type(each).__module__.startswith("llama_index_tje") for each in handlers)


@pytest.fixture(autouse=True)
def _nothing_goes_on() -> Iterator[None]:
    assert not is_listening()
    yield
    gc.collect()
    assert (_blocks._open, _blocks._tracking._spans, _blocks._tracking._streams) == (0, {}, {})
    assert not is_listening()


def check_nothing_is_open(seen: CapturedEntropy) -> None:
    assert (seen.in_flight, seen._log.runs_open, seen.errors) == (0, 0, 0)


# Exactly its own


@pytest.mark.parametrize("way", EVERY, ids=lambda way: way.__name__)
async def test_sees_a_call_of_its_own_and_no_other(way, like: Make) -> None:
    llm = like(reuse_client=False)
    await way(llm, "bits=0.1")
    with capture_entropy() as seen:
        await way(llm, "bits=0.5")
    await way(llm, "bits=0.9")
    assert bits(seen.calls) == pytest.approx([0.5])
    check_nothing_is_open(seen)


async def test_two_hundred_tasks_at_once_each_see_their_own_calls(like: Make) -> None:
    llm = like(timeout=120)

    async def ask(number: int) -> tuple[int, list[tuple[float, int]]]:
        with capture_entropy() as seen:
            if number % 2:
                await llm.achat(messages(f"bits={number / 50} tokens={number % 7 + 1}"))
            else:
                async for _ in await llm.astream_chat(messages(f"bits={number / 50} tokens={number % 7 + 1}")):
                    pass
        check_nothing_is_open(seen)
        return number, [(call.mean_entropy, call.usage.output_tokens) for call in seen.calls]

    with capture_entropy() as everything:
        found = await asyncio.gather(*map(ask, range(1, 201)))
    assert {number: len(calls) for number, calls in found} == dict.fromkeys(range(1, 201), 1)
    assert [calls[0][0] for _, calls in found] == pytest.approx([number / 50 for number, _ in found])
    assert [calls[0][1] for _, calls in found] == [number % 7 + 1 for number, _ in found]
    assert (len(everything.calls), everything.usage.calls) == (200, 200)
    assert everything.usage.output_tokens == sum(number % 7 + 1 for number in range(1, 201))
    check_nothing_is_open(everything)


def test_two_hundred_calls_on_threads_are_each_seen_by_their_own_block(like: Make) -> None:
    llm = like(timeout=120)

    def ask(number: int) -> tuple[int, list[float]]:
        with capture_entropy() as seen:
            if number % 2:
                llm.chat(messages(f"bits={number / 50}"))
            else:
                list(llm.stream_chat(messages(f"bits={number / 50}")))
        check_nothing_is_open(seen)
        return number, [call.mean_entropy for call in seen.calls]

    with EntropyEventHandler() as handler, ThreadPoolExecutor(20) as pool:
        found = list(pool.map(ask, range(1, 201)))
    assert [calls for _, calls in found] == [[pytest.approx(number / 50)] for number, _ in found]
    assert (len(handler.calls), handler.usage.calls, handler.in_flight, handler.errors) == (200, 200, 0, 0)
    assert bits(handler.calls) == pytest.approx([number / 50 for number in range(1, 201)])


def test_blocks_that_open_and_close_on_many_threads_lose_no_call() -> None:
    llm = MockLLM(max_tokens=2)

    def ask(_: int) -> int:
        seen = []
        for _ in range(30):
            with capture_entropy() as block:
                llm.complete("?")
            seen.append(len(block.calls))
        return seen.count(1)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [30] * 8


def test_streams_in_cycles_that_the_collector_finds_at_any_moment_are_each_settled_once() -> None:
    llm, thresholds = MockLLM(max_tokens=2), gc.get_threshold()

    def work(number: int) -> None:
        for step in range(20):
            with capture_entropy() as seen:
                cycle: list[object] = [llm.stream_chat(messages("?"))]
                cycle.append(cycle)
                if (number + step) % 2:
                    next(cycle[0])
                del cycle
                assert seen.usage.calls == 1
                assert len(seen.calls) == 0

    gc.set_threshold(3, 2, 2)  # in the middle of nearly anything, also of what holds a lock
    try:
        with EntropyEventHandler() as handler, ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
            gc.collect()
            assert (handler.usage.calls, handler.in_flight, handler.errors) == (80, 0, 0)
    finally:
        gc.set_threshold(*thresholds)


# Streams


def test_a_stream_that_is_read_outside_of_it_is_its_own(like: Make) -> None:
    with capture_entropy() as seen:
        stream = like().stream_chat(messages("bits=0.5"))
    assert is_listening()
    with capture_entropy() as later:
        for _ in stream:
            pass
    assert bits(seen.calls) == pytest.approx([0.5])
    assert later.calls == ()


async def test_a_stream_that_starts_another_outside_of_it_is_one_call_of_its_own() -> None:
    with capture_entropy() as seen:
        stream = await MockLLM(max_tokens=3).astream_chat(messages("?"))
    async for _ in stream:
        pass
    assert len(seen.calls) == seen.usage.calls == 1
    check_nothing_is_open(seen)


def test_what_a_stream_decides_when_it_is_read_outside_of_it_is_its_own(like: Make) -> None:
    class Deciding(MockLLM):
        def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: object):
            yield from like().stream_complete(prompt)
            announce(DECISION)

    with capture_entropy() as seen:
        stream = Deciding().stream_complete("bits=0.5")
    with capture_entropy() as later:
        for _ in stream:
            pass
    assert (bits(seen.calls), seen.decisions) == ([0.5], (DECISION,))
    assert (later.calls, later.decisions) == ((), ())


def test_a_block_in_a_streams_own_code_has_what_is_called_in_it(like: Make) -> None:
    """As when a stream is gated: its draft is captured in the code that streams, whoever reads it, wherever."""
    within: list[ModelCall] = []

    class Capturing(MockLLM):
        @llm_completion_callback()
        def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: object):
            with capture_entropy() as drafting:
                draft = like().complete(prompt)
            within.extend(drafting.calls)
            yield draft

    with capture_entropy() as seen:
        stream = Capturing().stream_complete("bits=0.5")
        with capture_entropy() as of_reader:
            list(stream)
    assert bits(within) == bits(seen.calls) == [0.5]
    assert of_reader.calls == ()


def test_a_stream_that_is_read_on_a_bare_thread_is_its_own(like: Make) -> None:
    with capture_entropy() as seen:
        stream = like().stream_chat(messages("bits=0.5"))
        thread = threading.Thread(target=lambda: list(stream))
        thread.start()
        thread.join()
    assert bits(seen.calls) == pytest.approx([0.5])


@pytest.mark.parametrize("read", [0, 3])
def test_a_stream_that_is_thrown_away_after_it_leaves_nothing(read: int, like: Make) -> None:
    with capture_entropy() as seen:
        stream = like().stream_chat(messages("tokens=50"))
    for _ in range(read):
        next(stream)
    assert seen.in_flight == 1
    del stream
    gc.collect()
    assert not is_listening()
    assert seen.usage == TokenUsage(output_tokens=max(read - 1, 0), calls=1, partly_known=1)
    check_nothing_is_open(seen)


async def test_a_task_that_is_cancelled_leaves_nothing(like: Make) -> None:
    with capture_entropy() as seen:
        stream = await like().astream_chat(messages("tokens=1000 pace=0.01"))

        async def read() -> None:
            async for _ in stream:
                pass

        task = asyncio.create_task(read())
        while seen.usage.output_tokens < 3:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert seen.calls == ()
    assert seen.usage.output_tokens >= 3
    check_nothing_is_open(seen)


async def test_a_stream_that_is_closed_before_it_is_begun_leaves_nothing(like: Make) -> None:
    with capture_entropy() as seen:
        stream = await like().astream_chat(messages("?"))
        await stream.aclose()
        check_nothing_is_open(seen)
    assert seen.usage == TokenUsage(calls=1, partly_known=1)


@pytest.mark.parametrize("around", [False, True], ids=["within none", "within another"])
async def test_what_a_task_calls_after_its_block_is_left_is_seen_by_the_one_around_that(around, like: Make) -> None:
    go = asyncio.Event()

    async def late() -> None:
        await go.wait()
        await achat(like(reuse_client=False), "bits=0.4")

    with capture_entropy() if around else contextlib.nullcontext() as outer:
        with capture_entropy() as left:
            task = asyncio.create_task(late())
            await asyncio.sleep(0)
        with capture_entropy() as elsewhere:
            go.set()
            await task
    assert (left.calls, elsewhere.calls) == ((), ())
    if around:
        assert bits(outer.calls) == pytest.approx([0.4])


def test_reading_many_streams_after_it_costs_about_as_much_as_reading_a_few() -> None:
    looked_at = []

    class Counted(CallTracking):
        def settle(self) -> None:
            looked_at.append(len(self._streams))
            super().settle()

    with capture_entropy() as seen:
        streams = [MockLLM(max_tokens=4).stream_complete("a b c d") for _ in range(100)]
    tracking, kind = _blocks._tracking, type(_blocks._tracking)
    tracking.__class__ = Counted
    try:
        for _ in range(5):
            for stream in streams:
                next(stream, None)
    finally:
        tracking.__class__ = kind
    events = 100 * 5
    assert sum(looked_at) <= 4 * events  # and not the square of the number of streams
    assert len(seen.calls) == 100
    assert not is_listening()


async def test_a_request_that_is_cancelled_counts_as_partly_known() -> None:
    class Waiting(MockLLM):
        @llm_completion_callback()
        async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: object):
            await asyncio.Event().wait()

    with capture_entropy() as seen:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(Waiting().acomplete("?"), 0.02)
        check_nothing_is_open(seen)
    assert seen.usage == TokenUsage(calls=1, partly_known=1)


# What LlamaIndex runs


@pytest.fixture
def index() -> SummaryIndex:
    return SummaryIndex.from_documents([Document(text=f"Fact {number}.") for number in range(3)])


class TestAQueryEngine:
    @pytest.mark.parametrize(("mode", "calls"), [("compact", 1), ("refine", 3), ("tree_summarize", 1)])
    def test_has_the_calls_of_its_span(self, mode, calls, index, like: Make) -> None:
        engine = index.as_query_engine(llm=like(), response_mode=mode)
        with capture_entropy() as seen:
            engine.query("bits=0.5 tokens=3")
        assert [call.mean_entropy for call in seen.calls] == [pytest.approx(0.5)] * calls
        outermost = {call.ancestors[-1] for call in seen.calls}
        assert len(outermost) == 1
        assert "query" in next(iter(outermost))
        assert seen.calls_of(outermost.pop()) == seen.calls
        assert seen.usage.output_tokens == 3 * calls
        check_nothing_is_open(seen)

    @pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize"])
    async def test_that_is_asynchronous_has_them_too(self, mode, index, like: Make) -> None:
        with capture_entropy() as seen:
            await index.as_query_engine(llm=like(), response_mode=mode).aquery("bits=0.5")
        assert seen.mean_entropy == pytest.approx(0.5)
        check_nothing_is_open(seen)

    @pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize"])
    def test_that_streams_has_a_call_once_its_answer_is_read(self, mode, index, like: Make) -> None:
        with capture_entropy() as seen:
            answer = index.as_query_engine(llm=like(), response_mode=mode, streaming=True).query("bits=0.5 tokens=9")
        before = len(seen.calls)
        list(answer.response_gen)
        assert len(seen.calls) == before + 1
        assert len(seen.last.logprobs) == 9
        assert seen.mean_entropy == pytest.approx(0.5)
        assert "query" in seen.last.ancestors[-1]
        check_nothing_is_open(seen)

    async def test_that_streams_asynchronously_does_so_too(self, index, like: Make) -> None:
        with capture_entropy() as seen:
            answer = await index.as_query_engine(llm=like(), streaming=True).aquery("bits=0.5 tokens=9")
            async for _ in answer.async_response_gen():
                pass
        assert [len(call.logprobs) for call in seen.calls] == [9]
        check_nothing_is_open(seen)


class TestAChatEngine:
    @pytest.fixture
    def engine(self, like: Make):
        index = VectorStoreIndex.from_documents([Document(text="A fact.")], embed_model=MockEmbedding(embed_dim=3))
        return index.as_chat_engine(chat_mode="context", llm=like())

    def test_has_its_call(self, engine) -> None:
        with capture_entropy() as seen:
            engine.chat("bits=0.5")
        assert bits(seen.calls) == pytest.approx([0.5])
        check_nothing_is_open(seen)

    def test_that_streams_on_a_thread_has_its_call(self, engine) -> None:
        with capture_entropy() as seen:
            answer = engine.stream_chat("bits=0.5 tokens=7")
        assert "".join(answer.response_gen).split() == [f"w{i}" for i in range(7)]
        while seen.in_flight:  # the answer is out a little before the call's end is told
            time.sleep(0.001)
        assert [len(call.logprobs) for call in seen.calls] == [7]
        check_nothing_is_open(seen)


class TestAnAgent:
    @pytest.fixture
    def tool(self, like: Make) -> Callable[[str], Awaitable[str]]:
        expert = like("expert")

        async def ask_expert(question: str) -> str:
            """Ask an expert."""
            return (await expert.acomplete(question)).text

        return ask_expert

    QUESTION = 'bits=0.4 call=ask_expert args={"question": "bits=0.9"}'

    @pytest.mark.parametrize("streaming", [False, True])
    @pytest.mark.parametrize("within", ["alone", "workflow"])
    async def test_has_its_turns_and_the_calls_of_its_tools(self, within, streaming, tool, like: Make) -> None:
        agent = FunctionAgent(tools=[tool], llm=like(), streaming=streaming)
        run = agent if within == "alone" else AgentWorkflow(agents=[agent])
        with capture_entropy() as seen:
            await run.run(user_msg=self.QUESTION)
        turn, advice, answer = seen.calls
        assert (turn.model, advice.model, answer.model) == ("standin", "expert", "standin")
        assert turn.mean_entropy is None
        assert (advice.mean_entropy, answer.mean_entropy) == pytest.approx((0.9, 0.4))
        check_nothing_is_open(seen)

    @pytest.mark.skipif(not hasattr(function_tool, "contextvars"), reason="tools on threads have no context here")
    async def test_has_the_calls_of_a_tool_on_a_thread(self, like: Make) -> None:
        expert = like("expert")

        def ask_expert(question: str) -> str:
            """Ask an expert."""
            return expert.complete(question).text

        with capture_entropy() as seen:
            await FunctionAgent(tools=[ask_expert], llm=like()).run(user_msg=self.QUESTION)
        assert [call.model for call in seen.calls] == ["standin", "expert", "standin"]

    @pytest.mark.parametrize("streaming", [False, True])
    async def test_that_reasons_in_text_has_its_turns(self, streaming, like: Make) -> None:
        agent = ReActAgent(tools=[], llm=like(), streaming=streaming)
        with capture_entropy() as seen:
            await agent.run(user_msg='bits=0.4 says="Thought: I know. Answer: yes"')
        assert bits(seen.calls) == pytest.approx([0.4] * len(seen.calls))
        assert seen.calls
        check_nothing_is_open(seen)

    async def test_that_is_awaited_after_the_block_belongs_to_it(self, tool, like: Make) -> None:
        with capture_entropy() as seen:
            run = FunctionAgent(tools=[tool], llm=like()).run(user_msg=self.QUESTION)
            while not seen.usage.calls:
                await asyncio.sleep(0.001)
        await run
        assert len(seen.calls) == 3

    async def test_of_many_at_once_has_its_own(self, like: Make) -> None:
        agent = FunctionAgent(tools=[], llm=like())

        async def ask(number: int) -> list[float]:
            with capture_entropy() as seen:
                await agent.run(user_msg=f"bits=0.{number}")
            return bits(seen.calls)

        assert await asyncio.gather(*map(ask, range(1, 9))) == [[pytest.approx(n / 10)] for n in range(1, 9)]


# Blocks


class TestABlock:
    @pytest.fixture
    def llm(self, like: Make) -> LLM:
        return like()

    def test_tells_of_each_call_as_it_ends(self, llm) -> None:
        told: list[ModelCall] = []
        with capture_entropy(on_call=told.append):
            llm.complete("bits=0.5")
            assert bits(told) == pytest.approx([0.5])

    async def test_sees_the_tasks_that_are_started_in_it(self, llm) -> None:
        with capture_entropy() as seen:
            await asyncio.gather(*(achat(llm, f"bits=0.{number}") for number in (1, 2)))
            task = asyncio.create_task(achat(llm, "bits=0.3"))
            while seen.usage.calls < 3:
                await asyncio.sleep(0.001)
        await task
        await achat(llm, "bits=0.4")
        assert bits(seen.calls) == pytest.approx([0.1, 0.2, 0.3])

    def test_sees_a_thread_that_runs_in_a_copy_of_the_context_and_no_other(self, llm) -> None:
        with capture_entropy() as seen:
            context = contextvars.copy_context()
            for target, args in ((llm.complete, ("bits=0.1",)), (context.run, (llm.complete, "bits=0.2"))):
                thread = threading.Thread(target=target, args=args)
                thread.start()
                thread.join()
        assert bits(seen.calls) == pytest.approx([0.2])

    def test_is_left_by_an_error(self, like: Make, llm) -> None:
        with pytest.raises(InternalServerError), capture_entropy() as seen:
            llm.complete("bits=0.5")
            like("broken").complete("?")
        llm.complete("bits=0.9")
        assert bits(seen.calls) == pytest.approx([0.5])
        assert seen.usage.calls == 2

    async def test_within_another_is_seen_by_both_and_counted_once(self, llm) -> None:
        with capture_entropy() as outer:
            await chat(llm, "bits=0.1")
            with capture_entropy() as inner:
                await stream_chat(llm, "bits=0.2")
                announce(DECISION)
            await chat(llm, "bits=0.3")
        assert bits(inner.calls) == pytest.approx([0.2])
        assert bits(outer.calls) == pytest.approx([0.1, 0.2, 0.3])
        assert outer.usage.calls == 3
        assert inner.decisions == outer.decisions == (DECISION,)

    def test_within_a_span_that_another_sees_is_known_to_be_there(self, llm) -> None:
        @get_dispatcher("tests").span
        def step() -> CapturedEntropy:
            with capture_entropy() as inner:
                llm.complete("bits=0.5")
            return inner

        with capture_entropy() as outer:
            inner = step()
        assert "step" in outer.last.ancestors[-1]
        assert inner.last.run_id == outer.last.run_id
        assert outer.calls_of(outer.last.ancestors[-1]) == outer.calls

    def test_within_an_llm_that_another_sees_is_where_the_call_is(self, llm) -> None:
        class Wrapping(MockLLM):
            def complete(self, prompt: str, formatted: bool = False, **kwargs: object):
                with capture_entropy():
                    return llm.complete(prompt)

        with capture_entropy() as outer:
            Wrapping().chat(messages("bits=0.5"))
        assert bits(outer.calls) == pytest.approx([0.5])
        assert outer.usage.calls == 1
        check_nothing_is_open(outer)

    def test_that_a_generator_never_leaves_does_not_outlive_the_block_around_it(self, llm) -> None:
        def answers() -> Iterator[str]:
            with capture_entropy():
                yield llm.complete("bits=0.1").text

        with capture_entropy() as seen:
            generator = answers()
            next(generator)
        generator.close()
        llm.complete("bits=0.9")
        assert bits(seen.calls) == pytest.approx([0.1])

    async def test_in_a_generator_may_be_closed_by_another_task(self, llm) -> None:
        seen: list[CapturedEntropy] = []

        async def answers() -> AsyncIterator[str]:
            with capture_entropy() as own:
                seen.append(own)
                yield (await llm.acomplete("bits=0.1")).text
                yield "never"

        generator = answers()
        await asyncio.create_task(anext(generator))
        await asyncio.create_task(generator.aclose())
        await llm.acomplete("bits=0.9")
        assert bits(seen[0].calls) == pytest.approx([0.1])

    async def test_and_a_handler_for_all_see_the_same_call(self, llm) -> None:
        with EntropyEventHandler() as handler, capture_entropy() as seen:
            await chat(llm, "bits=0.5")
            announce(DECISION)
        assert [call.run_id for call in handler.calls] == [call.run_id for call in seen.calls]
        assert handler.decisions == seen.decisions == (DECISION,)

    def test_that_would_keep_nothing_is_refused(self) -> None:
        with pytest.raises(ValueError, match="max_calls must be at least 1, not 0"), capture_entropy(max_calls=0):
            pass

    def test_keeps_no_prompt(self, llm) -> None:
        with capture_entropy() as seen:
            prompt = ChatMessage(content="bits=0.5")
            llm.chat([prompt])
        kept = weakref.ref(prompt)
        del prompt
        gc.collect()
        assert kept() is None
        assert seen.calls
