"""The entropy of every model call, by whatever road it is made, over real HTTP to the stand-in provider."""

import asyncio
import contextvars
import gc
import threading
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypedDict
from uuid import uuid4

import pytest
from langchain.agents import create_agent
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import dispatch_custom_event
from langchain_core.language_models import BaseChatModel, FakeListLLM, GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import RunnableConfig, RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langchain_tje import ask_logprobs
from langchain_tje.callbacks.handler import EntropyCallbackHandler, capture_entropy, spending
from langchain_tje.messages.message_turn import DraftCapture
from langchain_tje.messages.visibility import EVENT
from langgraph.graph import END, START, StateGraph
from openai import InternalServerError

from tje_middleware import MissingLogprobs, SequenceLogprobs, TokenUsage
from tje_middleware.calls.log import ModelCall

Chat = Callable[..., ChatOpenAI]
RUN_ID = uuid4()
FAILED = TokenUsage(calls=1, partly_known=1)


@pytest.fixture
def model(chat: Chat) -> ChatOpenAI:
    return asking(chat)


def asking(chat: Chat, name: str = "standin", **settings: object) -> ChatOpenAI:
    return chat(name, logprobs=True, top_logprobs=20, stream_usage=True, **settings)


def bits(calls: Sequence[ModelCall]) -> list[float]:
    """The entropies of calls, in ascending order: those that run side by side end in any."""
    return sorted(round(call.mean_entropy, 6) for call in calls)


# Every road to a model


class TestOneCallBy:
    """However it is called: one call, with all its tokens, under its own run id, and what the provider counted."""

    @pytest.fixture
    def handler(self) -> EntropyCallbackHandler:
        return EntropyCallbackHandler()

    @pytest.fixture
    def config(self, handler: EntropyCallbackHandler) -> RunnableConfig:
        return {"callbacks": [handler], "run_id": RUN_ID}

    QUESTION = "bits=0.7 tokens=6"

    @staticmethod
    def check(handler: EntropyCallbackHandler) -> None:
        (call,) = handler.calls
        assert handler.call(RUN_ID) is handler.last is call
        assert call.mean_entropy == pytest.approx(0.7)
        assert call.logprobs.tokens == ("w0 ", "w1 ", "w2 ", "w3 ", "w4 ", "w5 ")
        assert (call.model, call.temperature) == ("standin", 0.0)
        assert (call.usage.output_tokens, call.usage.partly_known) == (6, 0)
        assert handler.usage == call.usage
        assert handler.in_flight == 0

    def test_invoke(self, model, handler, config) -> None:
        answer = model.invoke(self.QUESTION, config)
        self.check(handler)
        assert handler.last.message_id == answer.id

    async def test_ainvoke(self, model, handler, config) -> None:
        await model.ainvoke(self.QUESTION, config)
        self.check(handler)

    def test_stream(self, model, handler, config) -> None:
        for _ in model.stream(self.QUESTION, config):
            pass
        self.check(handler)

    async def test_astream(self, model, handler, config) -> None:
        async for _ in model.astream(self.QUESTION, config):
            pass
        self.check(handler)

    async def test_events_of_version_2(self, model, handler, config) -> None:
        async for _ in model.astream_events(self.QUESTION, config, version="v2"):
            pass
        self.check(handler)

    @pytest.mark.skipif(not hasattr(BaseChatModel, "stream_events"), reason="this langchain-core has no v3 events")
    def test_events_of_version_3(self, model, handler, config) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that they are new
            stream = model.stream_events(self.QUESTION, config, version="v3")
            merged = stream.output
        assert len(merged.response_metadata["logprobs"]["content"]) == 1  # what the handler does not fall for
        self.check(handler)

    @pytest.mark.skipif(not hasattr(BaseChatModel, "stream_events"), reason="this langchain-core has no v3 events")
    async def test_asynchronous_events_of_version_3(self, model, handler, config) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stream = await model.astream_events(self.QUESTION, config, version="v3")
            await stream.output
        while handler.in_flight:  # the answer is out a little before the call's end is told
            await asyncio.sleep(0.001)
        self.check(handler)

    def test_a_chain_that_asks_by_itself(self, chat, handler, config) -> None:
        ask_logprobs(chat() | StrOutputParser()).invoke(self.QUESTION, config)
        assert handler.mean_entropy == pytest.approx(0.7)

    def test_a_completion_model_is_one_without_logprobs(self, handler, config) -> None:
        FakeListLLM(responses=["yes"]).invoke(self.QUESTION, config)
        assert isinstance(handler.last.logprobs, MissingLogprobs)
        assert handler.mean_entropy is None


