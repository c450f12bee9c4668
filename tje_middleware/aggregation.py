"""An answer that several model calls made: which of them speak for it, by a rule that is stated.

A refined answer, a tree of summaries or a function that asks twice is one draft to whoever reads it, and a gate
decides about one piece of evidence. A call that has none, or that another model made than the profile's, is never
lost among those that have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal, TypeVar, get_args

from ._options import require_one_of
from .capture import ModelCall
from .errors import GateError, MissingLogprobs
from .gate import EntropyGate
from .logprobs import SequenceLogprobs
from .usage import TokenUsage

#: Which of an answer's calls speak for it. ``worst``: the one that the gate likes least, so that every call must be
#: acceptable. ``last``: the one that ended last, as the one that wrote the answer. ``pooled``: the tokens of all of
#: them, as one sequence.
Aggregate = Literal["worst", "last", "pooled"]

_NO_CALL = "no model was called for this answer"
_WORDS: dict[Aggregate, str] = {
    "worst": "the worst of {} model calls",
    "last": "the last of {} model calls",
    "pooled": "the tokens of {} model calls together",
}
Known = TypeVar("Known")


def aggregated(calls: Sequence[ModelCall], rule: Aggregate, gate: EntropyGate) -> ModelCall:
    """What speaks for an answer that these calls made.

    ``worst`` gives the call that cannot be judged by the gate's profile, where there is one (no logprobs, another
    model or temperature, too few tokens), and else the one of the highest signal; of equals the first. ``pooled``
    gives a call that does not belong into the profile's sequences, where there is one, and else all tokens in the
    order of the calls; how many tokens there must be, and whether they have the signal, is then asked of the whole.

    Args:
        calls: In the order in which they ended; none where the answer came without a model.
        rule: One of the three.
        gate: Whose decision it is for.

    Returns:
        One of the calls, or with ``pooled`` one that stands for all, with the last one's run and the sum of what they
        spent. Without calls: one of no model, whose logprobs are missing.

    Raises:
        ValueError: a rule that does not exist.
    """
    require_one_of("aggregate", rule, get_args(Aggregate))
    if not calls:
        return ModelCall("", MissingLogprobs(_NO_CALL), TokenUsage())
    if len(calls) == 1 or rule == "last":
        return calls[-1]
    return _worst(calls, gate) if rule == "worst" else _pooled(calls, gate)


def in_words(rule: Aggregate, calls: int) -> str | None:
    """What was judged, for the detail of a decision about so many calls; None where there is nothing to choose.

    Example:
        >>> in_words("worst", 3), in_words("worst", 1)
        ('the worst of 3 model calls', None)
    """
    return _WORDS[rule].format(calls) if calls > 1 else None


def _worst(calls: Sequence[ModelCall], gate: EntropyGate) -> ModelCall:
    # A gate that raises warns of nothing: of what cannot be judged, the decision itself will.
    ranking = gate.with_on_missing("raise")
    return max(calls, key=lambda call: _badness(call, ranking))


def _badness(call: ModelCall, gate: EntropyGate) -> tuple[bool, float]:
    """Whether it cannot be judged, and its signal (its unit)."""
    try:
        decision = gate.decide(call.logprobs, model=call.model, temperature=call.temperature)
    except GateError:
        return True, 0.0
    return False, decision.signal_value or 0.0


def _pooled(calls: Sequence[ModelCall], gate: EntropyGate) -> ModelCall:
    parts: list[SequenceLogprobs] = []
    for call in calls:
        # Between calls of 20 alternatives, one of 5 would not be seen any more; nor would one of another model.
        if not isinstance(call.logprobs, SequenceLogprobs) or _is_foreign(call, call.logprobs, gate):
            return call
        # What is thinking is each call's own: an unopened </think> must not reach back into the one before.
        parts.append(replace(call.logprobs, marked_thinking=call.logprobs.thinking_mask))
    return replace(
        calls[-1],
        logprobs=SequenceLogprobs.concatenate(parts),
        usage=sum((call.usage for call in calls), TokenUsage()),
        model=_known(call.model for call in calls),
        temperature=_known(call.temperature for call in calls),
    )


def _is_foreign(call: ModelCall, logprobs: SequenceLogprobs, gate: EntropyGate) -> bool:
    return gate.key.difference(logprobs.top_k, model=call.model, temperature=call.temperature) is not None


def _known(values: Iterable[Known | None]) -> Known | None:
    return next((value for value in values if value is not None), None)
