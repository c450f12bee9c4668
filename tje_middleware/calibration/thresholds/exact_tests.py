"""Fixed-sequence testing over how many of the most confident drafts to accept (Learn-then-Test).

Learn then Test (Angelopoulos et al., arXiv 2110.01052) tests "accepting up to here breaks the promise" for one
candidate threshold after another in an order fixed beforehand, each at the level that is left, and keeps the last
candidate whose hypothesis is rejected. Here the candidates are ranks: accept the m most confident drafts. They are
fixed by the number of records alone, and so is their order, from the fewest to the most.

A rank's threshold depends on the data, and still the promise is exact. Assume that the risk among the drafts up to a
value crosses its limit once, as it does for a signal that is worth gating by. Condition on the number of drafts up to
the crossing, and on the value behind the first tested rank beyond it. Then the drafts up to the crossing are wrong
with exactly the limit's probability, and the drafts between with a larger one on average. So that rank's p-value is
valid, for any step between ranks and any first rank. "Up to" counts the drafts strictly below the next value, so that
equal ones stay together. Where the risk crosses its limit more often, or drafts of one value differ from their
neighbours, the error is of second order.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, log, log1p
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...logprobs.arrays import FloatArray, IntArray
from .paper import require_finite

# Ranks grow by this factor: fine enough to lose no more than 2 % of the accepted drafts.
_STEP = 1.02
# With many records the tests have further starts, as a first candidate of few drafts depends on one or two labels.
_NEXT_START, _FIRST_SHARE = 5, 0.5


class Plan(NamedTuple):
    """The ranks to test and their levels, fixed before any label is seen.

    Attributes:
        ranks: (R,) ascending numbers of drafts to accept.
        levels: (R,) the part of delta that is added at each rank; levels of rejected hypotheses are carried on to it.
    """

    ranks: IntArray
    levels: FloatArray

    def levels_at(self, counts: IntArray) -> FloatArray:
        """(R,) the levels where ``counts`` (R,) drafts are accepted at each rank, ascending and at most the rank.

        Equal drafts can keep a count below its rank. The level of a start is then added at the first rank whose
        count reaches the start: with fewer drafts no labels could pass, and the level would be lost.
        """
        reached = np.searchsorted(counts, self.ranks)
        return np.bincount(reached, weights=self.levels, minlength=len(self.ranks)).astype(np.float64)


class Ladder(NamedTuple):
    """The records sorted by signal.

    Attributes:
        signal: (n,) ascending.
        order: (n,) the place of each record before sorting.
    """

    signal: FloatArray
    order: IntArray

    @classmethod
    def of(cls, signal: FloatArray) -> Ladder:
        """Sort a signal; the sort is stable.

        Raises:
            CalibrationError: a value is NaN or infinite.
        """
        require_finite(signal)
        order = np.argsort(signal, kind="stable")
        return cls(signal[order], order)

    def accepted(self, ranks: IntArray) -> IntArray:
        """(R,) how many drafts lie strictly below the draft after each rank: equal ones are accepted together."""
        n = len(self.signal)
        following = self.signal[np.minimum(ranks, n - 1)]
        return np.asarray(np.where(ranks < n, np.searchsorted(self.signal, following, side="left"), n))

    def cumulated(self, values: NDArray[np.bool_]) -> IntArray:
        """(n + 1,) how many of the first m drafts have ``values`` (n,) true."""
        return np.concatenate([[0], np.cumsum(values[self.order])]).astype(np.int64)


def plan(n: int, first: Callable[[float], int], *, delta: float) -> Plan | None:
    """Ranks to test among n records; None where n is too few for any rank to pass.

    Args:
        n: Number of records.
        first: The fewest drafts that can pass at a level.
        delta: The level in all. With at least five times as many records as the first rank, half of it is for that
            rank and the rest for five, twenty-five ... times that rank; levels of starts that were reached add up
            (the fallback procedure, Wiens 2003).
    """
    if first(delta) > n:
        return None
    starts = 1 + int(log(n / first(delta), _NEXT_START) + 1e-9)
    shares = [_FIRST_SHARE] + [(1 - _FIRST_SHARE) / (starts - 1)] * (starts - 1) if starts > 1 else [1.0]
    lowest = min(first(delta * shares[0]), n)
    ranks = ranks_from(lowest, n)
    levels = np.zeros(len(ranks))
    for place, share in enumerate(shares):
        start = min(lowest * _NEXT_START**place, n)
        levels[np.searchsorted(ranks, start)] += delta * share
    return Plan(ranks, levels)


def last_rejected(p_values: FloatArray, levels: FloatArray) -> int | None:
    """Index of the last hypothesis that the fallback procedure rejects; None where it rejects none.

    The level of a rejected hypothesis is passed on to the next one; the level of any other is lost.
    """
    available, last = 0.0, None
    for index, (p_value, level) in enumerate(zip(p_values.tolist(), levels.tolist(), strict=True)):
        available += level
        # Without any level left nothing is rejected, not even where a p-value is too small for a float.
        if 0 < available >= p_value:
            last = index
        else:
            available = 0.0
    return last


def ranks_from(first: int, last: int) -> IntArray:
    """Ranks from the first to the last, both included, each at most 2 % beyond the one before."""
    ranks = [first]
    while ranks[-1] < last:
        ranks.append(min(last, max(ranks[-1] + 1, int(ranks[-1] * _STEP))))
    return np.array(ranks, dtype=np.int64)


# The beta distribution has no parameter 0.
_TINY = 1e-12
# The share of delta that the limit on gains gets; the limit on losses matters far more often.
_FOR_GAINS = 0.1


def binomial_p(events: ArrayLike, trials: ArrayLike, rate: float) -> FloatArray:
    """P-value of "events happen at least at this rate": P(Binomial(trials, rate) <= events), exact.

    Args:
        events: How often it happened, any shape.
        trials: Out of how many, same shape; 0 trials give 1.
        rate: The rate to reject, in (0, 1).
    """
    from scipy import special  # noqa: PLC0415 (not in every process that has a gate)

    events, trials = np.asarray(events, dtype=np.float64), np.asarray(trials, dtype=np.int64)
    return np.asarray(special.bdtr(events, trials, rate))


def binomial_upper(events: ArrayLike, trials: ArrayLike, *, delta: float) -> FloatArray:
    """Upper confidence limit of a rate, with probability 1 - delta (Clopper & Pearson 1934, one-sided).

    Args:
        events: How often it happened, any shape; need not be whole, for an extrapolation.
        trials: Out of how many, same shape.
        delta: In (0, 1).
    """
    from scipy import special  # noqa: PLC0415 (not in every process that has a gate)

    events, trials = np.asarray(events, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    below = np.maximum(trials - events, _TINY)
    return np.asarray(np.where(events >= trials, 1.0, special.betaincinv(events + 1, below, 1 - delta)))


def binomial_lower(events: ArrayLike, trials: ArrayLike, *, delta: float) -> FloatArray:
    """Lower confidence limit of a rate, with probability 1 - delta; arguments as for :func:`binomial_upper`."""
    events, trials = np.asarray(events, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    return np.asarray(1 - binomial_upper(trials - events, trials, delta=delta))


def mean_loss_upper(losses: ArrayLike, gains: ArrayLike, trials: ArrayLike, *, delta: float) -> FloatArray:
    """Upper confidence limit of the mean of values in {1, 0, -1}, with probability 1 - delta.

    It is the upper limit of the rate of 1 minus the lower limit of the rate of -1, both exact, with delta shared nine
    to one between them. Where most values are 0 this is far tighter than Hoeffding-Bentkus, and for most records also
    than betting (Waudby-Smith & Ramdas, JRSS-B 86:1-27, 2024), which has to hedge over several bets.

    Args:
        losses: How often 1 came, any shape; need not be whole.
        gains: How often -1 came.
        trials: Out of how many.
        delta: In (0, 1).
    """
    upper = binomial_upper(losses, trials, delta=(1 - _FOR_GAINS) * delta)
    return np.asarray(upper - binomial_lower(gains, trials, delta=_FOR_GAINS * delta))


def fewest_trials(rate: float, *, delta: float) -> int:
    """How many trials without any event show that a rate is exceeded with probability at most delta."""
    return ceil(round(log(delta) / log1p(-rate), 9))
