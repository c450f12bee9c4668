"""An answer that several model calls made: which of them speak for it, by a rule that is stated.

A refined answer, a tree of summaries or a function that asks twice is one draft to whoever reads it, and a gate
decides about one piece of evidence. A call that has none, or that another model made than the profile's, is never
lost among those that have.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeVar, get_args

from ..calls.log import ModelCall
from ..calls.usage import TokenUsage
from ..errors import GateError, MissingLogprobs, UnreadableLogprobs, require_one_of
from ..logprobs import SequenceLogprobs
from ..signals import resolve_signal

#: Which of an answer's calls speak for it. ``worst``: the one that the gate likes least, so that every call must be
#: acceptable. ``last``: the one that ended last, as the one that wrote the answer. ``pooled``: the tokens of all of
#: them, as one sequence.
Aggregate = Literal["worst", "last", "pooled"]

#: Of calls, some of which are not known any more; of how many, in its place.
TOO_MANY = "{} of the model calls behind this answer were let go: there were too many to keep their logprobs"
_NO_CALL = "no model was called for this answer"
_WORDS: dict[Aggregate, str] = {
    "worst": "the worst of {} model calls",
    "last": "the last of {} model calls",
    "pooled": "the tokens of {} model calls together",
}
_TRY_LAST = "of which some came without logprobs: aggregate='last' judges the one that wrote the answer alone"
Known = TypeVar("Known")


def aggregated(calls: Sequence[ModelCall], rule: Aggregate, gate: Judge) -> ModelCall:
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
    # A gate that raises warns of nothing: of what cannot be judged, the decision itself will.
    return _speaking(calls, rule, _OfGate(gate.with_on_missing("raise")))


def aggregated_sequence(
    calls: Sequence[ModelCall], rule: Aggregate, *, signal: str = "mean_entropy"
) -> SequenceLogprobs:
    """What speaks for an answer that these calls made, where there is no gate yet: to calibrate one.

    The rules are those of :func:`aggregated`, as far as they can be without a profile: which model and temperature
    is the right one nobody says, and ``pooled`` takes sequences of as many alternatives as the first.

    Args:
        calls: In the order in which they ended.
        rule: One of the three.
        signal: By which ``worst`` ranks them.

    Raises:
        MissingLogprobs: there are no calls, or what speaks for them came without logprobs.
        UnreadableLogprobs: what speaks for them cannot be read; or ``pooled`` is asked for calls of unequally many
            alternatives.
        SignalError: there is no signal of that name.
        ValueError: a rule that does not exist.
    """
    resolve_signal(signal)
    speaking = _speaking(calls, rule, _OfSignal(signal, _top_k_of_first(calls)))
    if isinstance(speaking.logprobs, UnreadableLogprobs):
        raise type(speaking.logprobs)(*speaking.logprobs.args)
    if rule == "pooled" and len(calls) > 1 and any(speaking is call for call in calls):
        raise UnreadableLogprobs(
            f"calls of {_top_k_of_first(calls)} and of {speaking.logprobs.top_k} alternatives a token are no one "
            f"sequence: ask all models for as many top_logprobs"
        )
    return speaking.logprobs


def in_words(rule: Aggregate, calls: int) -> str | None:
    """What was judged, for the detail of a decision about so many calls; None where there is nothing to choose.

    Example:
        >>> in_words("worst", 3), in_words("worst", 1)
        ('the worst of 3 model calls', None)
    """
    return _WORDS[rule].format(calls) if calls > 1 else None


def with_advice(rule: Aggregate, calls: Sequence[ModelCall]) -> str | None:
    """The same of these calls, with what to do where one without logprobs would always speak for such answers.

    A selection is a call of a tool, which most providers give without logprobs, before the call that answers.
    """
    words = in_words(rule, len(calls))
    silent = [isinstance(call.logprobs, MissingLogprobs) for call in calls]
    if words is None or rule == "last" or not any(silent) or silent[-1]:
        return words
    return f"{words}, {_TRY_LAST}"


class CallDecision(Protocol):
    """What a judge says of one call."""

    @property
    def signal_value(self) -> float | None:
        """The signal of its draft, in the signal's unit; None where it has none."""


class KeyOfRecords(Protocol):
    """Under which settings the records of a profile were made."""

    def difference(self, top_k: int, /, *, model: str | None, temperature: float | None) -> str | None:
        """In what a draft was made otherwise, in words; None where it was not."""


class Judge(Protocol):
    """What decides about a call's evidence: a gate."""

    @property
    def key(self) -> KeyOfRecords:
        """The key of its profile."""

    def with_on_missing(self, on_missing: Literal["raise"], /) -> Judge:
        """The same judge, which raises GateError where it cannot judge."""

    def judge(self, draft: object, /, *, model: str | None, temperature: float | None) -> CallDecision:
        """Decide about a call's evidence, and tell nobody."""


class _Yardstick(Protocol):
    """By what calls are held against one another."""

    def badness(self, call: ModelCall) -> tuple[bool, float]:
        """Whether it cannot be judged, and its signal (its unit)."""

    def is_foreign(self, call: ModelCall, logprobs: SequenceLogprobs, /) -> bool:
        """Whether its tokens do not belong among those of others."""


@dataclass(frozen=True)
class _OfGate:
    """What a gate makes of a call; one that raises where it cannot judge."""

    gate: Judge

    def badness(self, call: ModelCall) -> tuple[bool, float]:
        try:
            decision = self.gate.judge(call.logprobs, model=call.model, temperature=call.temperature)
        except GateError:
            return True, 0.0
        return False, decision.signal_value or 0.0

    def is_foreign(self, call: ModelCall, logprobs: SequenceLogprobs) -> bool:
        return self.gate.key.difference(logprobs.top_k, model=call.model, temperature=call.temperature) is not None


@dataclass(frozen=True)
class _OfSignal:
    """A signal alone, of calls that nothing is known of but that they are of one answer."""

    signal: str
    top_k: int | None

    def badness(self, call: ModelCall) -> tuple[bool, float]:
        value = call.signal(self.signal)
        # Without logprobs is worse than without the signal.
        return value is None, float(isinstance(call.logprobs, UnreadableLogprobs)) if value is None else value

    def is_foreign(self, _call: ModelCall, logprobs: SequenceLogprobs) -> bool:
        return logprobs.top_k != self.top_k


def _top_k_of_first(calls: Sequence[ModelCall]) -> int | None:
    return next((call.logprobs.top_k for call in calls if isinstance(call.logprobs, SequenceLogprobs)), None)


def _speaking(calls: Sequence[ModelCall], rule: Aggregate, yardstick: _Yardstick) -> ModelCall:
    require_one_of("aggregate", rule, get_args(Aggregate))
    if not calls:
        return ModelCall("", MissingLogprobs(_NO_CALL), TokenUsage())
    if len(calls) == 1 or rule == "last":
        return calls[-1]
    return max(calls, key=yardstick.badness) if rule == "worst" else _pooled(calls, yardstick)


def _pooled(calls: Sequence[ModelCall], yardstick: _Yardstick) -> ModelCall:
    parts: list[SequenceLogprobs] = []
    for call in calls:
        # Between calls of 20 alternatives, one of 5 would not be seen any more; nor would one of another model.
        if not isinstance(call.logprobs, SequenceLogprobs) or yardstick.is_foreign(call, call.logprobs):
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


def _known(values: Iterable[Known | None]) -> Known | None:
    return next((value for value in values if value is not None), None)
