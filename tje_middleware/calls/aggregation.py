"""Aggregation: one piece of evidence for an answer that several model calls made, by a rule that users choose.

A refined answer, a tree of summaries or a function that asks twice is one draft to its reader, and a gate decides by
one sequence of logprobs. A call without logprobs, or by another model than the profile's, is never hidden by the
others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

from ..calls.log import ModelCall
from ..calls.usage import TokenUsage
from ..errors import GateError, MissingLogprobs, UnreadableLogprobs, require_one_of
from ..logprobs import SequenceLogprobs
from ..signals import resolve_signal

#: Which of an answer's calls it is judged by. ``worst``: the one with the highest signal, so that every call must be
#: acceptable. ``last``: the one that ended last, which wrote the answer. ``pooled``: the tokens of all calls, as one
#: sequence.
Aggregate = Literal["worst", "last", "pooled"]

#: Why an answer cannot be judged where calls were dropped from the log; takes their number.
TOO_MANY = "{} of the model calls behind this answer were let go: there were too many to keep their logprobs"
_NO_CALL = "no model was called for this answer"
_WORDS: dict[Aggregate, str] = {
    "worst": "the worst of {} model calls",
    "last": "the last of {} model calls",
    "pooled": "the tokens of {} model calls together",
}
_TRY_LAST = "of which some came without logprobs: aggregate='last' judges the one that wrote the answer alone"


def aggregated(calls: Sequence[ModelCall], rule: Aggregate, gate: Judge) -> ModelCall:
    """The call to judge an answer by that these calls made.

    ``worst`` returns the first call that the gate's profile cannot judge (no logprobs, another model or temperature,
    too few tokens), else the call with the highest signal; of equals the first. ``pooled`` returns the first call
    that has no logprobs or other settings than the profile's, else a call with the tokens of all; the number of
    tokens and the signal are then checked for all tokens together.

    Args:
        calls: In the order in which they ended; none where the answer came without a model.
        rule: One of the three.
        gate: The gate that will judge the call.

    Returns:
        One of the calls, or with ``pooled`` a call with the tokens of all, the run of the last one and the sum of
        their usages. Without calls: a call of no model, whose logprobs are missing.

    Raises:
        ValueError: a rule that does not exist.
    """
    # With on_missing="raise" the gate does not warn here; its decision about the returned call will.
    return _speaking(calls, rule, _OfGate(gate.with_on_missing("raise")))


def aggregated_sequence(
    calls: Sequence[ModelCall], rule: Aggregate, *, signal: str = "mean_entropy"
) -> SequenceLogprobs:
    """The logprobs to calibrate by of an answer that these calls made; there is no gate yet.

    The rules are those of :func:`aggregated`, except that models and temperatures are not compared, and that
    ``pooled`` requires every call to have as many alternatives as the first.

    Args:
        calls: In the order in which they ended.
        rule: One of the three.
        signal: The signal by which ``worst`` ranks the calls.

    Raises:
        MissingLogprobs: there are no calls, or the chosen call has no logprobs.
        UnreadableLogprobs: the chosen call's logprobs cannot be read; or ``pooled`` is asked for calls with different
            numbers of alternatives.
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
    """The calls that were judged, in words, for the detail of a decision; None for a single call.

    Example:
        >>> in_words("worst", 3), in_words("worst", 1)
        ('the worst of 3 model calls', None)
    """
    return _WORDS[rule].format(calls) if calls > 1 else None


def with_advice(rule: Aggregate, calls: Sequence[ModelCall]) -> str | None:
    """:func:`in_words`, with the advice to use ``last`` where a call without logprobs comes before the last one.

    A selector of LlamaIndex, for example, calls a tool first, and most providers give no logprobs for such calls.
    """
    words = in_words(rule, len(calls))
    silent = [isinstance(call.logprobs, MissingLogprobs) for call in calls]
    if words is None or rule == "last" or not any(silent) or silent[-1]:
        return words
    return f"{words}, {_TRY_LAST}"


class CallDecision(Protocol):
    """A gate's decision about one call."""

    @property
    def signal_value(self) -> float | None:
        """The signal of the call, in the signal's unit; None where it has none."""


class KeyOfRecords(Protocol):
    """The key of a profile."""

    def difference(self, top_k: int, /, *, model: str | None, temperature: float | None) -> str | None:
        """How the settings of a draft differ from the key, in words; None where they do not."""


class Judge(Protocol):
    """A gate, as far as aggregation needs it."""

    @property
    def key(self) -> KeyOfRecords:
        """The key of its profile."""

    def with_on_missing(self, on_missing: Literal["raise"], /) -> Judge:
        """The same gate, but one that raises GateError where it cannot judge."""

    def judge(self, draft: object, /, *, model: str | None, temperature: float | None) -> CallDecision:
        """Decide about a draft, without recording the decision."""


@dataclass(frozen=True)
class _OfGate:
    """Compares calls by a gate that raises where it cannot judge.

    ``badness`` is whether a call cannot be judged, and its signal; ``is_foreign`` whether its tokens must not be
    pooled with those of other calls.
    """

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
    """Compares calls by a signal and their number of alternatives, without a gate; methods as in ``_OfGate``."""

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


def _speaking(calls: Sequence[ModelCall], rule: Aggregate, by: _OfGate | _OfSignal) -> ModelCall:
    require_one_of("aggregate", rule, get_args(Aggregate))
    if not calls:
        return ModelCall("", MissingLogprobs(_NO_CALL), TokenUsage())
    if len(calls) == 1 or rule == "last":
        return calls[-1]
    return max(calls, key=by.badness) if rule == "worst" else _pooled(calls, by)


def _pooled(calls: Sequence[ModelCall], by: _OfGate | _OfSignal) -> ModelCall:
    parts: list[SequenceLogprobs] = []
    for call in calls:
        # Pooled with calls of 20 alternatives, a call of 5, or of another model, could not be told apart any more.
        if not isinstance(call.logprobs, SequenceLogprobs) or by.is_foreign(call, call.logprobs):
            return call
        # Thinking is marked for each call: a </think> without its opening tag must not reach into the call before.
        parts.append(replace(call.logprobs, marked_thinking=call.logprobs.thinking_mask))
    return replace(
        calls[-1],
        logprobs=SequenceLogprobs.concatenate(parts),
        usage=sum((call.usage for call in calls), TokenUsage()),
        model=next((call.model for call in calls if call.model is not None), None),
        temperature=next((call.temperature for call in calls if call.temperature is not None), None),
    )
