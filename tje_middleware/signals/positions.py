"""Arrays of one number a position, which several signals use; computed once for each sequence and kept with it."""

from __future__ import annotations

from math import log

import numpy as np
from numpy.typing import NDArray

from ..errors import SignalError
from ..logprobs import SequenceLogprobs
from ..logprobs.arrays import FloatArray
from ..logprobs.entropy import BITS_PER_NAT, entropies_and_masses
from ..logprobs.sequence import frozen

#: The logarithm of 2**-53, about 1e-16 (nats): added to 1, a smaller probability changes nothing in double precision.
LEAST_LOGPROB = -53.0 * log(2.0)


def entropies(sequence: SequenceLogprobs) -> FloatArray:
    """(T,) token entropies (bits).

    Raises:
        SignalError: the sequence has no tokens.
    """
    require_tokens(sequence)
    return sequence.once(entropies_and_masses)[0]


def margins(sequence: SequenceLogprobs) -> FloatArray:
    """(T,) probability of the most probable alternative minus that of the second, renormalised over the k.

    Raises:
        SignalError: the sequence has no tokens, or a position has one alternative only.
    """
    require_tokens(sequence)
    return sequence.once(_margins)


def confidences(sequence: SequenceLogprobs) -> FloatArray:
    """(T,) DeepConf's token confidence, C = -1/k sum_j l_j over the k most probable alternatives (nats).

    k is the smallest number of alternatives that any position has: the probability of an alternative that was not
    sent is unknown, and no guess for it would compare with the other positions. Leaving out the least probable
    alternatives only lowers C, so no draft looks more confident than it is. For the same reason the logprob of a
    masked alternative counts as no less than ``LEAST_LOGPROB``.

    Raises:
        SignalError: the sequence has no tokens, or a position has one alternative only, whose C would be
            the lower the more probable it is.
    """
    require_tokens(sequence)
    return sequence.once(_confidences)


def surprisals(sequence: SequenceLogprobs) -> FloatArray:
    """(T,) minus the log2 probability of the sampled tokens (bits).

    Raises:
        SignalError: the sequence has no tokens, does not know their logprobs, or has one of probability 0.
    """
    require_tokens(sequence)
    return sequence.once(_surprisals)


def token_texts(sequence: SequenceLogprobs) -> tuple[str, ...]:
    """The T tokens.

    Raises:
        SignalError: the sequence has no tokens, or does not know their texts.
    """
    require_tokens(sequence)
    if sequence.tokens is None:
        raise SignalError("the sequence does not know its tokens' texts, only their logprobs")
    return sequence.tokens


def token_ends(sequence: SequenceLogprobs) -> NDArray[np.int64]:
    """(T,) where each token ends in the joined text (characters).

    Raises:
        SignalError: as :func:`token_texts`.
    """
    token_texts(sequence)
    return sequence.once(_token_ends)


def require_tokens(sequence: SequenceLogprobs) -> None:
    """Raise SignalError where there is nothing to measure."""
    if not len(sequence):
        raise SignalError("a signal of a sequence without tokens is undefined")


def _margins(sequence: SequenceLogprobs) -> FloatArray:
    _, masses = sequence.once(entropies_and_masses)
    if sequence.top_k < 2:
        raise SignalError("the margin between two alternatives is unknown where only one came")
    largest = sequence.top_k - 2
    second, first = np.partition(sequence.top_logprobs, largest, axis=1)[:, largest:].T
    lone = np.flatnonzero(second == -np.inf)
    if len(lone):
        raise SignalError(
            f"position {lone[0]} has one alternative only ({len(lone)} such of {len(sequence)}): "
            f"the margin to the second is unknown"
        )
    # Renormalised, a probability can come out at 1 + 1e-16.
    return frozen(np.clip(np.exp(first - masses) - np.exp(second - masses), 0.0, 1.0))


def _confidences(sequence: SequenceLogprobs) -> FloatArray:
    top = sequence.top_logprobs
    shared = sequence.top_k if top.min() > -np.inf else int(sequence.counts.min())
    if shared < 2:
        raise SignalError("DeepConf's confidence is undefined where a position has one alternative only")
    if shared < sequence.top_k:
        top = sequence.truncated(shared).top_logprobs
    return frozen(np.maximum(top, LEAST_LOGPROB) @ np.full(shared, -1.0 / shared))


def _surprisals(sequence: SequenceLogprobs) -> FloatArray:
    sampled = sequence.sampled_logprobs
    if sampled is None:
        raise SignalError("the sequence does not know the logprobs of its sampled tokens")
    if sampled.min() == -np.inf:
        raise SignalError(f"the token at position {sampled.argmin()} was sampled with probability zero")
    # A logprob may exceed 0 by a rounding error; a surprisal is never negative.
    return frozen(np.maximum(sampled * -BITS_PER_NAT, 0.0))


def _token_ends(sequence: SequenceLogprobs) -> NDArray[np.int64]:
    return frozen(np.cumsum(np.fromiter(map(len, sequence.tokens or ()), np.int64, len(sequence))))
