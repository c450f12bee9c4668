"""Refinability: the gain of going deeper as a function of the signal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationError
from ..logprobs.arrays import FloatArray
from ..records.columns import Observations
from .estimates import Estimate, paired_difference, share

# A bin holds at least this many drafts.
_FEWEST_IN_A_BIN = 10


@dataclass(frozen=True)
class RefinabilityBin:
    """Neighbouring drafts in the order of the signal, with their outcomes. All intervals are 95 %.

    Attributes:
        low: Smallest value of the signal, in its unit.
        middle: Median, same unit.
        high: Largest value, same unit.
        n: Number of drafts.
        accuracy: Share of right drafts, with Wilson's interval.
        deeper: Share of right deeper answers, with Wilson's interval; None without deeper outcomes.
        gain: Accuracy of going deeper minus that of the draft, paired, with Tango's interval; None without deeper
            outcomes.
    """

    low: float
    middle: float
    high: float
    n: int
    accuracy: Estimate
    deeper: Estimate | None = None
    gain: Estimate | None = None


def refinability(observations: Observations, signal: str, bins: int = 8) -> tuple[RefinabilityBin, ...]:
    """The accuracy of drafts, and the gain of going deeper, as a function of the signal.

    Bins hold about equally many drafts, at least ten; equal values stay together, so there can be fewer bins than
    asked for.

    Args:
        observations: The records.
        signal: Name of one of their signals.
        bins: The most bins to make.

    Returns:
        The bins, most confident drafts first.

    Raises:
        CalibrationError: the records have no such signal, or there are none.
        ValueError: ``bins`` is less than 1.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, not {bins}")
    if signal not in observations.signals:
        raise CalibrationError(f"the records have no {signal!r}, only {', '.join(observations.signals) or 'none'}")
    if not len(observations):
        raise CalibrationError("there are no records to put into bins")
    values = observations.signals[signal]
    order = np.argsort(values, kind="stable")
    ends = _ends(values[order], bins)
    return tuple(
        _bin(observations, values, order[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)
    )


def _ends(ascending: FloatArray, bins: int) -> list[int]:
    """The ends of the bins, such that equal values are in one bin and each bin has enough drafts."""
    n = len(ascending)
    count = max(min(bins, n // _FEWEST_IN_A_BIN), 1)
    wanted = np.round(np.arange(1, count) * n / count).astype(np.int64)
    # Each end is moved behind the last of equal values.
    ends = np.unique(np.searchsorted(ascending, ascending[wanted - 1], side="right"))
    kept: list[int] = []
    for end in ends.tolist():
        if end - (kept[-1] if kept else 0) >= _FEWEST_IN_A_BIN <= n - end:
            kept.append(end)
    return [*kept, n]


def _bin(observations: Observations, values: FloatArray, places: NDArray[np.int64]) -> RefinabilityBin:
    correct, mine, n = observations.correct[places], values[places], len(places)
    deeper = None if observations.deeper_correct is None else observations.deeper_correct[places]
    return RefinabilityBin(
        low=float(mine.min()),
        middle=float(np.median(mine)),
        high=float(mine.max()),
        n=n,
        accuracy=share(int(correct.sum()), n),
        deeper=None if deeper is None else share(int(deeper.sum()), n),
        gain=None if deeper is None else paired_difference(deeper, correct),
    )
