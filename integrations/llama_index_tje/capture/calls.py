"""From LlamaIndex's events and spans to model calls: each counted once, however it ends."""

from __future__ import annotations

import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import AsyncGeneratorType, FrameType, GeneratorType
from typing import Any, TypeAlias, TypeGuard

from llama_index.core.base.llms.base import BaseLLM

from tje_middleware import GateDecision, MissingLogprobs
from tje_middleware.calls.scope import QuietLock
from tje_middleware.logprobs.fields import field

from ..answers.responses import LLMResponse, payload_of_chunk, payload_of_stream_end, tokens_of, tokens_of_chunk
from .captured import CapturedEntropy

Stream: TypeAlias = "GeneratorType[Any, Any, Any] | AsyncGeneratorType[Any, Any]"


def is_stream(result: object) -> TypeGuard[Stream]:
    """Whether what a method gave back is a stream that nobody has read from yet."""
    return isinstance(result, (GeneratorType, AsyncGeneratorType))


def _frame_of(stream: Stream) -> FrameType | None:
    """The frame of a stream; None once it was read to its end, was closed or has failed."""
    return stream.gi_frame if isinstance(stream, GeneratorType) else stream.ag_frame


def _is_running(stream: Stream) -> bool:
    return stream.gi_running if isinstance(stream, GeneratorType) else stream.ag_running


# The methods by which a model is called; the other methods of an LLM call these.
_CALLING = frozenset(
    ["chat", "achat", "complete", "acomplete", "stream_chat", "astream_chat", "stream_complete", "astream_complete"]
)


@dataclass(eq=False)
class _Span:
    """A span that is open, or whose stream is not over: numbers, and never the LLM itself."""

    captured: CapturedEntropy
    parent: str | None
    temperature: float | None = None
    is_call: bool = False  # a model call that has not ended
    has_call: bool = False  # this span, or one within it, is or was a model call
    stream: weakref.ref[Stream] | None = None  # the stream that the method returned, until it is over
    without_chunks: str | None = None  # why LlamaIndex tells nothing of the chunks of that stream
    last_chunk: str | None = None  # its event's id: a handler on two dispatchers hears each event twice


