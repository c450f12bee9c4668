"""What the answers of LlamaIndex themselves hold of the call that wrote them."""

from __future__ import annotations

from dataclasses import replace

from llama_index.core.agent.workflow import AgentOutput

from tje_middleware import MissingLogprobs, TokenUsage
from tje_middleware.capture import ModelCall
from tje_middleware.evidence import read
from tje_middleware.logprobs.fields import field, is_sequence

from ._places import ENGINE_ANSWERS, decision_in, spent_on
from ._usage import usage_in

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
