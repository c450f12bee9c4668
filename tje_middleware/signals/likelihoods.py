"""Signals of the sampled tokens' own probabilities: negative log-likelihoods (surprisals), in bits.

The mean is the logarithm of the perplexity. Under greedy decoding the sampled token is the most probable one.
"""

from __future__ import annotations

import numpy as np

from ..logprobs import SequenceLogprobs
from .entropies import WINDOW, tail, window_means
from .positions import confidences, margins, surprisals


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


def deepconf_mean(sequence: SequenceLogprobs) -> float:
    """Minus the mean token confidence (nats), the paper's average trace confidence.

    Raises:
        SignalError: the sequence has no tokens, or a position has one alternative only.
    """
    return -float(confidences(sequence).mean())


def deepconf_window(sequence: SequenceLogprobs, window: int = WINDOW) -> float:
    """Minus the lowest confidence of any group of ``window`` tokens (nats).

    Raises:
        SignalError: the sequence has no tokens, or a position has one alternative only.
        ValueError: ``window`` is below 1.
    """
    return -float(window_means(confidences(sequence), window).min())


def deepconf_bottom(sequence: SequenceLogprobs, window: int = WINDOW) -> float:
    """Minus the mean confidence of the lowest tenth of the groups, rounded up (nats).

    Raises:
        SignalError: the sequence has no tokens, or a position has one alternative only.
        ValueError: ``window`` is below 1.
    """
    groups = window_means(confidences(sequence), window)
    lowest = -(-len(groups) // 10)
    return -float(np.partition(groups, lowest - 1)[:lowest].mean())


def deepconf_tail(sequence: SequenceLogprobs) -> float:
    """Minus the mean confidence of the last tenth of the tokens, but of no fewer than a window of them (nats).

    Raises:
        SignalError: the sequence has no tokens, or a position has one alternative only.
    """
    return -float(tail(confidences(sequence)).mean())


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
