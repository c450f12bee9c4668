"""What going deeper is worth, by how uncertain the draft was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationError
from ..logprobs.arrays import FloatArray
from ..records.columns import Observations
from .estimates import Estimate, paired_difference, share

# Fewer drafts in a bin say nothing about it.
_FEWEST_IN_A_BIN = 10


@dataclass(frozen=True)
class RefinabilityBin:
    """Neighbouring drafts in order of the signal, and what became of them. All intervals are 95 %.

    Attributes:
        low: The smallest of their signal's values, in its unit.
        middle: The median, same unit.
        high: The largest, same unit.
        n: How many drafts.
        accuracy: Share of right drafts, with Wilson's interval.
        deeper: Share that the deeper branch answered rightly, likewise; None without deeper outcomes.
        gain: Accuracy of going deeper minus that of the draft, paired, with Tango's interval; None likewise.
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
    """Where each bin ends, so that no value is in two and none is smaller than it should be."""
    n = len(ascending)
    count = max(min(bins, n // _FEWEST_IN_A_BIN), 1)
    wanted = np.round(np.arange(1, count) * n / count).astype(np.int64)
    # To the end of a run of equal values.
    ends = np.unique(np.searchsorted(ascending, ascending[wanted - 1], side="right"))
    kept: list[int] = []
    for end in ends.tolist():
        if end - (kept[-1] if kept else 0) >= _FEWEST_IN_A_BIN <= n - end:
            kept.append(end)
    return [*kept, n]


def _bin(observations: Observations, values: FloatArray, places: NDArray[np.int64]) -> RefinabilityBin:
    correct, mine, n = observations.correct[places], values[places], len(places)
    found = RefinabilityBin(
        low=float(mine.min()),
        middle=float(np.median(mine)),
        high=float(mine.max()),
        n=n,
        accuracy=share(int(correct.sum()), n),
    )
    if observations.deeper_correct is None:
        return found
    deeper = observations.deeper_correct[places]
    return RefinabilityBin(
        found.low,
        found.middle,
        found.high,
        n,
        found.accuracy,
        deeper=share(int(deeper.sum()), n),
        gain=paired_difference(deeper, correct),
    )
