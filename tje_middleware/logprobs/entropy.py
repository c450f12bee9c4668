"""Shannon entropy of token distributions, in bits.

Each position's top-k logprobs l_1..l_k are renormalised over the k that came, without a bucket for the tail
(*Think Just Enough*, arXiv 2510.08146, section 3): p_i = exp(l_i) / sum_j exp(l_j), H = -sum_i p_i log2 p_i.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, log
from operator import mul

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import SignalError, UnreadableLogprobs
from .sequence import SequenceLogprobs, frozen

#: Multiplies nats to give bits.
BITS_PER_NAT = 1.0 / log(2.0)
# exp underflows to exactly 0 here, and 0 * -1e4 is 0 where 0 * -inf would be NaN.
_FAR_BELOW = -1e4
# Below this sum of probabilities the sum loses digits, and far below it vanishes.
_LEAST_MASS = 1e-30
# Arrays of this many positions fit into the processor's cache.
_POSITIONS_AT_ONCE = 256
# Alternatives cannot have more than all the probability; rounding may exceed it a little.
_MOST_MASS = 1.001


def token_entropies(logprobs: SequenceLogprobs | ArrayLike) -> NDArray[np.float64]:
    """Entropy of every position.

    Args:
        logprobs: A sequence, or its (T, K) natural-log probabilities, padded with ``-inf``. Rows need not
            be normalised: a constant added to a row changes nothing.

    Returns:
        (T,) float64 in bits, from 0 (one alternative has all the mass) to log2 K (all alike).

    Raises:
        UnreadableLogprobs: an array with NaN, +inf, values above 0 or a row without any probability.
    """
    sequence = logprobs if isinstance(logprobs, SequenceLogprobs) else SequenceLogprobs(logprobs)  # type: ignore[arg-type]
    return sequence.once(entropies_and_masses)[0].copy()


def entropies_and_masses(sequence: SequenceLogprobs) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute entropies and probability masses in one pass; called through ``sequence.once``, which keeps them.

    Returns:
        (T,) token entropies in bits, and (T,) natural logs of the probability that each position's alternatives
        have in all. Both read-only.
    """
    top = sequence.top_logprobs
    nats, masses = np.empty(len(top)), np.empty(len(top))
    if top.size:
        for start in range(0, len(top), _POSITIONS_AT_ONCE):
            part = slice(start, start + _POSITIONS_AT_ONCE)
            nats[part], masses[part] = _nats_and_masses(top[part])
    # A point mass can come out at -1e-17; entropy is never negative.
    bits = np.maximum(nats * BITS_PER_NAT, 0.0)
    return frozen(bits), frozen(masses)


def _nats_and_masses(top: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    # Without -inf, whose product with a probability of 0 would be NaN.
    logs = np.maximum(top, _FAR_BELOW)
    weights = np.exp(logs)
    total = weights.sum(axis=1)
    if total.min() < _LEAST_MASS:
        # Only rows of improbable alternatives need their maximum shifted to 0 before exp; finding it for all
        # rows would take as long as all the rest.
        largest = top.max(axis=1)
        nats, masses = _nats_and_masses(top - largest[:, None])
        return nats, masses + largest
    masses = np.log(total)
    nats = masses - np.einsum("tk,tk->t", weights, logs) / total
    return nats, masses


def mean_entropy(logprobs: SequenceLogprobs | ArrayLike) -> float:
    """Mean token entropy in bits, the paper's signal: lower is more confident.

    Raises:
        SignalError: the sequence has no tokens.
        UnreadableLogprobs: as :func:`token_entropies`.
    """
    sequence = logprobs if isinstance(logprobs, SequenceLogprobs) else SequenceLogprobs(logprobs)  # type: ignore[arg-type]
    entropies, _ = sequence.once(entropies_and_masses)
    if not len(entropies):
        raise SignalError("the mean entropy of a sequence without tokens is undefined")
    return float(entropies.mean())


class EntropyAccumulator:
    """Running token entropies of a stream, without an array: about a microsecond a token.

    Example:
        >>> running = EntropyAccumulator()
        >>> running.add([-0.6931471805599453, -0.6931471805599453])
        1.0
        >>> running.mean
        1.0

    Attributes:
        tokens: Positions seen so far (tokens).
        total: Sum of their entropies (bits).
        maximum: The largest of them (bits).
    """

    __slots__ = ("maximum", "tokens", "total")

    def __init__(self) -> None:
        self.tokens = 0
        self.total = 0.0
        self.maximum = 0.0

    def add(self, alternatives: Iterable[float]) -> float:
        """Add one position by its alternatives' natural-log probabilities; returns its entropy (bits).

        Raises:
            UnreadableLogprobs: as :func:`token_entropies`.
        """
        try:
            logs = list(alternatives)
        except TypeError as error:
            raise UnreadableLogprobs(
                f"a position's alternatives are no list but {type(alternatives).__name__}"
            ) from error
        try:
            weights = list(map(exp, logs))
            mass = sum(weights)
            entropy: float = (log(mass) - sum(map(mul, weights, logs)) / mass) * BITS_PER_NAT
        except (TypeError, ValueError, OverflowError, ZeroDivisionError):
            entropy = float("nan")
        # Where the fast formula fails (a zero probability, an underflow, a value that is no logprob), the entropy is
        # NaN or the mass is too small or too large: token_entropies then computes the entropy or raises.
        if not (entropy >= 0.0 and _LEAST_MASS <= mass <= _MOST_MASS):
            entropy = float(token_entropies([logs])[0])
        self.tokens += 1
        self.total += entropy
        self.maximum = max(self.maximum, entropy)
        return entropy

    @property
    def mean(self) -> float:
        """Mean token entropy so far (bits).

        Raises:
            SignalError: no position was added yet.
        """
        if not self.tokens:
            raise SignalError("the mean entropy of a stream without tokens is undefined")
        return self.total / self.tokens
