"""The entropy of every model call of LlamaIndex, by whatever road, over real HTTP to the stand-in provider."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from functools import partial

import pytest
from langchain_openai import ChatOpenAI
from langchain_tje import EntropyCallbackHandler
from llama_index.core import PromptTemplate
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse, LLMMetadata
from llama_index.core.instrumentation import get_dispatcher, root_dispatcher
from llama_index.core.instrumentation.events.embedding import EmbeddingStartEvent
from llama_index.core.llms import CustomLLM, MockLLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.program import LLMTextCompletionProgram
from llama_index.llms.openai import OpenAI
from llama_index_tje import EntropyEventHandler
from llama_index_tje.capture.blocks import announce
from openai import InternalServerError
from pydantic import BaseModel

from tests.standin import StandIn
from tje_middleware import GateDecision, MissingLogprobs, Route, SequenceLogprobs, TokenUsage
from tje_middleware.calls.log import ModelCall

from ..conftest import ASKING, make_llm
from ..ways import EVERY, bits, chat, messages, stream_chat

FAILED = TokenUsage(calls=1, partly_known=1)


def check_nothing_is_open(handler: EntropyEventHandler) -> None:
    assert (handler.in_flight, handler._captured._log.runs_open, handler.errors) == (0, 0, 0)
    assert (handler._tracking._spans, handler._tracking._streams) == ({}, {})


# Every road to a model


def openai_itself(provider: StandIn) -> OpenAI:
    return OpenAI(
        model="gpt-4o-mini",
        api_base=provider.base_url,
        api_key="none",
        temperature=0.0,
        max_retries=0,
        reuse_client=False,  # each test has an event loop of its own
        **ASKING,
    )


KINDS = {
    "openai": openai_itself,
    "chat": partial(make_llm, reuse_client=False, **ASKING),
    "completion": partial(make_llm, reuse_client=False, is_chat_model=False, **ASKING),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", EVERY, ids=lambda way: way.__name__)
async def test_however_it_is_called_it_is_one_call_with_all_its_tokens(way, kind, provider) -> None:
    llm = KINDS[kind](provider)
    with EntropyEventHandler() as handler:
        await way(llm, "bits=0.7 tokens=6")
        check_nothing_is_open(handler)
    (call,) = handler.calls
    assert handler.last is handler.call(call.run_id) is call
    assert call.mean_entropy == pytest.approx(0.7)
    assert call.logprobs.tokens == ("w0 ", "w1 ", "w2 ", "w3 ", "w4 ", "w5 ")
    assert (call.model, call.temperature) == (llm.model, 0.0)
    assert call.usage.output_tokens == 6
    # OpenAI counts the tokens of a stream where it is asked to, which LlamaIndex does not do by itself.
    assert call.usage.partly_known == int("stream" in way.__name__)
    assert handler.usage == call.usage


async def test_a_stream_whose_provider_counts_is_fully_known(like) -> None:
    llm = like(additional_kwargs={"stream_options": {"include_usage": True}})
    with EntropyEventHandler() as handler:
        await stream_chat(llm, "tokens=6")
    assert handler.usage == TokenUsage(input_tokens=10, output_tokens=6, calls=1)


@pytest.mark.parametrize("streaming", [False, True])
async def test_entropies_are_those_that_langchain_s_handler_measures(streaming, like, provider) -> None:
    model = ChatOpenAI(
        base_url=provider.base_url,
        model="standin",
        api_key="none",
        logprobs=True,
        top_logprobs=20,
        streaming=streaming,
    )
    theirs = EntropyCallbackHandler()
    with EntropyEventHandler() as ours:
        for question in ("bits=0.3,2.5 tokens=5", "bits=4 tokens=1", "says=yes bits=0.9"):
            model.invoke(question, {"callbacks": [theirs]})
            await (stream_chat if streaming else chat)(like(), question)
    assert [call.mean_entropy for call in ours.calls] == [call.mean_entropy for call in theirs.calls]
    assert [call.logprobs.tokens for call in ours.calls] == [call.logprobs.tokens for call in theirs.calls]


async def test_an_answer_without_logprobs_is_a_call_with_the_reason_in_their_place(like) -> None:
    with EntropyEventHandler() as handler:
        await chat(like("ignores-logprobs"), "?")
        await stream_chat(like("ignores-logprobs"), "?")
    assert [type(call.logprobs) for call in handler.calls] == [MissingLogprobs] * 2
    assert handler.mean_entropy is None


TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_tool_call_without_logprobs_is_none_that_was_measured(streaming, like) -> None:
    with EntropyEventHandler() as handler:
        if streaming:
            list(like().stream_chat(messages("call=look"), tools=TOOLS))
        else:
            like().chat(messages("call=look"), tools=TOOLS)
    assert isinstance(handler.last.logprobs, MissingLogprobs)


class Talking(MockLLM):
    """An LLM that says a word, and then calls a tool of which it gives no logprobs."""

    @llm_chat_callback()
    def stream_chat(self, messages, **kwargs):
        def chunks():
            token = {"token": "Sure", "logprob": -0.1, "top_logprobs": [{"token": "Sure", "logprob": -0.1}]}
            words = {"choices": [{"delta": {"content": "Sure"}, "logprobs": {"content": [token]}}]}
            yield ChatResponse(message=ChatMessage(content="Sure", role="assistant"), delta="Sure", raw=words)
            call = {"choices": [{"delta": {"tool_calls": [{"function": {"name": "look"}}]}, "logprobs": None}]}
            message = ChatMessage(
                content="Sure", role="assistant", additional_kwargs={"tool_calls": [{"name": "look"}]}
            )
            yield ChatResponse(message=message, delta="", raw=call)
            end = {"choices": [{"delta": {}, "logprobs": None}]}
            yield ChatResponse(message=message, delta="", raw=end)

        return chunks()


async def test_the_words_before_a_streamed_tool_call_do_not_speak_for_it() -> None:
    with EntropyEventHandler() as handler:
        await stream_chat(Talking(), "?")
    assert "tool call" in str(handler.last.logprobs)


# LLMs within LLMs


@pytest.mark.parametrize("way", EVERY, ids=lambda way: way.__name__)
async def test_an_llm_that_calls_itself_by_another_method_is_one_call(way) -> None:
    with EntropyEventHandler() as handler:
        await way(MockLLM(max_tokens=3), "one two three")
        check_nothing_is_open(handler)
    (call,) = handler.calls
    assert ".complete-" in call.run_id or ".stream_complete-" in call.run_id
    assert handler.usage.calls == 1
    assert len(handler.calls_of(call.run_id)) == 1


async def test_what_an_async_stream_calls_while_it_is_read_is_inside_it() -> None:
    span = get_dispatcher("tests").span
    llm = MockLLM(max_tokens=2)

    @span
    async def ask():
        stream = await llm.astream_chat(messages("?"))
        return [chunk async for chunk in stream]

    with EntropyEventHandler() as handler:
        await ask()
    (call,) = handler.calls
    assert [run_id.rpartition(".")[2].split("-")[0] for run_id in call.ancestors][:2] == [
        "stream_chat",
        "astream_chat",
    ]
    assert "ask" in call.ancestors[-1]
    assert handler.calls_of(call.ancestors[-1]) == (call,)


async def test_a_call_between_two_reads_of_a_stream_is_no_part_of_it(like) -> None:
    with EntropyEventHandler() as handler:
        stream = like().stream_chat(messages("bits=0.1 tokens=6"))
        next(stream)
        await chat(like(), "bits=0.2")
        for _ in stream:
            pass
        check_nothing_is_open(handler)
    assert bits(handler.calls) == pytest.approx([0.1, 0.2])


class City(BaseModel):
    name: str


def test_a_structured_llm_is_the_call_of_the_llm_that_it_asks(like) -> None:
    with EntropyEventHandler() as handler:
        like(should_use_structured_outputs=True).as_structured_llm(City).chat(messages("bits=0.8"))
    (call,) = handler.calls
    assert call.mean_entropy == pytest.approx(0.8)
    assert handler.usage.calls == 1


def test_a_streamed_structured_llm_is_one_call(like) -> None:
    llm = like(should_use_structured_outputs=True).as_structured_llm(City)
    with EntropyEventHandler() as handler:
        for _ in llm.stream_chat(messages("bits=0.8")):
            pass
        check_nothing_is_open(handler)
    assert bits(handler.calls) == pytest.approx([0.8])
    assert handler.usage.calls == 1


def test_a_program_is_the_call_that_it_makes(like) -> None:
    program = LLMTextCompletionProgram.from_defaults(
        output_cls=City, prompt_template_str="says={answer} bits=0.6 {ask}", llm=like()
    )
    with EntropyEventHandler() as handler:
        program(answer='"{\\"name\\":\\"Oslo\\"}"', ask="?")
    assert bits(handler.calls) == pytest.approx([0.6])


class Plain(CustomLLM):
    """An LLM whose methods lack LlamaIndex's callbacks."""

    model: str = "plain"

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata()

    def complete(self, prompt, formatted=False, **kwargs):
        usage = {"prompt_tokens": 3, "completion_tokens": 1}
        return CompletionResponse(text="yes", raw={"logprobs": None, "usage": usage})

    def stream_complete(self, prompt, formatted=False, **kwargs):
        for text in ("y", "yes"):
            yield CompletionResponse(text=text, delta=text[-1])

    def chat(self, messages, **kwargs):
        return ChatResponse(message=ChatMessage(content="yes", role="assistant"))

    async def astream_complete(self, prompt, formatted=False, **kwargs):
        async def chunks():
            for chunk in self.stream_complete(prompt):
                yield chunk

        return chunks()


