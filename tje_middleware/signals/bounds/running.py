"""Lower bounds of signals while a draft is still being written: the final value is never below them.

Three kinds of signals have one:

- sums, counts and maxima over the tokens only grow: their value so far is a bound;
- means, shares and quantiles have one where the number of tokens is limited: further tokens add at least 0, so the
  mean is at least the sum so far divided by the limit;
- a user's signal, where ``register_signal(..., grows=True)`` promises that it never falls.

Later tokens can lower the other signals (the tail, DeepConf's means, the final answer). Only tokens count that the
signal will measure for sure: see :mod:`.tokens`. Every bound is lower than the value so far by about 1e-10 a token,
which is more than rounding can differ between a part and the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from ...errors import SignalError
from ...logprobs import SequenceLogprobs
from ...logprobs.sequence import without_end
from ..catalog import SIGNALS, measure, resolve_signal
from .folds import NOISE
from .rules import BoundRule
from .tokens import AllTokens, AnswerTokens, Settling, ThinkingTokens

#: What a bound needs: nothing, or to know how many tokens come at most.
BoundKind = Literal["grows", "limited"]

# A user's growing signal is measured again when there are this many times as many tokens: in all, it then
# sees about five times the tokens of the draft, however long that is.
_GROWTH = 1.25

_SETTLING: dict[str, Callable[[], Settling]] = {"": AllTokens, "answer": AnswerTokens, "thinking": ThinkingTokens}


class LowerBound(Protocol):
    """The lower bound of one signal over one growing sequence."""

    @property
    def may_fail(self) -> bool:
        """Whether a later token can leave the signal without a value, for example as its logprob is unknown.

        If not, the signal has a value from the first settled token on.
        """

    def add(self, part: SequenceLogprobs) -> None:
        """Take the next positions, in time proportional to them."""

    def value(self) -> float | None:
        """The bound in the signal's unit; None before there is one, and from a failure of the signal on."""


def bound_kind(name: str) -> BoundKind | None:
    """What a lower bound of this signal needs; None where it has none.

    Raises:
        SignalError: no such signal.
    """
    base, part = _split(name)
    signal = SIGNALS[base]
    if signal.bound is not None:
        return "limited" if signal.bound.limited else "grows"
    # Tokens may turn out to be thinking only later, and so leave a part again: the user's promise that the value does
    # not fall as tokens are added says nothing about that.
    return "grows" if signal.grows and not part else None


def lower_bound(name: str, *, top_k: int, max_tokens: int | None = None) -> LowerBound | None:
    """A lower bound of a named signal, to be fed as the tokens come; None where there is none.

    Args:
        name: As in :func:`.resolve_signal`.
        top_k: Alternatives a position that the signal is taken over; further ones are left out.
        max_tokens: The largest number of positions that may come; None: unknown.

    Raises:
        SignalError: no such signal.
    """
    kind = bound_kind(name)
    if kind is None or (kind == "limited" and max_tokens is None):
        return None
    base, part = _split(name)
    rule = SIGNALS[base].bound
    if rule is None:
        return _Remeasured(name, top_k)
    return _Running(rule, _SETTLING[part](), top_k, max_tokens if rule.limited else None)


def _split(name: str) -> tuple[str, str]:
    resolve_signal(name)
    base, _, part = name.partition("@")
    return base, part


class _Running:
    """The bound of one of this package's signals."""

    def __init__(self, rule: BoundRule, settling: Settling, top_k: int, limit: int | None) -> None:
        self.may_fail = rule.may_fail
        self._rule = rule
        self._settling = settling
        self._top_k = top_k
        self._limit = limit
        self._fold = rule.fold(limit)
        self._seen = 0
        self._settled = False
        self._failed = False

    def add(self, part: SequenceLogprobs) -> None:
        if self._failed or not len(part):
            return
        self._seen += len(part)
        part = part.truncated(self._top_k)
        try:
            values = self._rule.values(part).tolist()
        except SignalError:  # the signal of the whole draft will fail, too
            self._failed = True
            return
        for value in self._settling.add(values, part):
            self._settled = self._settled or value is not None
            self._fold.add(value)

    def value(self) -> float | None:
        broken = self._limit is not None and self._seen > self._limit
        return None if self._failed or broken or not self._settled else self._fold.value()


class _Remeasured:
    """The bound of a user's growing signal: its value when it was last measured."""

    may_fail = True

    def __init__(self, name: str, top_k: int) -> None:
        self._name = name
        self._top_k = top_k
        self._parts: list[SequenceLogprobs] = []
        self._seen = 0
        self._next = 1
        self._value: float | None = None

    def add(self, part: SequenceLogprobs) -> None:
        self._parts.append(part)
        self._seen += len(part)
        if self._seen < self._next:
            return
        self._next = max(self._seen + 1, int(self._seen * _GROWTH))
        whole = without_end(SequenceLogprobs.concatenate(self._parts))
        if whole.top_k < self._top_k:
            return
        try:
            value = measure(self._name, whole.truncated(self._top_k))
        except SignalError:  # it may have a value once more tokens have come
            return
        self._value = value - NOISE * max(1.0, abs(value)) * self._seen

    def value(self) -> float | None:
        return self._value
