"""Signals of the token entropies of all tokens, and the number of tokens as a baseline for them."""

from __future__ import annotations

import numpy as np

from ..logprobs import SequenceLogprobs
from ..logprobs.arrays import FloatArray
from .positions import entropies, require_tokens


def total_entropy(sequence: SequenceLogprobs) -> float:
    """Sum of the token entropies (bits): the mean entropy times the length.

    Raises:
        SignalError: the sequence has no tokens.
    """
    return float(entropies(sequence).sum())


def max_entropy(sequence: SequenceLogprobs) -> float:
    """The largest token entropy (bits), as in *Entropy-Guided Loop* (arXiv 2509.00079).

    Raises:
        SignalError: the sequence has no tokens.
    """
    return float(entropies(sequence).max())


def quantile_entropy(sequence: SequenceLogprobs, q: float) -> float:
    """The ``q`` quantile of the token entropies (bits), interpolated linearly between two tokens.

    Args:
        sequence: The draft.
        q: From 0, the smallest, to 1, the largest.

    Raises:
        SignalError: the sequence has no tokens.
        ValueError: ``q`` lies outside 0 to 1.
    """
    if not 0.0 <= q <= 1.0:
        raise ValueError(f"q must lie between 0 and 1, not {q}")
    values = entropies(sequence)
    # numpy.quantile takes ten times as long over a few hundred numbers.
    place = q * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    ordered = np.partition(values, (below, above))
    return float(ordered[below] + (place - below) * (ordered[above] - ordered[below]))


def p90_entropy(sequence: SequenceLogprobs) -> float:
    """The entropy that nine tokens of ten do not exceed (bits).

    Raises:
        SignalError: the sequence has no tokens.
    """
    return quantile_entropy(sequence, 0.9)


def uncertain_tokens(sequence: SequenceLogprobs, level: float = 1.0) -> float:
    """How many tokens have an entropy above ``level`` bits (tokens); 1 bit is a toss between two.

    Raises:
        SignalError: the sequence has no tokens.
    """
    return float(np.count_nonzero(entropies(sequence) > level))


def uncertain_share(sequence: SequenceLogprobs, level: float = 1.0) -> float:
    """The share of tokens, 0 to 1, with an entropy above ``level`` bits.

    Raises:
        SignalError: the sequence has no tokens.
    """
    return uncertain_tokens(sequence, level) / len(sequence)


def length(sequence: SequenceLogprobs) -> float:
    """How long the draft is (tokens): models write more where they are lost.

    Raises:
        SignalError: the sequence has no tokens.
    """
    require_tokens(sequence)
    return float(len(sequence))


#: Length of a sliding window (tokens).
WINDOW = 16


def window_entropy(sequence: SequenceLogprobs, window: int = WINDOW) -> float:
    """Mean entropy of the worst ``window`` consecutive tokens (bits); of all where there are fewer.

    Not always above the mean entropy: the first and last tokens lie in fewer windows than the rest.

    Raises:
        SignalError: the sequence has no tokens.
        ValueError: ``window`` is below 1.
    """
    return float(window_means(entropies(sequence), window).max())


def tail_entropy(sequence: SequenceLogprobs) -> float:
    """Mean entropy of the last tenth of the tokens (bits), but of no fewer than a window of them.

    Raises:
        SignalError: the sequence has no tokens.
    """
    return float(tail(entropies(sequence)).mean())


def window_means(values: FloatArray, window: int) -> FloatArray:
    """Means over all runs of ``window`` neighbours; over everything where there are fewer.

    Args:
        values: (T,), T at least 1.
        window: Length of a run.

    Returns:
        (max(1, T - window + 1),), in the unit of the values.

    Raises:
        ValueError: ``window`` is below 1.
    """
    if window < 1:
        raise ValueError(f"a window must hold at least 1 token, not {window}")
    window = min(window, len(values))
    sums = np.cumsum(values)
    sums[window:] -= sums[:-window].copy()
    return np.asarray(sums[window - 1 :] / window)


def tail(values: FloatArray) -> FloatArray:
    """The last tenth of the values, rounded up, but no fewer than ``WINDOW``; all where there are no more."""
    return values[-max(WINDOW, -(-len(values) // 10)) :]