class TestAnLlmWithoutCallbacks:
    def test_is_known_by_its_answer(self) -> None:
        with EntropyEventHandler() as handler:
            Plain().complete("?")
            check_nothing_is_open(handler)
        assert handler.last.model == "plain"
        assert handler.usage == TokenUsage(input_tokens=3, output_tokens=1, calls=1)

    def test_is_one_call_where_another_of_its_methods_calls_it(self) -> None:
        with EntropyEventHandler() as handler:
            Plain().predict(PromptTemplate("?"))
            check_nothing_is_open(handler)
        assert len(handler.calls) == 1

    def test_that_streams_is_a_call_whose_reason_says_what_is_missing(self) -> None:
        with EntropyEventHandler() as handler:
            stream = Plain().stream_complete("?")
            assert [chunk.text for chunk in stream] == ["y", "yes"]
            del stream
            gc.collect()
            check_nothing_is_open(handler)
        assert "decorate it with llm_chat_callback" in str(handler.last.logprobs)
        assert handler.usage == FAILED

    async def test_that_streams_what_another_of_its_methods_streams_is_one_call(self) -> None:
        with EntropyEventHandler() as handler:
            async for _ in await Plain().astream_complete("?"):
                pass
            gc.collect()
            check_nothing_is_open(handler)
        assert len(handler.calls) == 1


