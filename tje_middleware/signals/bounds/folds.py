"""Folds: running sums, maxima, window means and quantiles that are lower bounds of their final values."""

from __future__ import annotations

import heapq
import sys
from collections import deque
from typing import Protocol

from ..entropies import WINDOW

#: Subtracted from bounds. The tokens that follow can change the rounding of one position's number (by padding, by the
#: order of a sum over alternatives, by the shift that improbable ones need); measured, by less than 1e-13.
NOISE = 1e-10
_EPSILON = sys.float_info.epsilon


class Fold(Protocol):
    """Folds the numbers of the settled tokens into one lower bound."""

    def add(self, value: float | None) -> None:
        """Add the next token's number; None for a token that may or may not be measured."""

    def value(self) -> float | None:
        """The bound; None before any number was added."""


class Count:
    """The sum of whole numbers, or its share of the limit of tokens; exact."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit or 1
        self._total = 0.0

    def add(self, value: float | None) -> None:
        """As :class:`Fold` says."""
        self._total += value or 0.0

    def value(self) -> float:
        """As :class:`Fold` says."""
        return self._total / self._limit


class Sum(Count):
    """The sum of numbers that are at least 0, or their mean over the limit of tokens."""

    def __init__(self, limit: int | None) -> None:
        super().__init__(limit)
        self._terms = 0

    def add(self, value: float | None) -> None:
        """As :class:`Fold` says."""
        super().add(value)
        self._terms += 1

    def value(self) -> float:
        """As :class:`Fold` says."""
        # numpy adds the numbers of a whole sequence pairwise, so its sum may differ from this one in the last digits.
        rounding = (self._terms + 64) * _EPSILON
        return self._total * (1.0 - rounding) / self._limit - NOISE


class Largest:
    """The largest number."""

    def __init__(self) -> None:
        self._largest: float | None = None

    def add(self, value: float | None) -> None:
        """As :class:`Fold` says."""
        if value is not None and (self._largest is None or value > self._largest):
            self._largest = value

    def value(self) -> float | None:
        """As :class:`Fold` says."""
        return self._largest


class WindowMean(Largest):
    """The largest mean over ``WINDOW`` neighbours.

    The sum of a run that is still shorter than a window, divided by ``WINDOW``, is a bound as well: either the run
    becomes part of a whole window, whose other tokens add at least 0, or the sequence ends first and the mean is over
    fewer tokens. That does not hold for numbers below 0; for those only ``whole`` windows count.
    """

    def __init__(self, *, whole: bool = False) -> None:
        super().__init__()
        self._run: deque[float] = deque(maxlen=WINDOW)
        self._least = WINDOW if whole else 1
        self._seen = 0

    def add(self, value: float | None) -> None:
        """As :class:`Fold` says."""
        self._seen += 1
        if value is None:
            self._run.clear()
            return
        self._run.append(value)
        if len(self._run) < self._least:
            return
        # The signal computes a window as the difference of two sums from the beginning on. No number of a position is
        # above 64: entropies are below log2 K, confidences below 37.
        rounding = 8.0 * _EPSILON * self._seen**2
        super().add(sum(self._run) / WINDOW - rounding - NOISE)


class Quantile:
    """The ``q`` quantile, interpolated, if all tokens that are still to come, up to the limit, had the number 0."""

    def __init__(self, q: float, limit: int) -> None:
        place = q * (limit - 1)
        self._share = place - int(place)
        self._needed = limit - int(place)
        self._top: list[float] = []  # a heap of the largest, as many as can matter

    def add(self, value: float | None) -> None:
        """As :class:`Fold` says."""
        heapq.heappush(self._top, value or 0.0)
        if len(self._top) > self._needed:
            heapq.heappop(self._top)

    def value(self) -> float:
        """As :class:`Fold` says."""
        lacking = self._needed - len(self._top)
        if lacking > 1 or not self._top:
            return 0.0
        # The second smallest number of a heap is among its first three.
        smallest = heapq.nsmallest(2, self._top[:3])
        lower, upper = (0.0, smallest[0]) if lacking else (smallest[0], smallest[-1])
        return lower + self._share * (upper - lower) - NOISE
