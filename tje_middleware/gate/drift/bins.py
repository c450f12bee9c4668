"""Bins between order statistics of the reference: where live drafts fall, and how likely that was.

n points of a continuous distribution leave n + 1 gaps, and the next point of the same distribution is as likely
to fall into each of them; it then splits its gap in two. So the gaps that live drafts fall into are drawn from a
Polya urn (Blackwell & MacQueen, 1973): after t of them, a bin of m gaps that c have fallen into takes the next one
with probability (m + c) / (n + 1 + t), exactly, whatever the distribution and without knowing it.

Ties (signals that count) would break that. Each point therefore carries a hidden uniform number that orders it among
its equals: the pairs are continuous again and nothing is lost. Those of the reference's points come from a
generator that the reference itself seeds, so that all processes have the same bins.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from itertools import pairwise
from math import floor, lgamma, log
from zlib import crc32

import numpy as np

from ...calibration.reference import ReferenceDistribution, rounded

#: More bins see finer changes and take longer to see coarse ones.
MOST_BINS = 12
# Bins of fewer gaps than this say more about the records than about the live drafts.
_LEAST_GAPS = 2

_Edge = tuple[float, float]


class Bins:
    """Up to twelve bins with about as many gaps each.

    Attributes:
        gaps: Of each bin, the gaps of the reference in it; they add up to n + 1.
        reference: What it was made of.
    """

    def __init__(self, reference: ReferenceDistribution, *, censored_above: float | None = None) -> None:
        """Make the bins.

        Args:
            reference: What live drafts are compared with.
            censored_above: Where of drafts with a higher signal no more may be known than that; all bins that reach
                above it are one then.
        """
        self.reference = reference
        self._rng = np.random.default_rng(crc32(reference.model_dump_json().encode()))
        ranks = _spread_ranks(reference)
        edges = _edges(reference, ranks, self._rng)
        if censored_above is not None:
            below = bisect_left(edges, (rounded(censored_above), -1.0))
            if not below:
                ranks = _last_rank_below(reference, censored_above)
                edges, below = _edges(reference, ranks, self._rng), len(ranks)
            ranks, edges = ranks[:below], edges[:below]
        self._edges = edges
        self._edge_values = frozenset(value for value, _ in edges)
        self.gaps = tuple(b - a for a, b in pairwise((0, *ranks, reference.n + 1)))

    def __len__(self) -> int:
        return len(self.gaps)

    def place(self, kept: float) -> int:
        """The bin of a live value that was rounded as the reference's are."""
        hidden = self._rng.random() if kept in self._edge_values else 0.0
        return bisect_right(self._edges, (kept, hidden))


def _spread_ranks(reference: ReferenceDistribution) -> list[int]:
    """Ranks of the order statistics that part the gaps evenly, each the rank of a value that is kept."""
    parts = min(MOST_BINS, max(2, (reference.n + 1) // _LEAST_GAPS))
    wanted = [round(part * (reference.n + 1) / parts) for part in range(1, parts)]
    return sorted({_kept_rank(reference, min(max(rank, 1), reference.n)) for rank in wanted})


def _kept_rank(reference: ReferenceDistribution, rank: int) -> int:
    """The rank itself where its value is kept, else the nearest whose is."""
    place = bisect_left(reference.ranks, rank)
    first = reference.ranks[place] - reference.tied[place] + 1
    if rank >= first:
        return rank
    before = reference.ranks[place - 1]
    return before if rank - before <= first - rank else first


def _last_rank_below(reference: ReferenceDistribution, threshold: float) -> list[int]:
    place = bisect_left(reference.values, rounded(threshold), key=rounded)
    return [reference.ranks[place - 1]] if place else []


def _edges(reference: ReferenceDistribution, ranks: list[int], rng: np.random.Generator) -> list[_Edge]:
    """The order statistics of these ranks, with their hidden numbers."""
    edges: list[_Edge] = []
    last, hidden, taken = -1, 0.0, 0
    for rank in ranks:
        place = bisect_left(reference.ranks, rank)
        if place != last:
            last, hidden, taken = place, 0.0, 0
        tied = reference.tied[place]
        within = rank - (reference.ranks[place] - tied)
        # The next order statistic of uniform numbers, given the one before it.
        hidden += (1 - hidden) * float(rng.beta(within - taken, tied - within + 1))
        taken = within
        edges.append((rounded(reference.values[place]), hidden))
    return edges


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