def test_a_batch_has_one_call_an_input(model: ChatOpenAI) -> None:
    handler = EntropyCallbackHandler()
    model.batch([f"bits=0.{i}" for i in range(1, 10)], {"callbacks": [handler]})
    assert bits(handler.calls) == pytest.approx([i / 10 for i in range(1, 10)])


async def test_an_asynchronous_batch_has_one_call_an_input(model: ChatOpenAI) -> None:
    handler = EntropyCallbackHandler()
    await model.abatch([f"bits=0.{i}" for i in range(1, 10)], {"callbacks": [handler]})
    assert bits(handler.calls) == pytest.approx([i / 10 for i in range(1, 10)])


async def test_fifty_calls_at_once_are_each_attributed_to_their_own_run(model: ChatOpenAI) -> None:
    handler = EntropyCallbackHandler()
    chain = RunnableLambda(lambda number: f"bits={number / 20} tokens={number}") | model | StrOutputParser()
    runs = {number: uuid4() for number in range(1, 51)}

    async def ask(number: int) -> None:
        config: RunnableConfig = {"callbacks": [handler], "run_id": runs[number]}
        if number % 2:
            await chain.ainvoke(number, config)
        else:
            async for _ in chain.astream(number, config):
                pass

    await asyncio.gather(*map(ask, runs))
    for number, run_id in runs.items():
        (call,) = handler.calls_of(run_id)
        assert call.mean_entropy == pytest.approx(number / 20)
        assert call.usage.output_tokens == len(call.logprobs) == number
    assert handler.usage.output_tokens == sum(runs)


def test_threads_may_share_a_handler(model: ChatOpenAI) -> None:
    handler = EntropyCallbackHandler()
    runs = {number: uuid4() for number in range(1, 17)}

    def ask(number: int) -> None:
        model.invoke(f"bits={number / 10}", {"callbacks": [handler], "run_id": runs[number]})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, runs))
    assert [handler.call(run_id).mean_entropy for run_id in runs.values()] == pytest.approx([n / 10 for n in runs])


# Runs


def test_the_calls_of_a_run_are_those_inside_it_whatever_the_nesting(model: ChatOpenAI) -> None:
    handler = EntropyCallbackHandler()
    inner = RunnableLambda(lambda question: question) | model
    both = RunnableParallel(a=lambda _: "bits=0.1", b=lambda _: "bits=0.2") | {
        "a": (lambda questions: questions["a"]) | inner,
        "b": (lambda questions: questions["b"]) | inner,
    }
    run_id = uuid4()
    both.invoke({}, {"callbacks": [handler], "run_id": run_id})
    model.invoke("bits=0.3", {"callbacks": [handler]})
    assert bits(handler.calls_of(run_id)) == pytest.approx([0.1, 0.2])
    assert bits(handler.calls) == pytest.approx([0.1, 0.2, 0.3])
    assert handler._log.runs_open == 0


def test_the_calls_of_an_agent_are_its_turns_and_those_of_its_tools(chat: Chat) -> None:
    expert = asking(chat, "expert")

    @tool
    def ask_expert(question: str) -> str:
        """Ask an expert."""
        return expert.invoke(question).text

    agent = create_agent(ask_logprobs(asking(chat)), [ask_expert])
    handler, run_id = EntropyCallbackHandler(), uuid4()
    question = 'bits=0.4 call=ask_expert args={"question": "bits=0.9"}'
    agent.invoke({"messages": [("user", question)]}, {"callbacks": [handler], "run_id": run_id})
    turn, advice, answer = handler.calls_of(run_id)
    assert isinstance(turn.logprobs, MissingLogprobs)
    assert (turn.model, advice.model, answer.model) == ("standin", "expert", "standin")
    assert (advice.mean_entropy, answer.mean_entropy) == pytest.approx((0.9, 0.4))
    assert handler._log.runs_open == 0


