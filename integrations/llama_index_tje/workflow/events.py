"""The events around a routing step: a draft, the two ways on from it, and the word of what was decided."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
from llama_index.core.agent.workflow import AgentOutput
from llama_index.core.base.llms.types import ChatResponse, CompletionResponse
from llama_index.core.base.response.schema import Response
from llama_index.core.schema import NodeWithScore
from llama_index.core.storage.docstore.utils import doc_to_json, json_to_doc
from llama_index.core.workflow import Event
from pydantic import BaseModel, Field, PlainSerializer, PlainValidator, PrivateAttr
from pydantic_core import PydanticSerializationError

from tje_middleware import (
    EntropyGate,
    GateDecision,
    MissingLogprobs,
    SequenceLogprobs,
    TokenUsage,
    UnreadableLogprobs,
)
from tje_middleware.calls.log import ModelCall
from tje_middleware.logprobs.evidence import Evidence

from ..answers.places import annotated, model_in, spent_on, text_of

_logger = logging.getLogger("llama_index_tje")

# What a draft is saved as: its kind, and its plain values.
_KIND, _VALUE = "__tje_draft", "value"
_MODELS: dict[str, type[BaseModel]] = {
    each.__name__: each for each in (ChatResponse, CompletionResponse, AgentOutput)
}


def saved_draft(draft: object) -> Any:
    """A draft in plain values; what is no kind of draft stays as it is, and is the serializer's business."""
    saved: Any
    kind = type(draft).__name__
    if type(draft) in _MODELS.values():
        saved = _saved_model(draft)
    elif type(draft) is Response:
        nodes = [{"node": doc_to_json(each.node), "score": each.score} for each in draft.source_nodes]
        saved = {"response": draft.response, "source_nodes": nodes, "metadata": draft.metadata}
    elif isinstance(draft, SequenceLogprobs):
        kind, saved = SequenceLogprobs.__name__, _saved_sequence(draft)  # of a subclass as well
    else:
        return draft
    return {_KIND: kind, _VALUE: saved}


def restored_draft(saved: Any) -> Any:
    """The draft that ``saved_draft`` wrote, or one that was never saved."""
    if not isinstance(saved, Mapping) or _KIND not in saved:
        return saved
    kind, value = saved[_KIND], saved[_VALUE]
    if kind == SequenceLogprobs.__name__:
        return SequenceLogprobs(**value)
    if kind == Response.__name__:
        nodes = [NodeWithScore(node=json_to_doc(each["node"]), score=each["score"]) for each in value["source_nodes"]]
        return Response(**{**value, "source_nodes": nodes})
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


def _saved_model(draft: Any) -> Any:
    try:
        return draft.model_dump(mode="json")
    except PydanticSerializationError:  # a provider's own object, that has no plain form
        return draft.model_dump(mode="json", exclude={"raw"})


def _saved_sequence(sequence: SequenceLogprobs) -> dict[str, Any]:
    values = {each.name: getattr(sequence, each.name) for each in fields(sequence)}
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}


# Each kind of evidence by the name under which it is saved; the general one last.
_EVIDENCE: dict[str, type[SequenceLogprobs | UnreadableLogprobs]] = {
    "sequence": SequenceLogprobs,
    "missing": MissingLogprobs,
    "unreadable": UnreadableLogprobs,
}


def _saved_evidence(evidence: Evidence) -> dict[str, Any]:
    name = next(name for name, kind in _EVIDENCE.items() if isinstance(evidence, kind))
    return {name: _saved_sequence(evidence) if isinstance(evidence, SequenceLogprobs) else str(evidence)}


def _restored_call(saved: Mapping[str, Any]) -> ModelCall:
    ((name, value),) = saved["logprobs"].items()
    logprobs = SequenceLogprobs(**value) if name == "sequence" else _EVIDENCE[name](value)
    return ModelCall(**{**saved, "logprobs": logprobs, "usage": TokenUsage(**saved["usage"])})


class DraftEvent(Event):
    """A draft that is to be judged. What else it is made with is carried on: ``DraftEvent(draft=..., question=...)``.

    Example:
        >>> from llama_index.core.llms import ChatMessage, ChatResponse
        >>> DraftEvent(draft=ChatResponse(message=ChatMessage("Lyon?")), question="The capital?").question
        'The capital?'
    """

    draft: Draft = Field(
        description="The LLM's response, with its logprobs: a ChatResponse or CompletionResponse. Or what holds none "
        "(a query engine's Response, an agent's output, a text), with the calls that made it."
    )
    calls: Calls = Field(
        default=(), description="The LLM calls that made the draft, where it does not hold their logprobs itself."
    )


