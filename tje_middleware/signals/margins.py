"""Signals of the margin between the two most probable alternatives; without unit, from 0 (certain) to 1."""

from __future__ import annotations

from ..logprobs import SequenceLogprobs
from .positions import margins


def margin(sequence: SequenceLogprobs) -> float:
    """One minus the mean margin p1 - p2, the probabilities renormalised over the k (without unit).

    The margin is that of active learning (Scheffer, Decomain & Wrobel 2001).

    Raises:
        SignalError: the sequence has no tokens, or a position has one alternative only.
    """
    return 1.0 - float(margins(sequence).mean())


def worst_margin(sequence: SequenceLogprobs) -> float:
    """One minus the smallest margin p1 - p2 of any position (without unit).

    Raises:
        SignalError: the sequence has no tokens, or a position has one alternative only.
    """
    return 1.0 - float(margins(sequence).min())
