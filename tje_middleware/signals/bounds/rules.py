"""How a signal's lower bound is made: the number of each position, and how numbers become one.

A rule stands in the signal's entry in :mod:`..catalog`; :mod:`.running` follows it while a draft is written. Every
number lies below that position's number in the whole sequence by more than rounding can change: about 1e-10 a token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...errors import SignalError
from ...logprobs import SequenceLogprobs
from ...logprobs.arrays import FloatArray
from ..answers import number_positions
from ..positions import LEAST_LOGPROB, entropies, margins, token_texts
from .folds import NOISE, Fold


@dataclass(frozen=True)
class BoundRule:
    """How a signal's lower bound is computed: one number a position, folded into one number.

    Attributes:
        values: (T,) numbers of the T positions of a part, each at most that position's number in the whole sequence.
        fold: Makes an empty fold, given the limit of tokens or None.
        limited: Whether the bound needs a limit of tokens.
        may_fail: Whether the signal can fail on tokens that come later.
    """

    values: Callable[[SequenceLogprobs], FloatArray]
    fold: Callable[[int | None], Fold]
    limited: bool = False
    may_fail: bool = False


def bits(part: SequenceLogprobs) -> FloatArray:
    """(T,) token entropies in bits, less ``NOISE``."""
    return np.maximum(entropies(part) - NOISE, 0.0)


def uncertain(part: SequenceLogprobs) -> FloatArray:
    """(T,) 1 for each token of more than one bit, else 0."""
    # Two equally likely alternatives have 1 bit, give or take rounding: such a token must not be counted.
    return (entropies(part) > 1.0 + NOISE).astype(np.float64)


def ones(part: SequenceLogprobs) -> FloatArray:
    """(T,) 1 for each token."""
    return np.ones(len(part))


def number_bits(part: SequenceLogprobs) -> FloatArray:
    """(T,) token entropies in bits of the tokens that hold a digit, 0 for the others."""
    token_texts(part)
    found = np.zeros(len(part))
    numbers = part.once(number_positions)
    found[numbers] = bits(part)[numbers]
    return found


def doubts(part: SequenceLogprobs) -> FloatArray:
    """(T,) one minus the margin of each position."""
    return np.maximum(1.0 - margins(part) - NOISE, 0.0)


def lack_of_confidence(part: SequenceLogprobs) -> FloatArray:
    """(T,) minus the confidence of each position (nats)."""
    # Each position over all of its own alternatives: the signal takes no more than every position has, which only
    # raises the number.
    if part.counts.min() < 2:
        raise SignalError("a position has one alternative only")
    logs = np.where(part.top_logprobs > -np.inf, np.maximum(part.top_logprobs, LEAST_LOGPROB), 0.0)
    return np.asarray(logs.sum(axis=1) / part.counts - NOISE)
