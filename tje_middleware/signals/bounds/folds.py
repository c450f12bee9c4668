"""Sums, maxima, windows and quantiles of numbers as they come: what they will at least be over all that come."""

from __future__ import annotations

import heapq
import sys
from collections import deque
from typing import Protocol

from ..entropies import WINDOW

#: More than the way in which the rest of a sequence changes the rounding of one position's number: the padding, the
#: order of a sum over alternatives, the shift that improbable ones need. Measured, it is below 1e-13.
NOISE = 1e-10
_EPSILON = sys.float_info.epsilon


class Fold(Protocol):
    """One number out of those of the settled tokens."""

    def add(self, value: float | None) -> None:
        """Take the next one; None for a token that may stand between its neighbours or not."""
        ...

    def value(self) -> float | None:
        """The bound; None where nothing was taken yet."""
        ...


class Count:
    """Whole numbers: their sum, or its share of the most tokens that come. Exact."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit or 1
        self._total = 0.0

    def add(self, value: float | None) -> None:
        """As :class:`Fold` says."""
        self._total += value or 0.0

    def value(self) -> float:
        """As :class:`Fold` says."""
        return self._total / self._limit


class Sum:
    """Numbers that are at least 0: their sum, or their mean over the most tokens that come."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit or 1
        self._total = 0.0
        self._terms = 0

    def add(self, value: float | None) -> None:
        """As :class:`Fold` says."""
        self._total += value or 0.0
        self._terms += 1

    def value(self) -> float:
        """As :class:`Fold` says."""
        rounding = (self._terms + 64) * _EPSILON  # of adding one by one here, and pairwise there
        return self._total * (1.0 - rounding) / self._limit - NOISE


class Largest:
    """The largest of them."""

    def __init__(self) -> None:
        self._largest: float | None = None

    def add(self, value: float | None) -> None:
        """As :class:`Fold` says."""
        if value is not None and (self._largest is None or value > self._largest):
            self._largest = value

    def value(self) -> float | None:
        """As :class:`Fold` says."""
        return self._largest


class WindowMean:
    """The largest mean over ``WINDOW`` neighbours.

    A run that is shorter so far will be part of a whole window, whose other tokens add at least 0, or the sequence
    ends before it fills one and the mean is over even fewer: either way its sum over ``WINDOW`` is a bound. Numbers
    below 0 allow no such thing, so there only ``whole`` windows count.
    """

    def __init__(self, *, whole: bool = False) -> None:
        self._run: deque[float] = deque(maxlen=WINDOW)
        self._least = WINDOW if whole else 1
        self._seen = 0
        self._largest: float | None = None

    def add(self, value: float | None) -> None:
        """As :class:`Fold` says."""
        self._seen += 1
        if value is None:
            self._run.clear()
            return
        self._run.append(value)
        if len(self._run) < self._least:
            return
        # The whole is summed up from its beginning, and a window is the difference of two such sums; no number of a
        # position is above 64 (entropies are below log2 K, confidences below 37).
        rounding = 8.0 * _EPSILON * self._seen**2
        bound = sum(self._run) / WINDOW - rounding - NOISE
        if self._largest is None or bound > self._largest:
            self._largest = bound

    def value(self) -> float | None:
        """As :class:`Fold` says."""
        return self._largest


class Quantile:
    """The ``q`` quantile, interpolated: as if all tokens still to come, up to the limit, were certain."""

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
        # Of a heap, the second smallest is one of the first three.
        smallest = heapq.nsmallest(2, self._top[:3])
        lower, upper = (0.0, smallest[0]) if lacking else (smallest[0], smallest[-1])
        return lower + self._share * (upper - lower) - NOISE
