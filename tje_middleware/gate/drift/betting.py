"""A bet against "the live drafts are distributed as the records": its wealth is the evidence.

Each draft's bin is bet on at odds that are fair if nothing has changed (``bins``), by probabilities that are fixed
before the bin is seen. Then the wealth is a test martingale, and by Ville's inequality (1939) the probability that it
ever reaches 1 / alpha is at most alpha, however long one looks and whenever one stops. (Vovk, Nouretdinov &
Gammerman, Testing exchangeability on-line, 2003: conformal test martingales.)

Who bets is a mixture of experts, as none knows what a change will look like: one that stays out; some that take
what they have seen, all of it or lately, for what will come; and some that expect the whole distribution to have
shifted or widened by a given amount, who need not learn and so are the quickest where one of them is right. A small
share of the wealth moves on at every step (fixed share; Herbster & Warmuth, 1998), so that a change after
thousands of uneventful drafts is found too; it falls as 1/t, so that staying out costs little for long.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf, log
from statistics import NormalDist

import numpy as np

from ...logprobs.arrays import FloatArray

_STAYS_OUT = 0.5
# Standard deviations by which the distribution is expected to have moved, in normal scores of the reference.
_SHIFTS = (-1.5, -0.75, -0.4, 0.4, 0.75, 1.5)
# Of exp(_ * (score^2 - 1)): narrower, wider.
_SCALES = (-0.6, 0.3)
_HALF_LIVES = (50.0, 200.0)
# What the learning experts take every bin to have seen in the beginning, per bin on average.
_PRIOR_COUNT = 0.5
# Wealth moves on at 1 / (t + this).
_UNHURRIED = 50.0
_RESCALED_AT = 1e100


class Bets:
    """The wealth of a mixture of experts after t bins; O(experts) a bin, and no memory of the bins.

    Attributes:
        observations: Bins seen (t).
        log_wealth: Natural logarithm of the wealth now; it began as 0.
        highest: The highest that it ever was.
    """

    def __init__(self, gaps: Sequence[int]) -> None:
        self.observations = 0
        self.log_wealth = 0.0
        self.highest = 0.0
        self._urn = [float(gap) for gap in gaps]
        self._urn_total = float(sum(gaps))
        tilts = np.exp(_exponents(np.asarray(gaps, dtype=np.float64)))
        # Bin by bin what each tilt makes of its probability, and what that is normalised by.
        self._tilts: list[list[float]] = tilts.T.tolist()
        self._tilted: list[float] = (tilts @ np.asarray(gaps, dtype=np.float64)).tolist()
        scale = _PRIOR_COUNT * len(gaps) / self._urn_total
        self._learning = [_Learned([gap * scale for gap in gaps], half_life) for half_life in (inf, *_HALF_LIVES)]
        betting = len(self._learning) + len(tilts)
        self._prior = [_STAYS_OUT, *[(1 - _STAYS_OUT) / betting] * betting]
        self._shares = list(self._prior)

    def see(self, place: int) -> None:
        """Settle the bets on the next bin, and make those on the one after it."""
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
        # Instead of every count falling, what is added grows.
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
    """(experts, bins) logarithms of what each expert multiplies a bin's probability with."""
    shares = gaps / gaps.sum()
    middles = np.cumsum(shares) - shares / 2
    scores = np.array([NormalDist().inv_cdf(middle) for middle in middles.tolist()])
    shifted = np.outer(_SHIFTS, scores)
    scaled = np.outer(_SCALES, scores**2 - 1)
    return np.concatenate([shifted, scaled])
