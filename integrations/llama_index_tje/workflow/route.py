"""``entropy_route``: the step of a workflow that decides where a draft goes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, Union, get_args

from llama_index.core.workflow import Context, Event, StopEvent, step

from tje_middleware import EntropyGate, GateDecision, MissingLogprobs, Route, TokenUsage
from tje_middleware.calls.aggregation import Aggregate, aggregated, with_advice
from tje_middleware.calls.log import ModelCall
from tje_middleware.errors import described, require_one_of
from tje_middleware.gate.delivery import Delivery
from tje_middleware.logprobs.evidence import without_advice

from ..answers.places import annotated, call_in, decision_in
from ..capture.blocks import announce
from .events import DecisionEvent, DeeperEvent, DraftEvent, RejectedDraftEvent, text_for

#: A step of a workflow, as its class has it.
Step = Callable[..., Awaitable[Event]]


def entropy_route(
    *,
    gate: EntropyGate,
    draft: type[Event] = DraftEvent,
    final: type[Event] = StopEvent,
    deeper: type[Event] = DeeperEvent,
    abstain: type[Event] | None = None,
    draft_field: str = "draft",
    question_field: str = "question",
    aggregate: Aggregate = "worst",
    decisions_key: str | None = None,
    num_workers: int = 4,
) -> Step:
    """A step that sends a draft on as final where the gate is satisfied, and to the deeper step where it is not.

    It is a step like any other: an attribute of the workflow's class, found by its annotations. The gates of several
    such steps in one workflow need not know of each other; their drafts are events of different classes.

    An event that follows has all that the draft's event had, the draft with the decision in it, and the decision as
    its field ``decision``. A StopEvent has the draft as its result, and of the rest the fields that it declares.

    The decision is in the answer (in a ChatResponse, ``response.message.additional_kwargs["tje"]``), it is written to
    the workflow's stream as a DecisionEvent, and told to LlamaIndex's event handlers as an EntropyDecisionEvent.

    A deeper step that fails is the workflow's business: its retry policy's, or its own.

    The gate's ledger has each draft, and what became of a rejected one where its event's ``answered`` or ``settled``
    is called. How long the answer took is not known there: the step sees no question before there is a draft.

    Example:
        >>> import asyncio
        >>> from llama_index.core.llms import ChatMessage, ChatResponse
        >>> from llama_index.core.workflow import StartEvent, Workflow
        >>> from tje_middleware import CalibrationRecord, EntropyGate, ProfileKey, calibrate
        >>> records = [CalibrationRecord(correct=i % 2 == 0, signals={"mean_entropy": 0.2 + i % 2 + i / 100})
        ...            for i in range(20)]
        >>> gate = EntropyGate(calibrate(records, key=ProfileKey(model="m", task="t", top_k=2)))
        >>> words = [{"token": word, "logprob": -0.69315} for word in ("Lyon", "Paris")]  # 1 bit
        >>> raw = {"choices": [{"logprobs": {"content": [{**words[0], "top_logprobs": words}]}}]}
        >>> class Ask(Workflow):
        ...     @step
        ...     async def ask(self, ev: StartEvent) -> DraftEvent:
        ...         response = ChatResponse(message=ChatMessage("Lyon"), raw=raw)  # await llm.achat(...)
        ...         return DraftEvent(draft=response, question=ev.question)
        ...
        ...     route = entropy_route(gate=gate)
        ...
        ...     @step
        ...     async def deepen(self, ev: DeeperEvent) -> StopEvent:
        ...         better = ChatResponse(message=ChatMessage("Paris"))  # await big_llm.achat(ev.question)
        ...         return StopEvent(result=ev.answered(better))
        >>> async def main():
        ...     return await Ask().run(question="The capital of France?")
        >>> answer = asyncio.run(main())
        >>> answer.message.content, answer.message.additional_kwargs["tje"]["detail"]
        ('Paris', 'mean_entropy 1 is above the threshold 0.29')

    Args:
        gate: Decides about drafts.
        draft: The event that the step takes. Captured ``calls`` are looked for in a field of that name.
        final: The event that follows an accepted draft; any event will do, for a step that comes after.
        deeper: The event that follows where the gate is not satisfied.
        abstain: The event that follows where the gate gives a draft up, such as AbstainEvent, or an
            InputRequiredEvent of your own; None: the same as for an accepted one.
        draft_field: The field of these events that has the draft.
        question_field: The field of the draft's event that has what was asked, for a ledger that keeps texts; an
            event may lack it.
        aggregate: Which of several captured calls speak for the draft.
        decisions_key: Where the step adds each decision, a dict, to a list in ``ctx.store``. None: nowhere.
        num_workers: How many drafts it decides about at the same time; as of any step.

    Raises:
        TypeError: the gate is no EntropyGate, or one of the events no class of events.
        ValueError: an ``aggregate`` that does not exist, or a draft's event that has no such field.
    """
    delivery = Delivery(gate)
    require_one_of("aggregate", aggregate, get_args(Aggregate))
    events = {"draft": draft, "final": final, "deeper": deeper, "abstain": final if abstain is None else abstain}
    for name, event in events.items():
        if not (isinstance(event, type) and issubclass(event, Event)):
            raise TypeError(f"{name} must be a class of events, not {described(event)}")
    targets = {Route.FINAL: final, Route.DEEPER: deeper, Route.ABSTAIN: events["abstain"]}

    async def route(self: object, ctx: Context, ev: Event) -> Event:  # noqa: ARG001 (it is called as a method)
        """Decides where a draft goes, by its entropy."""
        await gate.ready()
        values = _values_of(ev, draft_field)
        values[draft_field], decision = judged(
            values[draft_field],
            values.pop("calls") if _are_calls(values.get("calls")) else (),
            delivery,
            aggregate,
            hands_over=abstain is not None,
            question=values.get(question_field),
        )
        following = _following(
            targets[delivery.route_left(decision)], {**values, "decision": decision}, values[draft_field], gate
        )
        announce(decision)
        ctx.write_event_to_stream(DecisionEvent(decision=decision))
        if decisions_key is not None:
            async with ctx.store.edit_state() as state:
                held = getattr(state, decisions_key, None) or []
                setattr(state, decisions_key, [*held, decision.as_dict()])
        return following

    # LlamaIndex finds out of a step what it is by its annotations, and that it is a method by its name.
    route.__annotations__ = {"ctx": Context, "ev": draft, "return": Union[tuple(targets.values())]}  # noqa: UP007
    route.__qualname__ = f"{entropy_route.__name__}.{route.__name__}"
    made: Step = step(num_workers=num_workers)(route)
    return made


def _values_of(event: Event, draft_field: str) -> dict[str, Any]:
    """All that an event was made with, declared or not; a draft is among it.

    Raises:
        ValueError: there is none.
    """
    values = {**{name: getattr(event, name) for name in type(event).model_fields}, **dict(event.items())}
    if draft_field not in values:
        raise ValueError(
            f"{type(event).__name__} has no draft in {draft_field!r}, but {', '.join(values) or 'nothing'}: "
            "give its field's name as draft_field"
        )
    return values


def _following(kind: type[Event], values: dict[str, Any], draft: Any, gate: EntropyGate) -> Event:
    """The event that follows; one that stops the workflow has the draft as its result."""
    if issubclass(kind, StopEvent):
        declared = {name: value for name, value in values.items() if name in kind.model_fields}
        return kind(**{"result": draft, **declared})
    following = kind(**values)
    if isinstance(following, RejectedDraftEvent):
        following._gate = gate
    return following


def _are_calls(value: object) -> bool:
    """Whether an event's field is what was captured, and not something of the user's own of the same name."""
    return isinstance(value, (list, tuple)) and all(isinstance(each, ModelCall) for each in value)


_ASK = "let the step that drafts ask for them, with ask_logprobs(llm, gate=gate), unless the model refuses"


def judged(
    draft: object,
    calls: Sequence[ModelCall],
    delivery: Delivery,
    aggregate: Aggregate,
    *,
    hands_over: bool,
    question: object = None,
) -> tuple[Any, GateDecision]:
    """Decide about a draft, unless its own gate did so before.

    Args:
        draft: The draft.
        calls: The calls that made it; none where it holds its logprobs itself.
        delivery: The rules.
        aggregate: Which of several calls speak for it.
        hands_over: Whether a draft that is given up goes to somebody; if not, it is the answer.
        question: What was asked; None where that is not known.

    Returns:
        The draft, a copy with the decision in it where there is a place for that; and the decision.

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
    return annotated(draft, decision), decision


def _decided(call: ModelCall, delivery: Delivery) -> GateDecision:
    logprobs = call.logprobs
    if isinstance(logprobs, MissingLogprobs):
        said = without_advice(logprobs)
        if said != str(logprobs):  # of a model that may have refused, or was never asked
            logprobs = delivery.gate.capabilities.explained(logprobs, call.model, f"{said}; {_ASK}")
    return delivery.gate.judge(logprobs, model=call.model, temperature=call.temperature)