@pytest.mark.skipif(not hasattr(BaseChatModel, "stream_events"), reason="this langchain-core has no v3 events")
def test_an_agent_whose_events_are_streamed_keeps_all_tokens(model: ChatOpenAI) -> None:
    agent, run_id = create_agent(model, []), uuid4()
    with warnings.catch_warnings(), capture_entropy() as seen:
        warnings.simplefilter("ignore")
        run = agent.stream_events({"messages": [("user", "bits=0.4 tokens=6")]}, {"run_id": run_id}, version="v3")
        assert run.output["messages"][-1].text == "w0 w1 w2 w3 w4 w5 "
    (call,) = seen.calls_of(run_id)
    assert (len(call.logprobs), call.mean_entropy) == (6, pytest.approx(0.4))


class State(TypedDict, total=False):
    question: str
    draft: str
    answer: str


def test_each_node_of_a_graph_has_its_own_calls(model: ChatOpenAI) -> None:
    def draft(state: State, config: RunnableConfig) -> State:
        return {"draft": model.invoke("bits=0.5", config).text}

    def revise(state: State) -> State:
        return {"answer": model.invoke("bits=1.5").text}

    graph = StateGraph(State)
    graph.add_node("draft", draft)
    graph.add_node("revise", revise)
    graph.add_edge(START, "draft")
    graph.add_edge("draft", "revise")
    graph.add_edge("revise", END)
    handler, run_id = EntropyCallbackHandler(), uuid4()
    graph.compile().invoke({"question": "?"}, {"callbacks": [handler], "run_id": run_id})
    first, second = handler.calls_of(run_id)
    assert (first.mean_entropy, second.mean_entropy) == pytest.approx((0.5, 1.5))
    assert handler.calls_of(first.parent_run_id) == (first,)


# What does not end well


def test_a_stream_that_is_closed_early_is_no_evidence_but_was_spent(model: ChatOpenAI) -> None:
    handler = EntropyCallbackHandler()
    stream = model.stream("tokens=50", {"callbacks": [handler]})
    for _ in range(4):  # the chunk that opens it, and three tokens
        next(stream)
    assert (handler.in_flight, handler.usage.output_tokens) == (1, 3)
    stream.close()
    assert (handler.in_flight, handler.calls) == (0, ())
    assert handler.usage == TokenUsage(output_tokens=3, calls=1, partly_known=1)


async def test_an_asynchronous_stream_that_is_closed_early_is_no_evidence_but_was_spent(model: ChatOpenAI) -> None:
    handler = EntropyCallbackHandler()
    stream = model.astream("tokens=50", {"callbacks": [handler]})
    for _ in range(4):
        await anext(stream)
    await stream.aclose()
    assert (handler.in_flight, handler.calls) == (0, ())
    assert handler.usage == TokenUsage(output_tokens=3, calls=1, partly_known=1)


def test_a_call_that_fails_is_no_call_but_may_have_cost(chat: Chat) -> None:
    handler = EntropyCallbackHandler()
    with pytest.raises(InternalServerError):
        asking(chat, "broken").invoke("?", {"callbacks": [handler]})
    assert (handler.calls, handler.in_flight, handler.usage) == ((), 0, FAILED)


class Forgetful(GenericFakeChatModel):
    """A model that streams one word without its logprobs."""

    def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        for text in ("all ", "but ", "one ", "came "):
            token = {"token": text, "logprob": 0.0, "top_logprobs": [{"token": text, "logprob": 0.0}]}
            info = None if text == "one " else {"logprobs": {"content": [token]}}
            yield ChatGenerationChunk(message=AIMessageChunk(text), generation_info=info)


def test_a_stream_with_a_hole_is_no_evidence() -> None:
    handler = EntropyCallbackHandler()
    for _ in Forgetful(messages=iter([])).stream("?", {"callbacks": [handler]}):
        pass
    assert "4 characters of the stream came without logprobs" in str(handler.last.logprobs)


