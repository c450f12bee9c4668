"""Where the answers of LlamaIndex keep a decision: LLMs', query engines', chat engines' and agents', and events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from llama_index.core.agent.workflow import AgentOutput
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.base.response.schema import PydanticResponse, Response
from llama_index.core.chat_engine.types import AgentChatResponse
from llama_index.core.workflow import Event, StopEvent

from tje_middleware import GateDecision, SequenceLogprobs, TokenUsage
from tje_middleware.decision import METADATA_KEY, decision_held
from tje_middleware.logprobs.fields import field

from . import _answer
from ._usage import usage_in

#: The answers of query engines and chat engines, which do not hold what their LLMs answered.
ENGINE_ANSWERS = (Response, PydanticResponse, AgentChatResponse)
# An event with a field of this name, and for a GateDecision, keeps the decision there.
_FIELD = "decision"


def annotated(answer: object, decision: GateDecision) -> Any:
    """The answer with the decision in it, where there is a place for it; a copy, the rest shared.

    An LLM's response and an agent's output keep it in their message, an engine's response in its metadata, an event
    in its field ``decision`` for a GateDecision, or else in the answer that is a StopEvent's result. Everything else
    stays as it is.
    """
    if isinstance(answer, (ChatResponse, CompletionResponse)):
        return _answer.annotated(answer, decision)
    if isinstance(answer, ENGINE_ANSWERS):
        return replace(answer, metadata={**(answer.metadata or {}), METADATA_KEY: decision.as_dict()})
    if isinstance(answer, ChatMessage):
        noted = {**answer.additional_kwargs, METADATA_KEY: decision.as_dict()}
        return answer.model_copy(update={"additional_kwargs": noted})
    if isinstance(answer, AgentOutput):
        return answer.model_copy(update={"response": annotated(answer.response, decision)})
    if isinstance(answer, Event):
        return _annotated_event(answer, decision)
    return answer


def decision_in(answer: object) -> GateDecision | None:
    """The decision that an answer holds; None where it holds none that can be read."""
    if isinstance(answer, (ChatResponse, CompletionResponse)):
        return _answer.decision_in(answer)
    if isinstance(answer, ENGINE_ANSWERS):
        return decision_held((answer.metadata or {}).get(METADATA_KEY))
    if isinstance(answer, AgentOutput):
        return decision_held(answer.response.additional_kwargs.get(METADATA_KEY))
    return None


def model_of(answer: object) -> str | None:
    """The model that wrote an answer, as its provider calls it; None where it does not say."""
    name = field(getattr(answer, "raw", None), "model")
    return name if isinstance(name, str) else None


def text_of(answer: object) -> str | None:
    """The words of an answer, as a ledger keeps them: of one that is no answer of LlamaIndex, as Python writes it.

    None where it has none, such as a call of tools, a provider's payload or logprobs alone.
    """
    if isinstance(answer, (ChatResponse, CompletionResponse)):
        return _answer.text_of(answer)
    if isinstance(answer, AgentOutput):
        return answer.response.content
    if isinstance(answer, ChatMessage):
        return answer.content
    if isinstance(answer, StopEvent) and answer.result is not None:
        return text_of(answer.result)
    return None if answer is None or isinstance(answer, (Mapping, SequenceLogprobs)) else str(answer)


def spent_on(answer: object) -> TokenUsage:
    """What an answer cost, as far as it says so itself, with the draft that was rejected for it by a gate within."""
    decision = decision_in(answer)
    known = decision.usage if decision is not None else None
    return usage_in(answer) if known is None else known


def _annotated_event(event: Event, decision: GateDecision) -> Event:
    declared = type(event).model_fields.get(_FIELD)
    if declared is not None and GateDecision in (declared.annotation, *get_args(declared.annotation)):
        return event.model_copy(update={_FIELD: decision})
    if not isinstance(event, StopEvent) or event.result is None:
        return event
    result = annotated(event.result, decision)
    if result is event.result:
        return event
    copy = event.model_copy()
    copy._result = result
    return copy