# What does not end well


class TestAStreamThat:
    @pytest.fixture
    def handler(self):
        with EntropyEventHandler() as handler:
            yield handler

    def test_is_closed_early_is_no_evidence_but_was_spent(self, handler, like) -> None:
        stream = like().stream_chat(messages("tokens=50"))
        for _ in range(4):  # the chunk that opens it, and three tokens
            next(stream)
        assert (handler.in_flight, handler.usage.output_tokens) == (1, 3)
        stream.close()
        assert handler.usage == TokenUsage(output_tokens=3, calls=1, partly_known=1)
        assert handler.calls == ()
        check_nothing_is_open(handler)

    async def test_is_asynchronous_and_closed_early_is_the_same(self, handler, like) -> None:
        stream = await like().astream_chat(messages("tokens=50"))
        for _ in range(4):
            await anext(stream)
        await stream.aclose()
        assert handler.usage == TokenUsage(output_tokens=3, calls=1, partly_known=1)
        check_nothing_is_open(handler)

    @pytest.mark.parametrize("method", ["stream_chat", "astream_chat"])
    async def test_is_never_read_and_thrown_away_leaves_nothing(self, method, handler, like) -> None:
        stream = getattr(like(), method)(messages("?"))
        stream = stream if method == "stream_chat" else await stream
        assert handler.in_flight == 1
        del stream
        gc.collect()
        assert (handler.calls, handler.usage) == ((), FAILED)
        check_nothing_is_open(handler)

    def test_is_thrown_away_in_a_cycle_while_the_log_is_read_is_settled_later(self, handler, like) -> None:
        cycle = [like().stream_chat(messages("?"))]
        cycle.append(cycle)
        with handler._captured._log._lock:
            del cycle
            gc.collect()  # would wait for itself here
        check_nothing_is_open(handler)
        assert handler.usage == FAILED

    def test_is_thrown_away_after_some_words_leaves_nothing(self, handler, like) -> None:
        stream = like().stream_chat(messages("tokens=50"))
        next(stream)
        del stream
        gc.collect()
        check_nothing_is_open(handler)

    async def test_an_llm_makes_of_another_and_nobody_reads_leaves_nothing(self, handler) -> None:
        stream = await MockLLM(max_tokens=5).astream_chat(messages("?"))
        await anext(stream)
        await stream.aclose()
        await asyncio.sleep(0)  # the loop closes the stream within the stream
        await asyncio.sleep(0)
        check_nothing_is_open(handler)
        assert (handler.calls, handler.usage.calls) == ((), 1)

    def test_fails_before_its_first_word_leaves_nothing(self, handler, like) -> None:
        with pytest.raises(InternalServerError):
            list(like("broken").stream_chat(messages("?")))
        assert (handler.calls, handler.usage) == ((), FAILED)
        check_nothing_is_open(handler)

    def test_was_read_to_its_end_and_is_kept_leaves_nothing(self, handler, like) -> None:
        stream = like().stream_chat(messages("tokens=5"))
        for _ in stream:
            pass
        check_nothing_is_open(handler)
        assert len(handler.calls) == 1


