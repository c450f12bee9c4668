"""Drafts and calls in events, as they go through a Context that is saved and restored.

An event's field of no certain type comes back as a dict. What a draft can be is a closed list, so it comes back as
what it was; no class is imported by a name that stands in saved data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import numpy as np
from llama_index.core.agent.workflow import AgentOutput
from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from llama_index.core.base.response.schema import Response
from llama_index.core.schema import NodeWithScore
from llama_index.core.storage.docstore.utils import doc_to_json, json_to_doc
from pydantic import BaseModel, PlainSerializer, PlainValidator
from pydantic_core import PydanticSerializationError

from tje_middleware import MissingLogprobs, SequenceLogprobs, TokenUsage, UnreadableLogprobs
from tje_middleware.capture import ModelCall

_KIND, _VALUE = "__tje_draft", "value"
_MODELS: dict[str, type[BaseModel]] = {
    each.__name__: each for each in (ChatResponse, CompletionResponse, AgentOutput)
}
_SEQUENCE, _RESPONSE = "SequenceLogprobs", "Response"


def saved_draft(draft: object) -> Any:
    """A draft in plain values; what is no kind of draft stays as it is, and is the serializer's business."""
    if type(draft) in _MODELS.values():
        return {_KIND: type(draft).__name__, _VALUE: _saved_model(draft)}
    if type(draft) is Response:
        nodes = [{"node": doc_to_json(each.node), "score": each.score} for each in draft.source_nodes]
        saved = {"response": draft.response, "source_nodes": nodes, "metadata": draft.metadata}
        return {_KIND: _RESPONSE, _VALUE: saved}
    if isinstance(draft, SequenceLogprobs):
        return {_KIND: _SEQUENCE, _VALUE: _saved_sequence(draft)}
    return draft


def restored_draft(saved: Any) -> Any:
    """The draft that ``saved_draft`` wrote, or one that was never saved."""
    if not isinstance(saved, Mapping) or _KIND not in saved:
        return saved
    kind, value = saved[_KIND], saved[_VALUE]
    if kind == _SEQUENCE:
        return _restored_sequence(value)
    if kind == _RESPONSE:
        nodes = [NodeWithScore(node=json_to_doc(each["node"]), score=each["score"]) for each in value["source_nodes"]]
        return Response(value["response"], source_nodes=nodes, metadata=value["metadata"])
    if kind not in _MODELS:
        raise ValueError(f"a draft of the kind {kind!r} is not known here")
    return _MODELS[kind].model_validate(value)


def saved_calls(calls: Sequence[ModelCall]) -> list[dict[str, Any]]:
    """Captured calls in plain values; the runs that they were made in are over, and not saved."""
    return [
        {
            "run_id": str(call.run_id),
            "logprobs": _saved_evidence(call.logprobs),
            "usage": asdict(call.usage),
            "model": call.model,
            "temperature": call.temperature,
        }
        for call in calls
    ]


def restored_calls(saved: Any) -> tuple[ModelCall, ...]:
    """The calls that ``saved_calls`` wrote, or those that were never saved.

    Raises:
        ValueError: these are no captured calls.
    """
    if not isinstance(saved, (list, tuple)) or not all(isinstance(each, (ModelCall, dict)) for each in saved):
        raise ValueError("calls are those that were captured: capture_entropy() as captured, captured.calls")
    return tuple(each if isinstance(each, ModelCall) else _restored_call(each) for each in saved)


#: A field for whatever can be a draft.
Draft = Annotated[Any, PlainSerializer(saved_draft, return_type=Any), PlainValidator(restored_draft)]
#: A field for captured calls.
Calls = Annotated[
    tuple[ModelCall, ...], PlainSerializer(saved_calls, return_type=Any), PlainValidator(restored_calls)
]


def _saved_model(draft: Any) -> dict[str, Any]:
    try:
        saved: dict[str, Any] = draft.model_dump(mode="json")
    except PydanticSerializationError:  # a provider's own object, that has no plain form
        saved = draft.model_dump(mode="json", exclude={"raw"})
    return saved


def _saved_sequence(sequence: SequenceLogprobs) -> dict[str, Any]:
    return {
        "top_logprobs": sequence.top_logprobs.tolist(),
        "tokens": sequence.tokens,
        "sampled_logprobs": None if sequence.sampled_logprobs is None else sequence.sampled_logprobs.tolist(),
        "marked_thinking": None if sequence.marked_thinking is None else sequence.marked_thinking.tolist(),
    }


def _restored_sequence(saved: Mapping[str, Any]) -> SequenceLogprobs:
    return SequenceLogprobs(
        np.asarray(saved["top_logprobs"], dtype=float),
        tokens=None if saved["tokens"] is None else tuple(saved["tokens"]),
        sampled_logprobs=None if saved["sampled_logprobs"] is None else np.asarray(saved["sampled_logprobs"]),
        marked_thinking=None if saved["marked_thinking"] is None else np.asarray(saved["marked_thinking"]),
    )


def _saved_evidence(evidence: SequenceLogprobs | UnreadableLogprobs) -> dict[str, Any]:
    if isinstance(evidence, SequenceLogprobs):
        return {"sequence": _saved_sequence(evidence)}
    return {"missing" if isinstance(evidence, MissingLogprobs) else "unreadable": str(evidence)}


def _restored_call(saved: Mapping[str, Any]) -> ModelCall:
    evidence = saved["logprobs"]
    logprobs: SequenceLogprobs | UnreadableLogprobs
    if "sequence" in evidence:
        logprobs = _restored_sequence(evidence["sequence"])
    elif "missing" in evidence:
        logprobs = MissingLogprobs(evidence["missing"])
    else:
        logprobs = UnreadableLogprobs(evidence["unreadable"])
    return ModelCall(
        saved["run_id"],
        logprobs,
        TokenUsage(**saved["usage"]),
        model=saved["model"],
        temperature=saved["temperature"],
    )
