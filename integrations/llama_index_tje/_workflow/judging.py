"""Drafts as steps hand them on: what speaks for one, and what is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from tje_middleware import GateDecision, MissingLogprobs, TokenUsage
from tje_middleware.aggregation import Aggregate, aggregated, with_advice
from tje_middleware.capture import ModelCall
from tje_middleware.delivery import Delivery
from tje_middleware.evidence import without_advice

from .._drafts import call_in
from .._places import annotated, decision_in
from .events import text_for

_ASK = "let the step that drafts ask for them, with ask_logprobs(llm, gate=gate), unless the model refuses"


class Judged(NamedTuple):
    """A draft that holds its decision.

    Attributes:
        draft: A copy, where it has a place for the decision.
        decision: What was decided about it.
    """

    draft: Any
    decision: GateDecision


def judged(
    draft: object,
    calls: Sequence[ModelCall],
    delivery: Delivery,
    aggregate: Aggregate,
    *,
    hands_over: bool,
    question: object = None,
) -> Judged:
    """Decide about a draft, unless its own gate did so before.

    Args:
        draft: The draft.
        calls: The calls that made it; none where it holds its logprobs itself.
        delivery: The rules.
        aggregate: Which of several calls speak for it.
        hands_over: Whether a draft that is given up goes to somebody; if not, it is the answer.
        question: What was asked; None where that is not known.

    Raises:
        GateError: it cannot be judged, and the gate says ``on_missing="raise"``.
    """
    decision = decision_in(draft)
    if decision is None or not delivery.gate.made(decision):
        call = aggregated(calls, aggregate, delivery.gate) if calls else call_in(draft)
        usage = sum((each.usage for each in calls), TokenUsage()) if calls else call.usage
        decision = _decided(call, delivery)
        words = with_advice(aggregate, calls)
        if words is not None:
            decision = replace(decision, detail=f"{decision.detail} ({words})")
        decision = delivery.handed_on(decision, usage, hands_over=hands_over)
        delivery.gate.settle(  # an event that is answered amends it
            decision,
            draft_model=call.model,
            prompt=text_for(delivery.gate, question),
            answer=text_for(delivery.gate, draft) if decision.answered_by == "draft" else None,
        )
    return Judged(annotated(draft, decision), decision)


def _decided(call: ModelCall, delivery: Delivery) -> GateDecision:
    logprobs = call.logprobs
    if isinstance(logprobs, MissingLogprobs):
        said = without_advice(logprobs)
        if said != str(logprobs):  # of a model that may have refused, or was never asked
            logprobs = delivery.gate.capabilities.explained(logprobs, call.model, f"{said}; {_ASK}")
    return delivery.gate.judge(logprobs, model=call.model, temperature=call.temperature)
