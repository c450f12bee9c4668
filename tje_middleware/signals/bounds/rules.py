"""Lower bounds of signals while a draft is still being written: whatever follows, the final value is no less.

Three kinds of signals have one:

- sums, counts and maxima over the tokens only grow: their value so far is a bound;
- means, shares and quantiles need a limit on how many tokens come: the rest adds at least 0, so the mean is at
  least the sum so far over the limit;
- a user's own, where ``register_signal(..., grows=True)`` promises that it never falls.

The rest (the tail, DeepConf's means, the final answer) can be brought down by what follows. Only tokens count of
which it is sure that the signal will measure them: see :mod:`.settled`. Rounding differs a little between a part and
the whole, so every bound lies lower than the value so far by more than that: about 1e-10 a token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from ...errors import SignalError
from ...logprobs import SequenceLogprobs
from ...logprobs.arrays import FloatArray
from ...logprobs.entropy import mean_entropy
from ...logprobs.sequence import without_end
from ..answers import number_entropy, number_max, number_positions
from ..catalog import SIGNALS, Signal, is_growing, measure, resolve_signal
from ..entropies import (
    length,
    max_entropy,
    p90_entropy,
    total_entropy,
    uncertain_share,
    uncertain_tokens,
    window_entropy,
)
from ..likelihoods import deepconf_window, margin, mean_nll, total_nll, worst_margin, worst_nll
from ..positions import LEAST_LOGPROB, entropies, margins, surprisals, token_texts
from .folds import NOISE, Count, Fold, Largest, Quantile, Sum, WindowMean
from .tokens import AllTokens, AnswerTokens, Settling, ThinkingTokens

#: What a bound needs: nothing, or to know how many tokens come at most.
BoundKind = Literal["grows", "limited"]

# A user's growing signal is measured again when there are this many times as many tokens: in all, it then
# sees about five times the tokens of the draft, however long that is.
_GROWTH = 1.25


class LowerBound(Protocol):
    """The lower bound of one signal over one growing sequence.

    Attributes:
        may_fail: Whether what follows may leave the signal without a value, as where a later token's own logprob is
            not known. Otherwise it has one from the first settled token on.
    """

    @property
    def may_fail(self) -> bool:
        """See the class."""
        ...

    def add(self, part: SequenceLogprobs) -> None:
        """Take the next positions, in time proportional to them."""
        ...

    def value(self) -> float | None:
        """The bound in the signal's unit; None while there is none, and for good where the signal has failed."""
        ...


def bound_kind(name: str) -> BoundKind | None:
    """What a lower bound of this signal needs; None where it has none.

    Raises:
        SignalError: no such signal.
    """
    base, part = _split(name)
    if (rule := _rule(SIGNALS[base])) is not None:
        return "limited" if rule.limited else "grows"
    # What a promise about tokens that are added says of tokens that turn into thinking is anybody's guess.
    return "grows" if is_growing(base) and not part else None


def lower_bound(name: str, *, top_k: int, max_tokens: int | None = None) -> LowerBound | None:
    """A lower bound of a named signal, to be fed as the tokens come; None where there is none.

    Args:
        name: As in :func:`.resolve_signal`.
        top_k: Alternatives a position that the signal is taken over; what comes beyond them is left out.
        max_tokens: How many positions come at most; None: not known.

    Raises:
        SignalError: no such signal.
    """
    kind = bound_kind(name)
    if kind is None or (kind == "limited" and max_tokens is None):
        return None
    base, part = _split(name)
    rule = _rule(SIGNALS[base])
    if rule is None:
        return _Remeasured(name, top_k)
    return _Running(rule, _SETTLING[part](), top_k, max_tokens if rule.limited else None)


@dataclass(frozen=True)
class _Rule:
    """How a signal's bound is made: a number a position, folded into one.

    Attributes:
        values: (T,) numbers of the T positions of a part, each no more than what the whole will have in its place.
        fold: Makes an empty fold, of the limit where there is one.
        limited: Whether the bound needs a limit of tokens.
        may_fail: Whether the signal can fail on tokens that come later.
    """

    values: Callable[[SequenceLogprobs], FloatArray]
    fold: Callable[[int | None], Fold]
    limited: bool = False
    may_fail: bool = False