class RejectedDraftEvent(Event):
    """What the events of rejected drafts have in common.

    ``answered`` and ``settled`` write what became of the draft into the ledger of the gate that rejected it. Once a
    Context was saved and restored between the steps, it is not known which gate that was, and has to be given.
    """

    draft: Draft = Field(description="The rejected draft, with the decision in it.")
    decision: GateDecision = Field(description="Why it was rejected, and what it spent.")
    _gate: EntropyGate | None = PrivateAttr(default=None)  # lost where a Context is saved between the steps

    def _written_down(
        self, decision: GateDecision, gate: EntropyGate | None, answer: object, deeper_model: str | None = None
    ) -> GateDecision:
        """The decision, which the gate writes into its ledger."""
        gate = self._gate if gate is None else gate
        if gate is not None:
            gate.amend(decision, deeper_model=deeper_model, answer=text_for(gate, answer))
        elif decision.decision_id is not None:
            _say_untold(decision.key)
        return decision


def text_for(gate: EntropyGate, answer: object) -> str | None:
    """The words of an answer, or of a question, where the gate's ledger keeps them."""
    return text_of(answer) if gate.keeps_texts else None


@lru_cache
def _say_untold(key: str | None) -> None:
    """Warn, once for each gate's key, that no ledger is told of an answer."""
    _logger.warning(
        "a draft that the gate of %s rejected was answered, and no ledger is told of it: the gate is not known after "
        "a Context was restored; answered(answer, gate=gate) tells its ledger (said once)",
        key,
    )


class DeeperEvent(RejectedDraftEvent):
    """A draft that the gate is not satisfied with: for the step that thinks deeper.

    It has what the draft's event was made with, too. A user's own events may be subclasses.

    Example:
        >>> from llama_index.core.llms import CompletionResponse
        >>> from tje_middleware import Route
        >>> rejected = GateDecision(Route.DEEPER, "uncertain", "1.2 bits", "mean_entropy", "bayes")
        >>> event = DeeperEvent(draft="Lyon?", decision=rejected, question="The capital?")
        >>> answer = event.answered(CompletionResponse(text="Paris"))
        >>> answer.text, answer.additional_kwargs["tje"]["answered_by"], event.question
        ('Paris', 'deeper', 'The capital?')
    """

    def answered(self, answer: Any, *, usage: TokenUsage | None = None, gate: EntropyGate | None = None) -> Any:
        """The deeper answer, with the decision in it, where there is a place for it; the gate's ledger is told of it.

        Args:
            answer: A response; or a text or anything else, which comes back as it is.
            usage: What the deeper branch spent in all. None: what the answer says of itself, which is one call's.
            gate: Whose ledger is told. None: the gate's that rejected the draft, as long as no Context was saved and
                restored since then; after that nobody is told, which is logged once.

        Returns:
            A copy. A response of an LLM counts in its ``additional_kwargs`` what the draft spent, too.
        """
        return annotated(answer, self.settled(answer, usage=usage, gate=gate))

    def settled(
        self, answer: object, *, usage: TokenUsage | None = None, gate: EntropyGate | None = None
    ) -> GateDecision:
        """The decision of such an answer, for one that has no place for it; arguments are those of ``answered``."""
        spent = usage or spent_on(answer)
        decision = replace(self.decision, answered_by="deeper", deeper_usage=spent)
        return self._written_down(decision, gate, answer, model_in(answer))


class AbstainEvent(RejectedDraftEvent):
    """A draft that the gate gives up, since going deeper is not expected to help: for the step that hands over.

    It has what the draft's event was made with, too.

    Example:
        >>> from tje_middleware import Route
        >>> hopeless = GateDecision(Route.ABSTAIN, "hopeless", "4 bits", "mean_entropy", "bayes")
        >>> event = AbstainEvent(draft="Lyon?", decision=hopeless)
        >>> event.answered("Ask a geographer."), event.settled().answered_by
        ('Ask a geographer.', 'human')
    """

    def answered(self, answer: Any, *, gate: EntropyGate | None = None) -> Any:
        """What a human answered, with the decision in it, where there is a place for it: a text has none.

        Args:
            answer: A response, or a text or anything else.
            gate: As in :meth:`DeeperEvent.answered`.
        """
        return annotated(answer, self.settled(answer, gate=gate))

    def settled(self, answer: object = None, *, gate: EntropyGate | None = None) -> GateDecision:
        """The decision of a human's answer; the gate's ledger is told of it. Arguments as above."""
        return self._written_down(replace(self.decision, answered_by="human"), gate, answer)


class DecisionEvent(Event):
    """What a routing step decided, in the workflow's stream of events, before the next step runs.

    Example:
        >>> from tje_middleware import Route
        >>> decision = GateDecision(Route.FINAL, "confident", "0.3 bits", "mean_entropy", "bayes")
        >>> DecisionEvent(decision=decision).decision.route
        <Route.FINAL: 'final'>
    """

    decision: GateDecision = Field(description="With ``answered_by`` where the draft is the answer.")
