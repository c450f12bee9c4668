"""Where LlamaIndex's events and spans are heard: at the root of all its dispatchers, and only while somebody asks."""

from __future__ import annotations

import weakref
from functools import singledispatch
from typing import Any

from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.exception import ExceptionEvent
from llama_index.core.instrumentation.events.llm import (
    LLMChatEndEvent,
    LLMChatInProgressEvent,
    LLMChatStartEvent,
    LLMCompletionEndEvent,
    LLMCompletionInProgressEvent,
    LLMCompletionStartEvent,
)
from llama_index.core.instrumentation.span_handlers import NullSpanHandler
from llama_index_instrumentation import get_dispatcher, root_manager
from llama_index_instrumentation.dispatcher import Dispatcher
from llama_index_instrumentation.events.span import SpanDropEvent
from pydantic import PrivateAttr

from tje_middleware import GateDecision
from tje_middleware.calls.scope import QuietLock
from tje_middleware.logprobs.fields import field

from .calls import CallTracking, settle_abandoned
from .captured import EntropyDecisionEvent

_changing = QuietLock()


class SpanListener(NullSpanHandler):
    """Passes spans on to what follows the calls, and keeps none.

    Args:
        tracking: Follows the calls.
        listener: The event handler that it goes with; once that is on no dispatcher, this removes itself.
    """

    _tracking: CallTracking = PrivateAttr()
    _listener: weakref.ref[BaseEventHandler] = PrivateAttr()

    def __init__(self, tracking: CallTracking, listener: BaseEventHandler) -> None:
        super().__init__()
        self._tracking = tracking
        self._listener = weakref.ref(listener)

    @classmethod
    def class_name(cls) -> str:
        """Class name."""
        return "SpanListener"

    # LlamaIndex names all arguments.

    def span_enter(
        self, id_: str, *args: Any, instance: Any = None, parent_id: str | None = None, **kwargs: Any
    ) -> None:
        """A span has begun."""
        listener = self._listener()
        if listener is None or not is_listening(listener):  # taken off the dispatcher by hand
            ignore(listener, self)
            self._tracking.close()
            return
        self._tracking.entered(id_, parent_id, instance)

    def span_exit(self, id_: str, *args: Any, instance: Any = None, result: Any = None, **kwargs: Any) -> None:
        """A span has ended well."""
        self._tracking.left(id_, result, instance)

    def span_drop(self, id_: str, *args: Any, **kwargs: Any) -> None:
        """A span has failed."""
        self._tracking.dropped(id_)


# Lists are replaced, not changed: a dispatcher that walks through its own in another thread would skip a handler.


def listen(listener: BaseEventHandler, spans: SpanListener) -> None:
    """Hear all events and spans, from now on; once is enough."""
    root = get_dispatcher()
    hear_spans(spans)
    with _changing:
        if not is_listening(listener):
            root.event_handlers = [*root.event_handlers, listener]


def hear_spans(spans: SpanListener) -> None:
    """Hear all spans, from now on."""
    root = get_dispatcher()
    with _changing:
        if not any(each is spans for each in root.span_handlers):
            root.span_handlers = [*root.span_handlers, spans]


def ignore(listener: BaseEventHandler | None, spans: SpanListener) -> None:
    """Hear nothing more."""
    root = get_dispatcher()
    with _changing:
        for dispatcher in _dispatchers():
            if any(each is listener for each in dispatcher.event_handlers):
                dispatcher.event_handlers = [each for each in dispatcher.event_handlers if each is not listener]
        root.span_handlers = [each for each in root.span_handlers if each is not spans]


def is_listening(listener: BaseEventHandler) -> bool:
    """Whether it is on any dispatcher: on the root, as a rule."""
    return any(each is listener for dispatcher in _dispatchers() for each in dispatcher.event_handlers)


def _dispatchers() -> list[Dispatcher]:
    """All dispatchers of LlamaIndex, the root first."""
    return list(root_manager.dispatchers.copy().values())


#: The events with which a model call begins.
STARTS = (LLMChatStartEvent, LLMCompletionStartEvent)


def hear(event: BaseEvent, tracking: CallTracking) -> None:
    """Pass an event on to what follows the calls; an error is logged and goes no further."""
    settle_abandoned()
    with tracking.surviving(f"at {type(event).__name__}", event.span_id or ""):
        _tell(event, tracking)


@singledispatch
def _tell(event: BaseEvent, tracking: CallTracking) -> None:
    """Most events are of no interest."""


@_tell.register(LLMChatStartEvent)
@_tell.register(LLMCompletionStartEvent)
def _start(event: LLMChatStartEvent | LLMCompletionStartEvent, tracking: CallTracking) -> None:
    if event.span_id is None:  # not called by its methods: later events could not be told from those of other calls
        return
    # Newer releases of LlamaIndex tell of an LLM what its metadata says, older ones all of its fields.
    model, temperature = field(event.model_dict, "model_name", "model"), field(event.model_dict, "temperature")
    tracking.started(
        event.span_id,
        model if isinstance(model, str) and model != "unknown" else None,
        temperature if isinstance(temperature, (int, float)) else None,
    )


@_tell.register(LLMChatInProgressEvent)
@_tell.register(LLMCompletionInProgressEvent)
def _chunk(event: LLMChatInProgressEvent | LLMCompletionInProgressEvent, tracking: CallTracking) -> None:
    tracking.streamed(event.span_id or "", event.response, event.id_)


@_tell.register(LLMChatEndEvent)
@_tell.register(LLMCompletionEndEvent)
def _end(event: LLMChatEndEvent | LLMCompletionEndEvent, tracking: CallTracking) -> None:
    tracking.ended(event.span_id or "", event.response)


@_tell.register(ExceptionEvent)
@_tell.register(SpanDropEvent)
def _fail(event: ExceptionEvent | SpanDropEvent, tracking: CallTracking) -> None:
    tracking.failed(event.span_id or "")


@_tell.register(EntropyDecisionEvent)
def _decide(event: EntropyDecisionEvent, tracking: CallTracking) -> None:
    tracking.decided(GateDecision.from_dict(event.decision))