class Waiting(GenericFakeChatModel):
    """A model that never answers."""

    async def _agenerate(self, *_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()


async def test_a_cancelled_call_counts_as_partly_known() -> None:
    # LangChain tells no handler that it was cancelled.
    handler = EntropyCallbackHandler()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(Waiting(messages=iter([])).ainvoke("?", {"callbacks": [handler]}), 0.05)
    assert handler.usage == FAILED


def test_a_stream_whose_provider_counts_nothing_is_partly_known(chat: Chat) -> None:
    handler = EntropyCallbackHandler()
    for _ in chat(logprobs=True, top_logprobs=20).stream("tokens=5", {"callbacks": [handler]}):
        pass
    assert handler.usage == TokenUsage(output_tokens=5, calls=1, partly_known=1)


def test_an_answer_out_of_the_cache_has_its_entropy_and_costs_nothing(chat: Chat) -> None:
    model, handler = asking(chat, cache=InMemoryCache()), EntropyCallbackHandler()
    for _ in range(2):
        model.invoke("bits=0.6", {"callbacks": [handler]})
    first, second = handler.calls
    assert (first.mean_entropy, second.mean_entropy) == pytest.approx((0.6, 0.6))
    assert (first.usage.total_tokens > 0, second.usage) == (True, TokenUsage(calls=1))


# What is kept


@pytest.mark.parametrize("streaming", [False, True])
def test_no_prompt_and_no_answer_is_kept(streaming: bool, model: ChatOpenAI) -> None:
    handler = EntropyCallbackHandler()
    prompt = HumanMessage("bits=0.5")
    answer = model.model_copy(update={"streaming": streaming}).invoke([prompt], {"callbacks": [handler]})
    kept = [weakref.ref(prompt), weakref.ref(answer)]
    del prompt, answer
    gc.collect()
    assert isinstance(handler.last.logprobs, SequenceLogprobs)
    assert [each() for each in kept] == [None, None]


def test_of_an_answer_without_logprobs_the_reason_alone_is_kept() -> None:
    handler, answer = EntropyCallbackHandler(), AIMessage("a secret")
    GenericFakeChatModel(messages=iter([answer])).invoke("?", {"callbacks": [handler]})
    kept = weakref.ref(answer)
    del answer
    gc.collect()
    assert isinstance(handler.last.logprobs, MissingLogprobs)
    assert "secret" not in str(handler.last.logprobs)
    assert kept() is None


def test_the_oldest_calls_are_let_go_and_counted(model: ChatOpenAI) -> None:
    handler = EntropyCallbackHandler(max_calls=2)
    for number in (1, 2, 3):
        model.invoke(f"bits=0.{number}", {"callbacks": [handler]})
    assert [call.mean_entropy for call in handler.calls] == pytest.approx([0.2, 0.3])
    assert (handler.dropped, handler.usage.calls) == (1, 3)


def test_cleared_calls_stay_counted(model: ChatOpenAI) -> None:
    handler = EntropyCallbackHandler()
    model.invoke("?", {"callbacks": [handler]})
    handler.clear()
    assert (handler.calls, handler.last, handler.usage.calls) == ((), None, 1)


def test_the_mean_over_calls_weighs_every_token_alike(model: ChatOpenAI) -> None:
    with capture_entropy() as seen:
        model.invoke("bits=0.5 tokens=1")
        model.invoke("bits=1.5 tokens=3")
    assert seen.mean_entropy == pytest.approx((1 * 0.5 + 3 * 1.5) / 4)


# Blocks


class TestCaptureEntropy:
    def test_sees_a_chain_to_which_no_callbacks_are_passed(self, model: ChatOpenAI) -> None:
        chain = RunnableLambda(lambda question: model.invoke(question).text) | (lambda text: text)
        with capture_entropy() as seen:
            chain.invoke("bits=0.5")
        chain.invoke("bits=0.9")
        assert bits(seen.calls) == pytest.approx([0.5])

    def test_tells_of_each_call_as_it_ends(self, model: ChatOpenAI) -> None:
        told: list[ModelCall] = []
        with capture_entropy(on_call=told.append):
            model.invoke("bits=0.5")
            assert bits(told) == pytest.approx([0.5])

    def test_sees_batches_and_parallel_branches(self, model: ChatOpenAI) -> None:
        both = RunnableParallel(a=(lambda _: "bits=0.1") | model, b=(lambda _: "bits=0.2") | model)
        with capture_entropy() as seen:
            both.invoke({})
            model.batch(["bits=0.3", "bits=0.4"])
        assert bits(seen.calls) == pytest.approx([0.1, 0.2, 0.3, 0.4])

    async def test_of_one_task_does_not_see_another(self, model: ChatOpenAI) -> None:
        async def ask(number: int) -> list[float | None]:
            with capture_entropy() as seen:
                await model.ainvoke(f"bits=0.{number}")
                await asyncio.sleep(0)
                await model.ainvoke(f"bits=0.{number} tokens=2")
            return bits(seen.calls)

        found = await asyncio.gather(*map(ask, range(1, 9)))
        assert found == [pytest.approx([number / 10] * 2) for number in range(1, 9)]

    async def test_sees_the_tasks_that_are_started_in_it(self, model: ChatOpenAI) -> None:
        with capture_entropy() as seen:
            await asyncio.gather(*(model.ainvoke(f"bits=0.{number}") for number in (1, 2)))
            task = asyncio.create_task(model.ainvoke("bits=0.3"))
        await task
        await model.ainvoke("bits=0.4")
        assert bits(seen.calls) == pytest.approx([0.1, 0.2, 0.3])

    def test_sees_a_thread_that_runs_in_a_copy_of_the_context_and_no_other(self, model: ChatOpenAI) -> None:
        with capture_entropy() as seen:
            context = contextvars.copy_context()
            for target, args in ((model.invoke, ("bits=0.1",)), (context.run, (model.invoke, "bits=0.2"))):
                thread = threading.Thread(target=target, args=args)
                thread.start()
                thread.join()
        assert bits(seen.calls) == pytest.approx([0.2])

    def test_an_error_leaves_it(self, chat: Chat, model: ChatOpenAI) -> None:
        with pytest.raises(InternalServerError), capture_entropy() as seen:
            model.invoke("bits=0.5")
            asking(chat, "broken").invoke("?")
        model.invoke("bits=0.9")
        assert bits(seen.calls) == pytest.approx([0.5])
        assert seen.usage.calls == 2

    def test_within_another_is_seen_by_both(self, model: ChatOpenAI) -> None:
        with capture_entropy() as outer:
            model.invoke("bits=0.1")
            with capture_entropy() as inner:
                model.invoke("bits=0.2")
            model.invoke("bits=0.3")
        assert bits(inner.calls) == pytest.approx([0.2])
        assert bits(outer.calls) == pytest.approx([0.1, 0.2, 0.3])
        assert outer.usage.calls == 3

    def test_within_a_chain_that_another_sees_counts_no_call_twice(self, model: ChatOpenAI) -> None:
        def ask(question: str) -> str:
            with capture_entropy() as inner:
                answer = model.invoke(question).text
            assert len(inner.calls) == 1
            return answer

        run_id = uuid4()
        with capture_entropy() as outer:
            RunnableLambda(ask).invoke("bits=0.5", {"run_id": run_id})
        assert bits(outer.calls_of(run_id)) == bits(outer.calls) == pytest.approx([0.5])
        assert outer.usage.calls == 1

    def test_whose_handler_is_also_passed_counts_no_call_twice(self, model: ChatOpenAI) -> None:
        with capture_entropy() as seen:
            (RunnableLambda(str) | model).invoke("bits=0.5", {"callbacks": [seen]})
        assert len(seen.calls) == seen.usage.calls == 1

    def test_that_a_generator_never_leaves_does_not_outlive_the_block_around_it(self, model: ChatOpenAI) -> None:
        def answers() -> Iterator[str]:
            with capture_entropy():
                yield model.invoke("bits=0.1").text

        with capture_entropy() as seen:
            generator = answers()
            next(generator)
        generator.close()
        model.invoke("bits=0.9")
        assert bits(seen.calls) == pytest.approx([0.1])

    def test_in_a_generator_that_is_closed_within_another_block_leaves_that_alone(self, model: ChatOpenAI) -> None:
        def answers() -> Iterator[str]:
            with capture_entropy():
                yield model.invoke("bits=0.1").text

        generator = answers()
        next(generator)
        with capture_entropy() as seen:
            generator.close()
            model.invoke("bits=0.2")
        model.invoke("bits=0.9")
        assert bits(seen.calls) == pytest.approx([0.2])

    async def test_in_a_generator_may_be_closed_by_another_task(self, model: ChatOpenAI) -> None:
        seen: list[EntropyCallbackHandler] = []

        async def answers() -> AsyncIterator[str]:
            with capture_entropy() as own:
                seen.append(own)
                yield (await model.ainvoke("bits=0.1")).text
                yield "never"

        generator = answers()
        await asyncio.create_task(anext(generator))
        await asyncio.create_task(generator.aclose())
        await model.ainvoke("bits=0.9")
        assert bits(seen[0].calls) == pytest.approx([0.1])


class TestSpending:
    def test_of_whatever_runs_in_the_block_is_added_up(self, chat: Chat, model: ChatOpenAI) -> None:
        def branch(question: str) -> str:
            model.invoke("tokens=3")
            with pytest.raises(InternalServerError):
                chat("broken").invoke("?")
            return "".join(chunk.text for chunk in model.stream("tokens=5"))

        with spending() as log:
            RunnableLambda(branch).invoke("?")
        model.invoke("tokens=7")
        assert (log.usage.output_tokens, log.usage.calls, log.usage.partly_known) == (8, 3, 1)

    async def test_of_a_block_within_another_counts_once_in_both(self, model: ChatOpenAI) -> None:
        with spending() as outer:

            async def branch(_: str) -> None:
                with spending() as inner:
                    await model.ainvoke("tokens=3")
                assert inner.usage.output_tokens == 3

            await RunnableLambda(branch).ainvoke("?")
            await model.ainvoke("tokens=4")
        assert (outer.usage.output_tokens, outer.usage.calls) == (7, 2)

    def test_of_a_stream_that_is_closed_early_is_what_came(self, model: ChatOpenAI) -> None:
        with spending() as log:
            stream = model.stream("tokens=50")
            for _ in range(4):
                next(stream)
            stream.close()
        assert log.usage == TokenUsage(output_tokens=3, calls=1, partly_known=1)

    def test_and_entropies_may_be_watched_at_once(self, model: ChatOpenAI) -> None:
        with spending() as log, capture_entropy() as seen:
            model.invoke("bits=0.5")
        assert (log.usage, bits(seen.calls)) == (seen.usage, pytest.approx([0.5]))

    def test_that_the_client_alone_tells_is_read(self) -> None:
        class Telling(FakeListLLM):
            def _generate(self, *args: Any, **kwargs: Any) -> Any:
                result = super()._generate(*args, **kwargs)
                result.llm_output = {"token_usage": {"prompt_tokens": 12, "completion_tokens": 3}}
                return result

        with spending() as log:
            Telling(responses=["yes"]).invoke("?")
        assert log.usage == TokenUsage(input_tokens=12, output_tokens=3, calls=1)


def test_a_draft_spends_what_all_its_calls_do_of_which_one_wrote_it(chat: Chat) -> None:
    capture = DraftCapture()
    chain = asking(chat) | (lambda _: "bits=0.2 tokens=5") | asking(chat) | StrOutputParser()
    fallback = chat("broken").with_fallbacks([chain])
    draft = fallback.invoke("bits=0.5 tokens=2", {"callbacks": [capture]})
    assert capture.usage.calls == 3
    assert (capture.usage.output_tokens, capture.usage.partly_known) == (7, 1)
    writer = capture.writer_of(draft, trusted=True)
    assert "and which one wrote the draft cannot be told" in str(writer.logprobs)


def test_a_draft_that_a_gate_within_it_rejected_was_spent_all_the_same(model: ChatOpenAI) -> None:
    def reject(answer: AIMessage, config: RunnableConfig) -> str:
        dispatch_custom_event(EVENT, {"route": "deeper"}, config=config)
        return answer.text

    capture = DraftCapture()
    draft = (model | reject).invoke("tokens=5", {"callbacks": [capture]})
    assert "no model call was seen" in str(capture.writer_of(draft, trusted=True).logprobs)
    assert capture.usage.output_tokens == 5
