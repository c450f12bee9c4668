"""Signals by name: built-in ones, those that users register, and each taken over one part of the tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import inf, isfinite
from numbers import Real
from typing import TypeVar, overload

from ..errors import SignalError
from ..logprobs import SequenceLogprobs
from ..logprobs.entropy import mean_entropy
from .answers import answer_entropy, answer_total, number_entropy, number_max
from .bounds.folds import Count, Largest, Quantile, Sum, WindowMean
from .bounds.rules import BoundRule, bits, doubts, lack_of_confidence, number_bits, ones, uncertain
from .entropies import (
    length,
    max_entropy,
    p90_entropy,
    tail_entropy,
    total_entropy,
    uncertain_share,
    uncertain_tokens,
    window_entropy,
)
from .likelihoods import (
    deepconf_bottom,
    deepconf_mean,
    deepconf_tail,
    deepconf_window,
    margin,
    mean_nll,
    total_nll,
    worst_margin,
    worst_nll,
)
from .positions import surprisals

Signal = Callable[[SequenceLogprobs], float]
SignalT = TypeVar("SignalT", bound=Signal)

_ALL, _ANSWER, _THINKING = "", "answer", "thinking"


@dataclass(frozen=True)
class NamedSignal:
    """A signal's function and its properties; called like the function.

    Attributes:
        function: From SequenceLogprobs to a number, lower = more confident.
        unit: The number's unit; empty where it has none, or none was given.
        looked_at_over: The parts of the tokens over which ``"auto"`` tries it; the empty name means all tokens.
        bound: How a lower bound is computed while a draft is written; None where there is none.
        grows: Whether the user promised that the value never falls as tokens are added.
        registered: Whether a user registered it; ``"auto"`` tries these last.
    """

    function: Signal
    unit: str = ""
    looked_at_over: tuple[str, ...] = (_ALL,)
    bound: BoundRule | None = None
    grows: bool = False
    registered: bool = False

    def __call__(self, sequence: SequenceLogprobs) -> float:
        """The number of a sequence, in the signal's unit.

        Raises:
            SignalError: the signal cannot be computed from this sequence.
        """
        return self.function(sequence)


#: All signals by name. Plain signals stand before special ones: of signals that separate equally well, ``"auto"``
#: takes the first.
SIGNALS: dict[str, NamedSignal] = {
    "mean_entropy": NamedSignal(
        mean_entropy, "bits", (_ALL, _ANSWER, _THINKING), bound=BoundRule(bits, Sum, limited=True)
    ),
    "total_entropy": NamedSignal(total_entropy, "bits", (_ALL, _ANSWER, _THINKING), bound=BoundRule(bits, Sum)),
    "max_entropy": NamedSignal(max_entropy, "bits", bound=BoundRule(bits, lambda _: Largest())),
    "p90_entropy": NamedSignal(
        p90_entropy, "bits", bound=BoundRule(bits, lambda limit: Quantile(0.9, limit or 1), limited=True)
    ),
    "uncertain_tokens": NamedSignal(uncertain_tokens, "tokens", bound=BoundRule(uncertain, Count)),
    "uncertain_share": NamedSignal(uncertain_share, bound=BoundRule(uncertain, Count, limited=True)),
    "window_entropy": NamedSignal(
        window_entropy, "bits", (_ALL, _THINKING), bound=BoundRule(bits, lambda _: WindowMean())
    ),
    "tail_entropy": NamedSignal(tail_entropy, "bits"),
    "deepconf_mean": NamedSignal(deepconf_mean, "nats"),
    "deepconf_window": NamedSignal(
        deepconf_window,
        "nats",
        bound=BoundRule(lack_of_confidence, lambda _: WindowMean(whole=True), may_fail=True),
    ),
    "deepconf_bottom": NamedSignal(deepconf_bottom, "nats"),
    "deepconf_tail": NamedSignal(deepconf_tail, "nats"),
    "answer_entropy": NamedSignal(answer_entropy, "bits"),
    "answer_total": NamedSignal(answer_total, "bits"),
    "number_entropy": NamedSignal(number_entropy, "bits", bound=BoundRule(number_bits, Sum, may_fail=True)),
    "number_max": NamedSignal(number_max, "bits", bound=BoundRule(number_bits, lambda _: Largest(), may_fail=True)),
    "mean_nll": NamedSignal(mean_nll, "bits a token", bound=BoundRule(surprisals, Sum, limited=True, may_fail=True)),
    "total_nll": NamedSignal(total_nll, "bits", bound=BoundRule(surprisals, Sum, may_fail=True)),
    "worst_nll": NamedSignal(worst_nll, "bits", bound=BoundRule(surprisals, lambda _: Largest(), may_fail=True)),
    "margin": NamedSignal(margin, bound=BoundRule(doubts, Sum, limited=True, may_fail=True)),
    "worst_margin": NamedSignal(worst_margin, bound=BoundRule(doubts, lambda _: Largest(), may_fail=True)),
    "length": NamedSignal(length, "tokens", bound=BoundRule(ones, Count)),
}

_PARTS: dict[str, Callable[[SequenceLogprobs], SequenceLogprobs]] = {
    _ANSWER: lambda sequence: sequence.answer,
    _THINKING: lambda sequence: sequence.thinking,
}
#: A key's signal where calibration is to choose one, and the name of a signal that is learned from several.
AUTO, LEARNED = "auto", "learned"
#: Names with a meaning of their own, which no signal may have.
RESERVED = (AUTO, LEARNED)


def candidates() -> tuple[str, ...]:
    """The signals that ``"auto"`` tries unless it is given names; those that users registered come last."""
    built_in = {name: signal for name, signal in SIGNALS.items() if not signal.registered}
    parts = {_ALL: "", **{part: f"@{part}" for part in _PARTS}}
    looked_at = [
        name + behind
        for part, behind in parts.items()
        for name, signal in built_in.items()
        if part in signal.looked_at_over
    ]
    return (*looked_at, *(name for name in SIGNALS if name not in built_in))


def resolve_signal(name: str) -> Signal:
    """The signal of that name, over all tokens or over the part named behind ``@``.

    Raises:
        SignalError: no such signal or part; the message lists those that there are.
    """
    base, _, part = name.partition("@")
    if base not in SIGNALS or (part and part not in _PARTS) or name.endswith("@"):
        raise SignalError(
            f"there is no signal {name!r}; there are {', '.join(sorted(SIGNALS))}, "
            f"each also with {' or '.join('@' + known for known in _PARTS)} behind it; a signal of your own "
            f"must be registered in this process before it is used: register_signal(name, function)"
        )
    signal = SIGNALS[base].function
    return partial(_over_part, signal, part) if part else signal


def measure(name: str, sequence: SequenceLogprobs) -> float:
    """The value of a named signal as a finite float, also where a user's function misbehaves.

    Raises:
        SignalError: no such signal, or it fails on this sequence, or gives no finite number.
    """
    function = resolve_signal(name)
    try:
        value = function(sequence)
    except SignalError:
        raise
    except Exception as error:
        raise SignalError(f"the signal {name!r} failed: {type(error).__name__}: {error}") from error
    if not isinstance(value, Real) or isinstance(value, bool):
        raise SignalError(f"the signal {name!r} must give a number, not {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = inf
    if not isfinite(number):
        raise SignalError(f"the signal {name!r} came out as {number}, which is not finite")
    return number


@overload
def register_signal(name: str, *, grows: bool = False, unit: str = "") -> Callable[[SignalT], SignalT]: ...
@overload
def register_signal(name: str, function: SignalT, *, grows: bool = False, unit: str = "") -> SignalT: ...
def register_signal(
    name: str, function: SignalT | None = None, *, grows: bool = False, unit: str = ""
) -> SignalT | Callable[[SignalT], SignalT]:
    """Give a signal of your own a name, by which profiles and gates find it.

    The name holds for this process: every process that calibrates or gates with it must register it. The command line
    cannot; it reads such a signal where the records bring its values.

    Args:
        name: Without white space and ``@``; taken over the parts it gets ``@answer`` and ``@thinking`` by itself.
        function: From SequenceLogprobs to a finite number, lower = more confident; raises SignalError where
            it cannot tell. Left out, ``@register_signal("name")`` decorates the function.
        grows: Your word that the value never falls as tokens are added to a sequence, as a sum or a maximum over
            tokens does not. A draft that exceeds the threshold before its end can then be stopped there
            (``EntropyGate.watch``). A mean falls.
        unit: Of its values, for reports, as "bits".

    Returns:
        The function itself.

    Raises:
        SignalError: the name is malformed, reserved, or that of another function.

    Example:
        >>> from functools import partial
        >>> from tje_middleware.signals import quantile_entropy, register_signal
        >>> median = register_signal("median_entropy", partial(quantile_entropy, q=0.5))
    """
    if function is None:

        def decorate(decorated: SignalT) -> SignalT:
            return register_signal(name, decorated, grows=grows, unit=unit)

        return decorate
    if not name or name in RESERVED or "@" in name or any(map(str.isspace, name)):
        raise SignalError(
            f"{name!r} cannot name a signal: a name holds neither white space nor '@' and is not "
            f"{' or '.join(map(repr, RESERVED))}"
        )
    if not callable(function):
        raise SignalError(f"signal {name!r} must be a function of SequenceLogprobs, not {function!r}")
    plain = function.function if isinstance(function, NamedSignal) else function
    known = SIGNALS.get(name)
    if known is not None and known.function is not plain and _place(known.function) != _place(plain):
        raise SignalError(f"there is a signal {name!r} already, another function: give yours another name")
    if known is None or known.function is not plain:
        # A built-in signal that is registered under another name keeps its bound.
        bound = next((signal.bound for signal in SIGNALS.values() if signal.function is plain), None)
        known = NamedSignal(plain, bound=bound, registered=True)
    SIGNALS[name] = replace(known, grows=grows, unit=unit or known.unit)
    return function


def _place(function: Signal) -> object:
    """The module and name of a function: where a notebook defines it again, the new one replaces the old one."""
    name = getattr(function, "__qualname__", "<lambda>")
    return function if "<lambda>" in name else (function.__module__, name)


def _over_part(signal: Signal, part: str, sequence: SequenceLogprobs) -> float:
    tokens = _PARTS[part](sequence)
    if not len(tokens):
        raise SignalError(f"the sequence has no {part} tokens")
    return signal(tokens)
