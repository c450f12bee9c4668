"""The newest drafts beside the reference: how large a change is, not how certain."""

from __future__ import annotations

from collections import deque
from math import floor, lgamma, log

import numpy as np

from ..reference import ReferenceDistribution, rounded
from .bins import Bins

# What each bin is taken to have seen beforehand, so that an empty one is no infinite change.
_SMOOTHING = 0.5


class Window:
    """The newest values with their bins; memory for those alone."""

    def __init__(self, bins: Bins, size: int, *, censored_above: float | None = None) -> None:
        self._bins = bins
        self._newest: deque[tuple[float, int]] = deque(maxlen=size)
        self._counts = [0] * len(bins)
        self._ceiling = None if censored_above is None else rounded(censored_above)

    def __len__(self) -> int:
        return len(self._newest)

    def see(self, kept: float, place: int) -> None:
        """Take the next value, rounded as the reference's are, and its bin."""
        if len(self._newest) == self._newest.maxlen:
            self._counts[self._newest[0][1]] -= 1
        self._newest.append((kept, place))
        self._counts[place] += 1

    def share_up_to(self, threshold: float) -> float:
        """The share of the values that a threshold accepts; NaN of no values."""
        limit = rounded(threshold)
        return float(np.mean([kept <= limit for kept, _ in self._newest])) if self._newest else float("nan")

    def psi(self) -> float:
        """Population stability index over the bins: sum of (p - q) ln(p / q), less what chance alone gives.

        For B bins, n records and m values of one distribution the sum is about (B - 1) (1/n + 1/m).
        """
        m, n = len(self), self._bins.reference.n
        if not m:
            return 0.0
        extra = _SMOOTHING * len(self._bins)
        total = 0.0
        for count, gaps in zip(self._counts, self._bins.gaps, strict=True):
            live, expected = (count + _SMOOTHING) / (m + extra), gaps / (n + 1)
            total += (live - expected) * log(live / expected)
        return max(0.0, total - (len(self._bins) - 1) * (1 / n + 1 / m))

    def ks(self) -> tuple[float, float]:
        """Kolmogorov's and Smirnov's distance (0 to 1) to the reference, and its p-value for this window alone.

        The distance is taken at the values that the reference keeps: all there is, but for the finest of more than
        512 distinct ones. Of censored drafts it is not looked above the threshold.
        """
        if not self._newest:
            return 0.0, 1.0
        reference: ReferenceDistribution = self._bins.reference
        live = np.sort([kept for kept, _ in self._newest])
        values = np.array([rounded(value) for value in reference.values])
        ranks = np.array(reference.ranks)
        above = np.abs(ranks / reference.n - np.searchsorted(live, values, side="right") / len(live))
        below = np.abs(
            (ranks - reference.tied) / reference.n - np.searchsorted(live, values, side="left") / len(live)
        )
        if self._ceiling is not None:
            # Up to the threshold, and there: what is above it has no place of its own.
            there = abs(reference.share_up_to(self._ceiling) - self.share_up_to(self._ceiling))
            above, below = np.append(above[values <= self._ceiling], there), below[values <= self._ceiling]
        distance = float(np.concatenate([above, below, [0.0]]).max())
        size = reference.n * len(live) / (reference.n + len(live))
        return distance, _p_value(distance, max(1, round(size)))


def _p_value(distance: float, n: int) -> float:
    """P(D >= distance) for Kolmogorov's two-sided D of n values, by twice the one-sided probability.

    P(D+ >= d) = d sum_j C(n, j) (d + j/n)^(j-1) (1 - d - j/n)^(n-j), j = 0 ... floor(n (1-d)) (Birnbaum & Tingey,
    1951). Twice that is never too small, exact from d = 1/2 on, and all but exact where it is small (Miller, 1956).
    scipy has it too, and takes long to import while a draft's answer waits.
    """
    if distance <= 0:
        return 1.0
    if distance >= 1:
        return 0.0
    j = np.arange(floor(n * (1 - distance)) + 1)
    choices = lgamma(n + 1) - np.array([lgamma(k + 1) + lgamma(n - k + 1) for k in j.tolist()])
    rest = np.maximum(1 - distance - j / n, np.finfo(np.float64).tiny)
    terms = choices + (j - 1) * np.log(distance + j / n) + (n - j) * np.log(rest)
    return min(1.0, 2 * distance * float(np.exp(terms).sum()))
