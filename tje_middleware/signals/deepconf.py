"""DeepConf's confidences (Fu et al. 2025, *Deep Think with Confidence*, arXiv 2508.15260), negated.

Token confidence is C_t = -1/k sum_j l_j over the k most probable alternatives: large where one has
nearly all the probability, because the rest is then improbable. A group's confidence is its mean over a
sliding window. A signal is lower where the model is more confident, so every value here is minus the paper's, in
nats like the paper's. For positions with fewer alternatives see :func:`.positions.confidences`.
"""

from __future__ import annotations

import numpy as np

from ..logprobs import SequenceLogprobs
from .positions import confidences
from .windows import WINDOW, tail, window_means


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
