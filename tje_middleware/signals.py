"""Signals: functions from sequence logprobs to one number, lower = more confident.

A signal is named, so that a profile on disk says which one it was calibrated with. ``@answer`` or
``@thinking`` behind any name takes the signal over that part of the tokens alone:
``resolve_signal("mean_entropy@answer")``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .entropy import mean_entropy
from .errors import SignalError
from .logprobs import SequenceLogprobs

Signal = Callable[[SequenceLogprobs], float]

#: The named signals; every value is in the unit that its own docstring gives.
SIGNALS: dict[str, Signal] = {"mean_entropy": mean_entropy}

_PARTS: dict[str, Callable[[SequenceLogprobs], SequenceLogprobs]] = {
    "answer": lambda sequence: sequence.answer,
    "thinking": lambda sequence: sequence.thinking,
}


def resolve_signal(name: str) -> Signal:
    """The signal of that name, over all tokens or over the part named behind ``@``.

    Raises:
        SignalError: no such signal or part; the message lists those that there are.
    """
    base, _, part = name.partition("@")
    if base not in SIGNALS or (part and part not in _PARTS) or name.endswith("@"):
        raise SignalError(
            f"there is no signal {name!r}; there are {', '.join(sorted(SIGNALS))}, "
            f"each also with {' or '.join('@' + known for known in _PARTS)} behind it"
        )
    signal = SIGNALS[base]
    return partial(_over_part, signal, part) if part else signal


def _over_part(signal: Signal, part: str, sequence: SequenceLogprobs) -> float:
    tokens = _PARTS[part](sequence)
    if not len(tokens):
        raise SignalError(f"the sequence has no {part} tokens")
    return signal(tokens)
