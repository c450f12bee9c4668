"""From LlamaIndex's events and spans to model calls: each counted once, however it ends."""

from __future__ import annotations

import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import AsyncGeneratorType, FrameType, GeneratorType
from typing import Any, TypeAlias, TypeGuard

from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.base.llms.types import ChatResponse, CompletionResponse

from tje_middleware import GateDecision, MissingLogprobs
from tje_middleware.calls.scope import QuietLock
from tje_middleware.logprobs.fields import field

from ..answers.responses import payload_of_chunk, payload_of_stream_end, tokens_of, tokens_of_chunk
from .captured import CapturedEntropy

Stream: TypeAlias = "GeneratorType[Any, Any, Any] | AsyncGeneratorType[Any, Any]"


def is_stream(result: object) -> TypeGuard[Stream]:
    """Whether what a method gave back is a stream that nobody has read from yet."""
    return isinstance(result, (GeneratorType, AsyncGeneratorType))


def is_over(stream: Stream | None) -> bool:
    """Whether nothing more can come of it: it was read to its end, was closed, has failed, or is gone."""
    return stream is None or (stream.gi_frame if isinstance(stream, GeneratorType) else stream.ag_frame) is None


def running_stream(streams: Mapping[str, weakref.ref[Stream]]) -> str | None:
    """The name of the innermost stream that the caller is called by; None where it is called by none.

    No context tells: a generator runs in the context of whoever reads from it, which is that of anything else that
    the reader does between two reads. The stack tells: frames of the stream are on it only while it runs.
    """
    # Of several names of one stream the first is the innermost: who passed it on has named it later.
    running = {
        frame: name
        for name, stream in reversed(list(streams.items()))
        if (frame := _running_frame(stream())) is not None
    }
    caller: FrameType | None = sys._getframe(1) if running else None
    while caller is not None and caller not in running:
        caller = caller.f_back
    return None if caller is None else running[caller]


def _running_frame(stream: Stream | None) -> FrameType | None:
    # Asked first whether it runs: the frame of one that rests would have to be made up.
    if isinstance(stream, GeneratorType):
        return stream.gi_frame if stream.gi_running else None
    if isinstance(stream, AsyncGeneratorType):
        return stream.ag_frame if stream.ag_running else None
    return None


# By these a model is called; of everything else that an LLM does, they are what calls it.
_CALLING = frozenset(
    ["chat", "achat", "complete", "acomplete", "stream_chat", "astream_chat", "stream_complete", "astream_complete"]
)


@dataclass(eq=False)
class _Span:
    """A span that is open, or whose stream is not over: numbers, and never the LLM itself."""

    captured: CapturedEntropy
    parent: str | None
    temperature: float | None = None
    is_call: bool = False  # a model call that goes on
    has_call: bool = False  # itself, or something within it, is or was one
    stream: weakref.ref[Stream] | None = None  # what its method gave back, where that is not over
    without_chunks: str | None = None  # why nothing of that is told
    last_chunk: str | None = None  # the event's id: on two dispatchers, a handler hears all twice