@pytest.mark.parametrize("way", EVERY, ids=lambda way: way.__name__)
async def test_a_call_that_fails_is_no_call_but_may_have_cost(way, like) -> None:
    with EntropyEventHandler() as handler:
        with pytest.raises(InternalServerError):
            await way(like("broken", reuse_client=False), "?")
        assert (handler.calls, handler.usage) == ((), FAILED)
        check_nothing_is_open(handler)


def test_calls_that_are_in_flight_when_it_is_detached_are_over(like) -> None:
    with EntropyEventHandler() as handler:
        stream = like().stream_chat(messages("tokens=50"))
        next(stream)
    check_nothing_is_open(handler)
    assert (handler.calls, handler.usage.calls) == ((), 1)
    assert len(list(stream)) == 51  # what is read of it is not affected


# Its own errors


def test_an_error_of_the_user_s_function_is_logged_and_counted(like, caplog) -> None:
    def stumble(call: ModelCall) -> None:
        raise ZeroDivisionError("mine")

    with EntropyEventHandler(on_call=stumble) as handler, caplog.at_level(logging.ERROR, "llama_index_tje"):
        like().chat(messages("bits=0.5"))
    assert (handler.errors, bits(handler.calls)) == (1, [0.5])
    (record,) = caplog.records
    assert (record.name, record.exc_info[0]) == ("llama_index_tje", ZeroDivisionError)


class Booby:
    """A provider's payload that breaks whoever asks for its model."""

    @property
    def model(self) -> str:
        raise ZeroDivisionError("a trap")


class Trapped(MockLLM):
    @llm_completion_callback()
    def complete(self, prompt, formatted=False, **kwargs):
        return CompletionResponse(text="yes", raw=Booby())


def test_an_error_of_its_own_settles_the_call_is_logged_and_counted(caplog) -> None:
    with EntropyEventHandler() as handler, caplog.at_level(logging.ERROR, "llama_index_tje"):
        assert Trapped().complete("?").text == "yes"
        assert (handler.errors, handler.in_flight, handler.usage) == (1, 0, FAILED)
        assert handler._tracking.is_idle
    assert "LLMCompletionEndEvent" in caplog.text
    assert "a trap" in caplog.text


# Attaching


