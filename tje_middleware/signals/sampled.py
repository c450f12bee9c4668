"""Signals of the sampled tokens' own probabilities: negative log-likelihoods (surprisals), in bits.

The mean is the logarithm of the perplexity. Under greedy decoding the sampled token is the most probable one.
"""

from __future__ import annotations

from ..logprobs import SequenceLogprobs
from .positions import surprisals


def mean_nll(sequence: SequenceLogprobs) -> float:
    """Mean surprisal of the sampled tokens (bits a token): log2 of the perplexity.

    Raises:
        SignalError: no tokens, their logprobs are not known, or one was sampled with probability 0.
    """
    return float(surprisals(sequence).mean())


def total_nll(sequence: SequenceLogprobs) -> float:
    """Surprisal of the draft (bits): minus log2 of the probability of having sampled just this text.

    Raises:
        SignalError: as :func:`mean_nll`.
    """
    return float(surprisals(sequence).sum())


def worst_nll(sequence: SequenceLogprobs) -> float:
    """Surprisal of the least probable sampled token (bits).

    Raises:
        SignalError: as :func:`mean_nll`.
    """
    return float(surprisals(sequence).max())