def _bits(part: SequenceLogprobs) -> FloatArray:
    return np.maximum(entropies(part) - NOISE, 0.0)


def _uncertain(part: SequenceLogprobs) -> FloatArray:
    # A toss between two has 1 bit, give or take a rounding: it counts where no rounding brings it to 1.
    return (entropies(part) > 1.0 + NOISE).astype(np.float64)


def _ones(part: SequenceLogprobs) -> FloatArray:
    return np.ones(len(part))


def _number_bits(part: SequenceLogprobs) -> FloatArray:
    token_texts(part)
    bits = np.zeros(len(part))
    numbers = part.once(number_positions)
    bits[numbers] = _bits(part)[numbers]
    return bits


def _doubts(part: SequenceLogprobs) -> FloatArray:
    return np.maximum(1.0 - margins(part) - NOISE, 0.0)


def _lack_of_confidence(part: SequenceLogprobs) -> FloatArray:
    # Each position over all of its own alternatives: the whole may share fewer, which only raises it.
    if part.counts.min() < 2:
        raise SignalError("a position has one alternative only")
    logs = np.where(part.top_logprobs > -np.inf, np.maximum(part.top_logprobs, LEAST_LOGPROB), 0.0)
    return np.asarray(logs.sum(axis=1) / part.counts - NOISE)


_RULES: tuple[tuple[Signal, _Rule], ...] = (
    (total_entropy, _Rule(_bits, Sum)),
    (max_entropy, _Rule(_bits, lambda _: Largest())),
    (window_entropy, _Rule(_bits, lambda _: WindowMean())),
    (uncertain_tokens, _Rule(_uncertain, Count)),
    (length, _Rule(_ones, Count)),
    (number_entropy, _Rule(_number_bits, Sum, may_fail=True)),
    (number_max, _Rule(_number_bits, lambda _: Largest(), may_fail=True)),
    (total_nll, _Rule(surprisals, Sum, may_fail=True)),
    (worst_nll, _Rule(surprisals, lambda _: Largest(), may_fail=True)),
    (worst_margin, _Rule(_doubts, lambda _: Largest(), may_fail=True)),
    (deepconf_window, _Rule(_lack_of_confidence, lambda _: WindowMean(whole=True), may_fail=True)),
    (mean_entropy, _Rule(_bits, Sum, limited=True)),
    (p90_entropy, _Rule(_bits, lambda limit: Quantile(0.9, limit or 1), limited=True)),
    (uncertain_share, _Rule(_uncertain, Count, limited=True)),
    (mean_nll, _Rule(surprisals, Sum, limited=True, may_fail=True)),
    (margin, _Rule(_doubts, Sum, limited=True, may_fail=True)),
)

_SETTLING: dict[str, Callable[[], Settling]] = {"": AllTokens, "answer": AnswerTokens, "thinking": ThinkingTokens}


def _rule(signal: Signal) -> _Rule | None:
    return next((rule for function, rule in _RULES if function is signal), None)


def _split(name: str) -> tuple[str, str]:
    resolve_signal(name)
    base, _, part = name.partition("@")
    return base, part


class _Running:
    """The bound of one of this package's signals."""

    def __init__(self, rule: _Rule, settling: Settling, top_k: int, limit: int | None) -> None:
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
        except SignalError:  # and so it will be over the whole
            self._failed = True
            return
        for value in self._settling.add(values, part):
            self._settled = self._settled or value is not None
            self._fold.add(value)

    def value(self) -> float | None:
        broken = self._limit is not None and self._seen > self._limit
        return None if self._failed or broken or not self._settled else self._fold.value()


class _Remeasured:
    """The bound of a user's growing signal: its value over what had come when it was last measured."""

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
        except SignalError:  # it may have a value once more has come
            return
        self._value = value - NOISE * max(1.0, abs(value)) * self._seen

    def value(self) -> float | None:
        return self._value
