"""Where in a sequence it is uncertain: sliding windows and the tail of any number per position.

After *Deep Think with Confidence* (Fu et al. 2025, arXiv 2508.15260), whose windows of 2,048 tokens are longer
than most drafts: here a window is ``WINDOW`` tokens, about a line.
"""

from __future__ import annotations

import numpy as np

from .._arrays import FloatArray
from ..logprobs import SequenceLogprobs
from .positions import entropies

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