class CallTracking:
    """Follows the calls that a handler, or the blocks, are to see; threads may share it.

    The innermost call counts: an LLM that asks another, or itself by another method, only calls others.

    Args:
        captured_by: What keeps the calls that are started here and now; None where nothing does.
        on_idle: Called when nothing is followed any more.
    """

    def __init__(
        self, captured_by: Callable[[], CapturedEntropy | None], on_idle: Callable[[], None] | None = None
    ) -> None:
        self._captured_by = captured_by
        self._on_idle = on_idle
        self._lock = QuietLock()
        self._spans: dict[str, _Span] = {}
        self._streams: dict[str, weakref.ref[Stream]] = {}

    @property
    def is_idle(self) -> bool:
        """Whether no span is open, and no call in flight."""
        return not self._spans

    @property
    def streams(self) -> int:
        """How many streams are not known to be over."""
        return len(self._streams)

    # What LlamaIndex tells

    def entered(self, span_id: str, parent_id: str | None, instance: object) -> None:
        """A span has begun."""
        settle_abandoned()
        try:
            self._enter(span_id, parent_id, instance)
        except Exception:
            self.stumbled("the entropy handler, at the start of a span,", span_id)

    def left(self, span_id: str, result: object, instance: object) -> None:
        """It has ended well; a stream that it gave back is still to be read."""
        span = self._spans.get(span_id)
        if span is None:
            return
        try:
            self._leave(span_id, span, result, instance)
        except Exception:
            self.stumbled("the entropy handler, at the end of a span,", span_id)
            self._let_go(span_id)

    def dropped(self, span_id: str) -> None:
        """It has failed, or was cancelled."""
        self.failed(span_id)
        self._let_go(span_id)

    def abandon(self, span_id: str) -> None:
        """Nobody can read from its stream any more, and where that was not over nobody was told."""
        span = self._spans.get(span_id)
        if span is None or span.stream is None:
            return
        if span.without_chunks is None:
            self.failed(span_id)
        elif self._take(span_id) is not None:
            span.captured._log.end(span_id, MissingLogprobs(span.without_chunks))
        self._let_go(span_id)

    def settle(self) -> None:
        """Settle what is over without anybody having been told: streams that were closed before they were begun."""
        settle_abandoned()
        with self._lock:
            streams = self._streams.copy()
        for span_id, stream in streams.items():
            if is_over(stream()):
                self.abandon(span_id)

    def close(self) -> None:
        """Nothing more will be told: what is in flight is over with what came of it."""
        for span_id in list(self._spans):
            self.dropped(span_id)

    def stumbled(self, doing: str, span_id: str) -> None:
        """An exception of our own is being handled; the call that it is about is over."""
        span = self._spans.get(span_id)
        captured = self._captured_by() if span is None else span.captured
        if captured is not None:
            captured.take_error(doing)
        self.failed(span_id)

    # Calls

    def started(self, span_id: str, model: str | None, temperature: float | None) -> None:
        """A model is called in this span; who follows may have begun to after it was entered."""
        span = self._spans.get(span_id) or self._begin(span_id, None)
        if span is not None and not span.is_call:
            self._start(span_id, span, model, span.temperature if temperature is None else temperature)

    def streamed(self, span_id: str, response: object, event_id: str) -> None:
        """A chunk of the answer has come."""
        span = self._spans.get(span_id)
        if span is not None and span.is_call and span.last_chunk != event_id:
            span.last_chunk = event_id
            span.captured._log.chunk(span_id, payload_of_chunk(response), tokens=tokens_of_chunk(response))

    def ended(self, span_id: str, response: object) -> None:
        """The answer is whole: this is all of it, or the last chunk of a stream."""
        span = self._take(span_id)
        try:
            if span is not None:
                self._end(span_id, span, response)
        except BaseException:
            self._fail(span_id, span)
            raise
        finally:
            self._let_go_of_stream(span_id)

    def failed(self, span_id: str) -> None:
        """There will be no answer."""
        self._fail(span_id, self._take(span_id))
        self._let_go_of_stream(span_id)

    def decided(self, span_id: str, decision: GateDecision) -> None:
        """A gate has decided, in this span."""
        keeper = self.keeper(span_id)
        if keeper is not None:
            keeper.take_decision(decision)

    def keeper(self, span_id: str | None) -> CapturedEntropy | None:
        """What keeps a decision that is made here and now, in this span."""
        captured, stream_id = self.here()
        # In a stream's code the span would be that of who reads the stream.
        span = self._spans.get(span_id) if stream_id is None and span_id is not None else None
        return captured if span is None else span.captured

    @property
    def is_of_blocks(self) -> bool:
        """Whether it follows for blocks, of which each keeps its own."""
        return self._on_idle is not None

    def _start(self, span_id: str, span: _Span, model: str | None, temperature: float | None) -> None:
        only_calling = []
        with self._lock:
            span.is_call = span.has_call = True
            for above_id, above in self._above(span.parent):
                above.has_call = True
                if above.is_call:
                    above.is_call = False
                    only_calling.append((above_id, above))
        for above_id, above in only_calling:
            above.captured._log.only_calls_others(above_id)
        span.captured._log.start(span_id, span.parent, model=model, temperature=temperature)

    @staticmethod
    def _end(span_id: str, span: _Span, response: object) -> None:
        model = field(field(response, "raw"), "model")
        span.captured._log.end(
            span_id,
            response if span.stream is None else payload_of_stream_end(response),
            **tokens_of(response)._asdict(),
            model=model if isinstance(model, str) else None,
        )

    @staticmethod
    def _fail(span_id: str, span: _Span | None) -> None:
        if span is not None:
            span.captured._log.fail(span_id)

    # Spans

    def _enter(self, span_id: str, parent_id: str | None, instance: object) -> None:
        span = self._begin(span_id, parent_id)
        if span is None:
            return
        if isinstance(instance, BaseLLM):
            temperature = getattr(instance, "temperature", None)
            span.temperature = temperature if isinstance(temperature, (int, float)) else None
        span.captured._log.enter(span_id, span.parent)

    def _begin(self, span_id: str, parent_id: str | None) -> _Span | None:
        captured, stream_id = self.here()
        around = self._spans.get(parent_id or "")
        # A block has what is a part of something that began in it, such as an agent's run, also when it is left.
        if around is not None and around.captured._is_left and (captured is None or around.captured.tells(captured)):
            captured = around.captured
        if captured is None:
            return None
        if stream_id is not None and all(above_id != stream_id for above_id, _ in self._above(parent_id)):
            parent_id = stream_id
        with self._lock:
            span = self._spans[span_id] = _Span(captured, parent_id)
        return span

    def here(self) -> tuple[CapturedEntropy | None, str | None]:
        """What keeps what happens here and now, and the stream in whose code it happens."""
        captured, stream_id = self._captured_by(), self._running()
        span = None if stream_id is None else self._spans.get(stream_id)
        if span is None:
            return captured, None
        # A block that was opened by the stream's own code is its own; any other one is its reader's.
        is_its_own = captured is not None and captured.opened_in == stream_id
        return (captured if is_its_own else span.captured), stream_id

    def _running(self) -> str | None:
        """The stream in whose code this is called."""
        if not self._streams:
            return None
        with self._lock:
            streams = self._streams.copy()
        return running_stream(streams)

    def _leave(self, span_id: str, span: _Span, result: object, instance: object) -> None:
        if not span.has_call and isinstance(instance, BaseLLM) and _method(span_id) in _CALLING:
            self._untold(span_id, span, result, instance)
        # A stream may call a model while it is read, as query engines' do; an LLM that made its call makes no more.
        if is_stream(result) and (span.is_call or not (span.has_call and isinstance(instance, BaseLLM))):
            self._follow(span_id, span, result)
            return
        self.failed(span_id)  # where it was told to start and not to end, though the answer is out
        self._let_go(span_id)

    def _untold(self, span_id: str, span: _Span, result: object, instance: BaseLLM) -> None:
        """Take a call of an LLM whose methods lack LlamaIndex's callbacks: nothing but its span tells of it."""
        name = field(instance, "model", "model_name")
        if isinstance(result, (ChatResponse, CompletionResponse)) or is_stream(result):
            self._start(span_id, span, name if isinstance(name, str) else None, span.temperature)
        if isinstance(result, (ChatResponse, CompletionResponse)):
            self.ended(span_id, result)
        elif is_stream(result):
            span.without_chunks = (
                f"{type(instance).__name__}.{_method(span_id)} tells nothing of its chunks; decorate it with "
                "llm_chat_callback or llm_completion_callback"
            )

    def _follow(self, span_id: str, span: _Span, stream: Stream) -> None:
        def gone(_: weakref.ref[Stream]) -> None:
            _abandoned.append((self, span_id))
            if QuietLock.may_wait():
                settle_abandoned()

        with self._lock:
            span.stream = self._streams[span_id] = weakref.ref(stream, gone)

    def _let_go_of_stream(self, span_id: str) -> None:
        """Its stream is over; a span that is still open is let go when it is left."""
        span = self._spans.get(span_id)
        if span is not None and span.stream is not None:
            self._let_go(span_id)

    def _let_go(self, span_id: str) -> None:
        with self._lock:
            self._streams.pop(span_id, None)
            span = self._spans.pop(span_id, None)
        if span is not None:
            span.captured._log.outlive(span_id)
        if self._on_idle is not None and self.is_idle:
            self._on_idle()

    def _take(self, span_id: str) -> _Span | None:
        """The span, where it is a call that goes on: from now on it is none."""
        with self._lock:
            span = self._spans.get(span_id)
            if span is None or not span.is_call:
                return None
            span.is_call = False
            return span

    def _above(self, span_id: str | None) -> Iterator[tuple[str, _Span]]:
        """The open span and those around it, innermost first."""
        while span_id is not None and (span := self._spans.get(span_id)) is not None:
            yield span_id, span
            span_id = span.parent


_abandoned: deque[tuple[CallTracking, str]] = deque()


def settle_abandoned() -> None:
    """Settle the calls whose streams were thrown away while their thread could not wait for a lock."""
    while _abandoned:
        try:
            tracking, span_id = _abandoned.popleft()
        except IndexError:  # another thread was faster
            return
        tracking.abandon(span_id)


def _method(span_id: str) -> str:
    """The name of the method that the span is of: LlamaIndex makes ids of the class, the method, and a UUID."""
    return span_id.partition("-")[0].rpartition(".")[2]
