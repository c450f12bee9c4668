"""What LlamaIndex's events say of model calls."""

from __future__ import annotations

from functools import singledispatch

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
from llama_index_instrumentation.events.span import SpanDropEvent

from tje_middleware import GateDecision
from tje_middleware.logprobs.fields import field

from .._decision_event import EntropyDecisionEvent
from .call_tracking import CallTracking, settle_abandoned

#: With one of these a model call begins.
STARTS = (LLMChatStartEvent, LLMCompletionStartEvent)


def hear(event: BaseEvent, tracking: CallTracking) -> None:
    """Tell whoever follows calls of an event; errors end here, and are logged."""
    settle_abandoned()
    try:
        _tell(event, tracking)
    except Exception:
        tracking.stumbled(f"the entropy handler, at {type(event).__name__},", event.span_id or "")


@singledispatch
def _tell(event: BaseEvent, tracking: CallTracking) -> None:
    """Most events are of no interest."""


@_tell.register(LLMChatStartEvent)
@_tell.register(LLMCompletionStartEvent)
def _start(event: LLMChatStartEvent | LLMCompletionStartEvent, tracking: CallTracking) -> None:
    if event.span_id is None:  # called by other means than its methods: no other event could be known to be its own
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
    if not (event.is_kept and tracking.is_of_blocks):  # a block that has it already
        tracking.decided(event.span_id or "", GateDecision.from_dict(event.decision))
