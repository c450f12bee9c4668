"""Where the answers of LlamaIndex keep a decision: LLMs', query engines', chat engines' and agents', and events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from llama_index.core.agent.workflow import AgentOutput
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.base.response.schema import PydanticResponse, Response
from llama_index.core.chat_engine.types import AgentChatResponse
from llama_index.core.workflow import Event, StopEvent

from tje_middleware import GateDecision, MissingLogprobs, SequenceLogprobs, TokenUsage
from tje_middleware.calls.log import ModelCall
from tje_middleware.gate.decision import METADATA_KEY, decision_held
from tje_middleware.logprobs.evidence import read
from tje_middleware.logprobs.fields import field, is_sequence

from . import responses
from .responses import LLMResponse, usage_in

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
    if isinstance(answer, LLMResponse):
        return responses.annotated(answer, decision)
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
    if isinstance(answer, LLMResponse):
        return responses.decision_in(answer)
    if isinstance(answer, ENGINE_ANSWERS):
        return decision_held((answer.metadata or {}).get(METADATA_KEY))
    if isinstance(answer, AgentOutput):
        return decision_held(answer.response.additional_kwargs.get(METADATA_KEY))
    return None


def model_in(answer: object) -> str | None:
    """The model that wrote an answer, as its provider calls it; None where it does not say."""
    name = field(getattr(answer, "raw", None), "model")
    return name if isinstance(name, str) else None


def text_of(answer: object) -> str | None:
    """The words of an answer, as a ledger keeps them: of one that is no answer of LlamaIndex, as Python writes it.

    None where it has none, such as a call of tools, a provider's payload or logprobs alone.
    """
    if isinstance(answer, LLMResponse):
        return responses.answer_text(answer)
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


_CAPTURE = "capture them in the step that drafts (capture_entropy() as captured) and hand on calls=captured.calls"
_OF_ENGINE = "the answer of an engine does not hold its LLM's logprobs: draft with an EntropyGatedQueryEngine, or "
_OF_AGENT = "an agent's output holds its LLM's answer only where it does not stream (of a stream, the last chunk): "
_OF_TEXT = "a text has no logprobs: hand on the LLM's response itself, or "


def call_in(draft: object) -> ModelCall:
    """The one call that wrote a draft, by what the draft itself holds of it."""
    why, raw = _why_unknown(draft), field(draft, "raw")
    model = field(draft if raw is None else raw, "model")
    return ModelCall(
        "",
        read(draft) if why is None else MissingLogprobs(why),
        _spent_on(draft),
        model=model if isinstance(model, str) else None,
    )


def _spent_on(draft: object) -> TokenUsage:
    if isinstance(draft, AgentOutput):  # it may have asked its LLM before, for calls of tools
        return replace(spent_on(draft), partly_known=1)
    is_payload = field(draft, "raw") is None and decision_in(draft) is None
    return usage_in({"raw": draft}) if is_payload else spent_on(draft)


def _why_unknown(draft: object) -> str | None:
    """Why nothing in a draft can speak for it; None where something may."""
    if isinstance(draft, ENGINE_ANSWERS):
        return _OF_ENGINE + _CAPTURE
    if isinstance(draft, AgentOutput) and _is_part(draft.raw):
        return _OF_AGENT + _CAPTURE
    if isinstance(draft, str):
        return _OF_TEXT + _CAPTURE
    return None


def _is_part(raw: object) -> bool:
    """Whether an LLM's payload is no whole answer: a chunk of OpenAI's chat completions or an event of Responses."""
    if raw is None:
        return True
    kind, event, choices = field(raw, "object"), field(raw, "type"), field(raw, "choices")
    if isinstance(kind, str) and kind.endswith(".chunk"):
        return True
    if is_sequence(choices) and choices and field(choices[0], "delta") is not None:
        return True
    return isinstance(event, str) and event.startswith("response.")
