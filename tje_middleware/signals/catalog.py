"""Signals by name: those that there are, those of users, and each over one part of the tokens."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf, isfinite
from numbers import Real
from typing import TypeVar, overload

from ..errors import SignalError
from ..logprobs import SequenceLogprobs
from ..logprobs.entropy import mean_entropy
from .answers import answer_entropy, answer_total, number_entropy, number_max
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

Signal = Callable[[SequenceLogprobs], float]
SignalT = TypeVar("SignalT", bound=Signal)

#: The named signals; every value is in the unit that its own docstring gives.
SIGNALS: dict[str, Signal] = {
    "mean_entropy": mean_entropy,
    "total_entropy": total_entropy,
    "max_entropy": max_entropy,
    "p90_entropy": p90_entropy,
    "uncertain_tokens": uncertain_tokens,
    "uncertain_share": uncertain_share,
    "window_entropy": window_entropy,
    "tail_entropy": tail_entropy,
    "deepconf_mean": deepconf_mean,
    "deepconf_window": deepconf_window,
    "deepconf_bottom": deepconf_bottom,
    "deepconf_tail": deepconf_tail,
    "answer_entropy": answer_entropy,
    "answer_total": answer_total,
    "number_entropy": number_entropy,
    "number_max": number_max,
    "mean_nll": mean_nll,
    "total_nll": total_nll,
    "worst_nll": worst_nll,
    "margin": margin,
    "worst_margin": worst_margin,
    "length": length,
}

#: The names that an automatic choice looks at where it is not told which.
CANDIDATES: tuple[str, ...] = (
    *SIGNALS,
    "mean_entropy@answer",
    "total_entropy@answer",
    "mean_entropy@thinking",
    "total_entropy@thinking",
    "window_entropy@thinking",
)

# By name, the functions of which register_signal was told that they grow.
_GROWING: dict[str, Signal] = {}
_PARTS: dict[str, Callable[[SequenceLogprobs], SequenceLogprobs]] = {
    "answer": lambda sequence: sequence.answer,
    "thinking": lambda sequence: sequence.thinking,
}
#: A key's signal where calibration is to choose it, and what it is called where it is made of several.
AUTO, LEARNED = "auto", "learned"
#: Names with a meaning of their own, which no signal may have.
RESERVED = (AUTO, LEARNED)


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
    signal = SIGNALS[base]
    return partial(_over_part, signal, part) if part else signal


def measure(name: str, sequence: SequenceLogprobs) -> float:
    """A named signal of a sequence as a finite float; whatever a user's function does, in one place.

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
def register_signal(name: str, *, grows: bool = False) -> Callable[[SignalT], SignalT]: ...
@overload
def register_signal(name: str, function: SignalT, *, grows: bool = False) -> SignalT: ...
def register_signal(
    name: str, function: SignalT | None = None, *, grows: bool = False
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
            return register_signal(name, decorated, grows=grows)

        return decorate
    if not name or name in RESERVED or "@" in name or any(map(str.isspace, name)):
        raise SignalError(
            f"{name!r} cannot name a signal: a name holds neither white space nor '@' and is not "
            f"{' or '.join(map(repr, RESERVED))}"
        )
    if not callable(function):
        raise SignalError(f"signal {name!r} must be a function of SequenceLogprobs, not {function!r}")
    known = SIGNALS.get(name)
    if known is not None and known is not function and _place(known) != _place(function):
        raise SignalError(f"there is a signal {name!r} already, another function: give yours another name")
    SIGNALS[name] = function
    if grows:
        _GROWING[name] = function
    else:
        _GROWING.pop(name, None)
    return function


def is_growing(name: str) -> bool:
    """Whether the user gave their word that the signal registered under this name never falls."""
    return name in SIGNALS and _GROWING.get(name) is SIGNALS[name]


def _place(function: Signal) -> object:
    """Where a function is defined: one that is defined anew, as in a notebook, takes the place of the old one."""
    name = getattr(function, "__qualname__", "<lambda>")
    return function if "<lambda>" in name else (function.__module__, name)


def _over_part(signal: Signal, part: str, sequence: SequenceLogprobs) -> float:
    tokens = _PARTS[part](sequence)
    if not len(tokens):
        raise SignalError(f"the sequence has no {part} tokens")
    return signal(tokens)
