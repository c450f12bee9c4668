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
from itertools import pairwise
from zlib import crc32

import numpy as np

from ..reference import ReferenceDistribution, rounded

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
