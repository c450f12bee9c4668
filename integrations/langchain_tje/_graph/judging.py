"""Drafts as the nodes of a graph pass them on: measured once, the decision in the message, the logprobs gone."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple
from uuid import NAMESPACE_URL, uuid4, uuid5

from langchain_core.messages import AIMessage

from tje_middleware import GateDecision, MissingLogprobs, TokenUsage
from tje_middleware.decision import METADATA_KEY, decision_held
from tje_middleware.delivery import Delivery
from tje_middleware.evidence import read, without_advice
from tje_middleware.usage import usage_of

from .._answer import annotated, without_logprobs

_HINT = (
    "ask for them in the node that drafts, with ask_logprobs(model), unless the model refuses, and judge the message "
    "before it is changed"
)


class Judged(NamedTuple):
    """A message that holds its decision.

    Attributes:
        message: Without logprobs.
        decision: What was decided about it.
    """

    message: AIMessage
    decision: GateDecision


def judged(message: AIMessage, delivery: Delivery, *, hands_over: bool) -> Judged:
    """Decide about a draft, unless that was done before.

    Args:
        message: The draft.
        delivery: The rules.
        hands_over: Whether a draft that is given up goes to somebody; if not, it is the answer.

    Raises:
        GateError: it cannot be judged, and the gate says ``on_missing="raise"``.
    """
    decision = decision_in(message)
    if decision is not None and delivery.gate.made(decision):
        return Judged(without_logprobs(message), decision)
    evidence = read(message)
    if isinstance(evidence, MissingLogprobs):
        evidence = MissingLogprobs(f"{without_advice(evidence)}; {_HINT}")
    name = message.response_metadata.get("model_name")
    model = name if isinstance(name, str) else None
    decision = delivery.gate.judge(evidence, model=model)
    if message.id is not None:  # an edge judges what it cannot change: the node after it decides the same, as one
        decision = replace(decision, decision_id=uuid5(NAMESPACE_URL, f"{message.id} {decision.key}").hex)
    decision = delivery.handed_on(decision, spent_on(message), hands_over=hands_over)
    delivery.gate.settle(decision, draft_model=model)  # a node that answers instead amends it
    message = annotated(without_logprobs(message), decision)
    # What replaces it has to find it.
    return Judged(message if message.id else message.model_copy(update={"id": str(uuid4())}), decision)


def decision_in(message: object) -> GateDecision | None:
    """The decision that a message holds, out of a checkpoint, too; None where it holds none that can be read."""
    return decision_held(message.response_metadata.get(METADATA_KEY)) if isinstance(message, AIMessage) else None


def spent_on(message: AIMessage) -> TokenUsage:
    """What the one call that wrote a message spent, as far as its provider said."""
    said = message.usage_metadata
    return usage_of(said["input_tokens"], said["output_tokens"]) if said else usage_of(None, None)
