"""Bins that live drafts fall into, and a bet against "the live drafts are distributed as the records".

The wealth of that bet is the evidence for a change.

**Bins.** n points of a continuous distribution leave n + 1 gaps, and the next point of the same distribution is as
likely to fall into each of them; it then splits its gap in two. So the gaps that live drafts fall into are drawn from
a Polya urn (Blackwell & MacQueen, 1973): after t of them, a bin of m gaps that c have fallen into takes the next one
with probability (m + c) / (n + 1 + t), exactly, whatever the distribution and without knowing it.

Ties (signals that count) would break that. Each point therefore carries a hidden uniform number that orders it among
its equals: the pairs are continuous again and nothing is lost. Those of the reference's points come from a generator
that the reference itself seeds, so that all processes have the same bins.

**Bets.** Each draft's bin is bet on at odds that are fair if nothing has changed as above, by probabilities that are
fixed before the bin is seen. Then the wealth is a test martingale, and by Ville's inequality (1939) the probability
that it ever reaches 1 / alpha is at most alpha, however long one looks and whenever one stops. (Vovk, Nouretdinov &
Gammerman, Testing exchangeability on-line, 2003: conformal test martingales.)

The bets are those of a mixture of experts, as it is unknown what a change will look like. One expert does not bet;
some learn the probabilities from all bins so far, or from the recent ones; some expect the whole distribution to have
shifted or widened by a given amount, and are the quickest where that is right, as they need not learn. At every step
a small share of the wealth is divided anew among the experts (fixed share; Herbster & Warmuth, 1998), so that a
change after thousands of drafts without one is found as well; the share falls as 1/t, so that it costs little over
time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import exp, inf, log
from statistics import NormalDist
from zlib import crc32

import numpy as np

from ...calibration.reference import ReferenceDistribution, rounded
from ...logprobs.arrays import FloatArray

#: More bins find finer changes, and take longer to find coarse ones.
MOST_BINS = 12
# A bin has at least this many gaps; with fewer, its probability depends too much on the records.
_LEAST_GAPS = 2

_Edge = tuple[float, float]

_STAYS_OUT = 0.5
# Standard deviations by which the distribution is expected to have moved, in normal scores of the reference.
_SHIFTS = (-1.5, -0.75, -0.4, 0.4, 0.75, 1.5)
# Of exp(_ * (score^2 - 1)): narrower, wider.
_SCALES = (-0.6, 0.3)
_HALF_LIVES = (50.0, 200.0)
# The learning experts begin with this many drafts a bin, on average.
_PRIOR_COUNT = 0.5
# The share of the wealth that is divided anew at step t is 1 / (t + this).
_UNHURRIED = 50.0
_RESCALED_AT = 1e100


class Bins:
    """Up to twelve bins with about as many gaps each.

    Attributes:
        gaps: The number of the reference's gaps in each bin; they add up to n + 1.
        reference: The reference that the bins were made from.
    """

    def __init__(self, reference: ReferenceDistribution, *, censored_above: float | None = None) -> None:
        """Make the bins.

        Args:
            reference: The distribution that live drafts are compared with.
            censored_above: The threshold, where a signal above it may only be known to be above it; the bins that
                reach above it are then joined into one.
        """
        self.reference = reference
        self._rng = np.random.default_rng(crc32(reference.model_dump_json().encode()))
        ranks = _spread_ranks(reference)
        edges = _edges(reference, ranks, self._rng)
        if censored_above is not None:
            below = bisect_left(edges, (rounded(censored_above), -1.0))
            if not below:
                place = bisect_left(reference.values, rounded(censored_above), key=rounded)
                ranks = [reference.ranks[place - 1]] if place else []
                edges, below = _edges(reference, ranks, self._rng), len(ranks)
            ranks, edges = ranks[:below], edges[:below]
        self._edges = edges
        self._edge_values = frozenset(value for value, _ in edges)
        self.gaps = tuple(b - a for a, b in pairwise((0, *ranks, reference.n + 1)))

    def __len__(self) -> int:
        return len(self.gaps)

    def place(self, kept: float) -> int:
        """The bin of a live value that was rounded like those of the reference."""
        hidden = self._rng.random() if kept in self._edge_values else 0.0
        return bisect_right(self._edges, (kept, hidden))


def _spread_ranks(reference: ReferenceDistribution) -> list[int]:
    """Ranks that divide the gaps evenly, each the rank of a value that the reference keeps."""
    parts = min(MOST_BINS, max(2, (reference.n + 1) // _LEAST_GAPS))
    wanted = [round(part * (reference.n + 1) / parts) for part in range(1, parts)]
    return sorted({_kept_rank(reference, min(max(rank, 1), reference.n)) for rank in wanted})


def _kept_rank(reference: ReferenceDistribution, rank: int) -> int:
    """The rank itself where the reference keeps its value, else the nearest rank whose value it keeps."""
    place = bisect_left(reference.ranks, rank)
    first = reference.ranks[place] - reference.tied[place] + 1
    if rank >= first:
        return rank
    before = reference.ranks[place - 1]
    return before if rank - before <= first - rank else first


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


class Bets:
    """The wealth of a mixture of experts after t bins; O(experts) a bin, and no memory of the bins.

    Attributes:
        observations: Bins seen (t).
        log_wealth: Natural logarithm of the wealth now; it began as 0.
        highest: The highest ``log_wealth`` so far.
    """

    def __init__(self, gaps: Sequence[int]) -> None:
        self.observations = 0
        self.log_wealth = 0.0
        self.highest = 0.0
        self._urn = [float(gap) for gap in gaps]
        self._urn_total = float(sum(gaps))
        tilts = np.exp(_exponents(np.asarray(gaps, dtype=np.float64)))
        # For each bin the factor by which each tilt multiplies its probability; and the sums that normalise them.
        self._tilts: list[list[float]] = tilts.T.tolist()
        self._tilted: list[float] = (tilts @ np.asarray(gaps, dtype=np.float64)).tolist()
        scale = _PRIOR_COUNT * len(gaps) / self._urn_total
        self._learning = [_Learned([gap * scale for gap in gaps], half_life) for half_life in (inf, *_HALF_LIVES)]
        betting = len(self._learning) + len(tilts)
        self._prior = [_STAYS_OUT, *[(1 - _STAYS_OUT) / betting] * betting]
        self._shares = list(self._prior)

    def see(self, place: int) -> None:
        """Settle the bets on the next bin, and bet on the one after it."""
        odds = self._urn_total / self._urn[place]
        tilts = self._tilts[place]
        gains = [1.0]
        gains += [learned.probability(place) * odds for learned in self._learning]
        gains += [tilt * self._urn_total / total for tilt, total in zip(tilts, self._tilted, strict=True)]
        after = [share * gain for share, gain in zip(self._shares, gains, strict=True)]
        wealth = sum(after)
        self.log_wealth += log(wealth)
        self.highest = max(self.highest, self.log_wealth)
        self.observations += 1
        moving = 1 / (self.observations + _UNHURRIED)
        staying = (1 - moving) / wealth
        self._shares = [share * staying + moving * prior for share, prior in zip(after, self._prior, strict=True)]
        self._urn[place] += 1
        self._urn_total += 1
        self._tilted = [total + tilt for total, tilt in zip(self._tilted, tilts, strict=True)]
        for learned in self._learning:
            learned.see(place)


class _Learned:
    """Probabilities from the bins seen so far, older ones counting less (Krichevsky & Trofimov, 1981)."""

    def __init__(self, prior: list[float], half_life: float) -> None:
        self._prior = prior
        self._prior_total = sum(prior)
        self._counts = [0.0] * len(prior)
        self._total = 0.0
        # Instead of shrinking every count, the number that is added grows.
        self._growth = exp(log(2) / half_life)
        self._unit = 1.0

    def probability(self, place: int) -> float:
        total = self._total + self._prior_total * self._unit
        return (self._counts[place] + self._prior[place] * self._unit) / total

    def see(self, place: int) -> None:
        self._unit *= self._growth
        self._counts[place] += self._unit
        self._total += self._unit
        if self._unit > _RESCALED_AT:
            self._counts = [count / self._unit for count in self._counts]
            self._total /= self._unit
            self._unit = 1.0


def _exponents(gaps: FloatArray) -> FloatArray:
    """(experts, bins) logarithms of the factors by which each expert multiplies the bins' probabilities."""
    shares = gaps / gaps.sum()
    middles = np.cumsum(shares) - shares / 2
    scores = np.array([NormalDist().inv_cdf(middle) for middle in middles.tolist()])
    shifted = np.outer(_SHIFTS, scores)
    scaled = np.outer(_SCALES, scores**2 - 1)
    return np.concatenate([shifted, scaled])