class CallTracking:
    """Follows the calls that a handler, or the blocks, are to see; threads may share it.

    Where an LLM asks another one, or itself by another method, only the innermost is a model call.

    Args:
        captured_by: Gives the block that keeps the calls that are started here and now; None where there is none.
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
        with self.surviving("at the start of a span", span_id):
            span = self._begin(span_id, parent_id)
            if span is None:
                return
            if isinstance(instance, BaseLLM):
                temperature = getattr(instance, "temperature", None)
                span.temperature = temperature if isinstance(temperature, (int, float)) else None
            span.captured._log.enter(span_id, span.parent)

    def left(self, span_id: str, result: object, instance: object) -> None:
        """A span has ended well; a stream that it gave back is still to be read."""
        span = self._spans.get(span_id)
        if span is None:
            return
        with self.surviving("at the end of a span", span_id):
            if not span.has_call and isinstance(instance, BaseLLM) and _method(span_id) in _CALLING:
                self._untold(span_id, span, result, instance)
            # Reading a stream may call a model, as query engines' do; an LLM that made its call makes no more.
            if is_stream(result) and (span.is_call or not (span.has_call and isinstance(instance, BaseLLM))):
                self._follow(span_id, span, result)
                return
        self.failed(span_id)  # where a call was told to start and not to end, though the answer is out
        self._let_go(span_id)

    def dropped(self, span_id: str) -> None:
        """A span has failed, or was cancelled."""
        self.failed(span_id)
        self._let_go(span_id)

    def abandon(self, span_id: str) -> None:
        """The stream of a span was closed or thrown away, which no event tells where it was not read to its end."""
        span = self._spans.get(span_id)
        if span is None or span.stream is None:
            return
        if span.without_chunks is None:
            self.failed(span_id)
        elif self._take(span_id) is not None:
            span.captured._log.end(span_id, MissingLogprobs(span.without_chunks))
        self._let_go(span_id)

    def settle(self) -> None:
        """Find the streams that are over though no event says so: they were closed before their first chunk."""
        settle_abandoned()
        with self._lock:
            streams = self._streams.copy()
        for span_id, stream in streams.items():
            if (followed := stream()) is None or _frame_of(followed) is None:
                self.abandon(span_id)

    def close(self) -> None:
        """Nothing more will be told: what is in flight is over with what came of it."""
        for span_id in list(self._spans):
            self.dropped(span_id)

    @contextmanager
    def surviving(self, when: str, span_id: str) -> Iterator[None]:
        """An error in the block is logged, and the call that is followed under this span counts as failed."""
        try:
            yield
        except Exception:
            span = self._spans.get(span_id)
            captured = self._captured_by() if span is None else span.captured
            if captured is not None:
                captured.take_error(f"the entropy handler, {when},")
            self.failed(span_id)

    # Calls

    def started(self, span_id: str, model: str | None, temperature: float | None) -> None:
        """A model is called in this span, which may have begun before anybody listened."""
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
        if span is None:
            self._let_go_of_stream(span_id)
            return
        try:
            model = field(field(response, "raw"), "model")
            span.captured._log.end(
                span_id,
                response if span.stream is None else payload_of_stream_end(response),
                **tokens_of(response)._asdict(),
                model=model if isinstance(model, str) else None,
            )
        except BaseException:
            span.captured._log.fail(span_id)
            raise
        finally:
            self._let_go_of_stream(span_id)

    def failed(self, span_id: str) -> None:
        """There will be no answer."""
        span = self._take(span_id)
        if span is not None:
            span.captured._log.fail(span_id)
        self._let_go_of_stream(span_id)

    def decided(self, decision: GateDecision) -> None:
        """A gate has decided."""
        captured = self._captured_by()
        if captured is not None:
            captured.take_decision(decision)

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

    # Spans

    def _begin(self, span_id: str, parent_id: str | None) -> _Span | None:
        captured, stream_id = self.here()
        around = self._spans.get(parent_id or "")
        # What belongs to a span that began in a block, such as an agent's run, is kept there also once it is left.
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
        """The block that keeps what happens here and now, and the stream in whose code it happens, if any."""
        captured, stream_id = self._captured_by(), self._running()
        span = None if stream_id is None else self._spans.get(stream_id)
        if span is None:
            return captured, None
        # A block that was opened by the stream's own code is its own; any other one is its reader's.
        is_its_own = captured is not None and captured.opened_in == stream_id
        return (captured if is_its_own else span.captured), stream_id

    def block_at(self, span_id: str | None) -> CapturedEntropy | None:
        """The innermost block that has what happens here and now, in this span."""
        captured, stream_id = self.here()
        # In a stream's code the span would be that of who reads the stream.
        span = self._spans.get(span_id) if stream_id is None and span_id is not None else None
        if span is None or (captured is not None and captured.tells(span.captured)):
            return captured
        return span.captured

    def _running(self) -> str | None:
        """The innermost stream in whose code this is called; None where it is called in none.

        The context cannot tell: a generator runs in the context of whoever reads from it, as does anything else that
        the reader does between two reads. The stack can: frames of the stream are on it only while it runs.
        """
        if not self._streams:
            return None
        with self._lock:
            streams = self._streams.copy()
        # Of several names of one stream the first is the innermost: who passed it on has named it later. The frame is
        # asked for only while the stream runs, since Python would have to make one for a stream that rests.
        running = {
            _frame_of(stream): name
            for name, reference in reversed(streams.items())
            if (stream := reference()) is not None and _is_running(stream)
        }
        caller: FrameType | None = sys._getframe(1) if running else None
        while caller is not None and caller not in running:
            caller = caller.f_back
        return None if caller is None else running[caller]

    def _untold(self, span_id: str, span: _Span, result: object, instance: BaseLLM) -> None:
        """Follow a call of an LLM whose methods lack LlamaIndex's callbacks, so that only its span tells of it."""
        if not (isinstance(result, LLMResponse) or is_stream(result)):
            return
        name = field(instance, "model", "model_name")
        self._start(span_id, span, name if isinstance(name, str) else None, span.temperature)
        if not is_stream(result):
            self.ended(span_id, result)
            return
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
        """Let a span go whose stream is over; one that is still open is let go when it is left."""
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
        """The span, where it is a model call that has not ended; it counts as ended from now on."""
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