class TestAttaching:
    def test_twice_is_as_once(self, like) -> None:
        handler = EntropyEventHandler()
        handler.attach()
        handler.attach()
        with handler:
            like().chat(messages("?"))
        assert sum(each is handler for each in root_dispatcher.event_handlers) == 0
        assert len(handler.calls) == 1

    def test_ends_when_it_is_detached_however_often(self, like) -> None:
        handler = EntropyEventHandler()
        handler.attach()
        for _ in range(2):
            handler.detach()
        like().chat(messages("?"))
        assert handler.calls == ()

    @pytest.mark.parametrize("dispatcher", ["root", "llama_index.core.llms.callbacks"])
    async def test_by_hand_captures_all_the_same(self, dispatcher, like) -> None:
        handler = EntropyEventHandler()
        get_dispatcher(dispatcher).add_event_handler(handler)
        await stream_chat(MockLLM(max_tokens=2), "?")
        like().chat(messages("bits=0.5"))
        with pytest.raises(InternalServerError):
            like("broken").chat(messages("?"))
        stream = like().stream_chat(messages("?"))
        del stream
        gc.collect()
        check_nothing_is_open(handler)
        handler.detach()
        assert handler.mean_entropy == pytest.approx(0.5)
        assert (len(handler.calls), handler.usage.calls) == (2, 4)

    def test_by_hand_ends_by_hand(self, like) -> None:
        handler = EntropyEventHandler()
        root_dispatcher.add_event_handler(handler)
        like().chat(messages("?"))
        root_dispatcher.event_handlers.remove(handler)
        like().chat(messages("?"))
        Plain().complete("?")
        assert len(handler.calls) == 1
        assert not any(each is handler._spans for each in root_dispatcher.span_handlers)

    def test_by_hand_to_two_dispatchers_counts_a_call_once(self, like) -> None:
        handler = EntropyEventHandler()
        for name in ("root", "llama_index.core.llms.callbacks"):
            get_dispatcher(name).add_event_handler(handler)
        list(like().stream_chat(messages("bits=0.5 tokens=4")))
        handler.detach()
        assert [len(call.logprobs) for call in handler.calls] == [4]

    def test_leaves_other_handlers_alone(self) -> None:
        other = EntropyEventHandler()
        with other:
            with EntropyEventHandler():
                pass
            MockLLM(max_tokens=2).complete("?")
        assert len(other.calls) == 1

    def test_nothing_but_model_calls_is_taken_note_of(self) -> None:
        with EntropyEventHandler() as handler:
            get_dispatcher("tests").event(EmbeddingStartEvent(model_dict={}))
            check_nothing_is_open(handler)
        assert handler.usage == TokenUsage()


# What is kept


@pytest.mark.parametrize("streaming", [False, True])
def test_no_prompt_and_no_answer_is_kept(streaming, like) -> None:
    with EntropyEventHandler() as handler:
        prompt = messages("bits=0.5")
        answer = list(like().stream_chat(prompt))[1] if streaming else like().chat(prompt)
        kept = [weakref.ref(each) for each in (prompt[0], answer, answer.raw, answer.message)]
        del prompt, answer
        gc.collect()
        assert isinstance(handler.last.logprobs, SequenceLogprobs)
        assert [each() for each in kept] == [None] * 4


def test_no_llm_is_kept(like) -> None:
    with EntropyEventHandler() as handler:
        llm = like()
        stream = llm.stream_chat(messages("?"))
        next(stream)
        kept = weakref.ref(llm)
        del stream, llm
        gc.collect()
        assert kept() is None
    assert handler.usage.calls == 1


def test_the_oldest_calls_are_let_go_and_counted(like) -> None:
    with EntropyEventHandler(max_calls=2) as handler:
        for number in (1, 2, 3):
            like().chat(messages(f"bits=0.{number}"))
    assert bits(handler.calls) == pytest.approx([0.2, 0.3])
    assert (handler.dropped, handler.usage.calls) == (1, 3)
    handler.clear()
    assert (handler.calls, handler.usage.calls) == ((), 3)


def test_that_would_keep_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="max_calls must be at least 1, not 0"):
        EntropyEventHandler(max_calls=0)


def test_is_printed_by_what_it_has_seen() -> None:
    assert str(EntropyEventHandler()) == repr(EntropyEventHandler()) == "EntropyEventHandler(0 calls, 0 in flight)"


def test_what_gates_decide_is_kept_as_far_as_calls_are() -> None:
    decisions = [GateDecision(Route.FINAL, "confident", f"{n}", "mean_entropy", "bayes") for n in range(3)]
    with EntropyEventHandler(max_calls=2) as handler:
        for decision in decisions:
            announce(decision)
    assert handler.decisions == tuple(decisions[1:])
