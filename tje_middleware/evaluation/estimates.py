"""Figures with their confidence intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % confidence interval."""

    value: float
    low: float
    high: float


def share(successes: int, trials: int) -> Estimate:
    """A proportion with Wilson's 95 % interval (score method; Wilson 1927)."""
    interval = stats.binomtest(successes, trials).proportion_ci(method="wilson")
    return Estimate(successes / trials, float(interval.low), float(interval.high))


def paired_difference(mine: NDArray[np.bool_], reference: NDArray[np.bool_]) -> Estimate:
    """Difference of two shares over the same questions, with Tango's 95 % score interval.

    Tango (Statistics in Medicine 17:891-908, 1998): all D with |b - c - n D| <= z sqrt(n (2 q + D (1 - D))), where
    b and c count the questions on which only one of the two is right, and q is the probability of the second kind
    under D. Unlike a bootstrap it stays honest where the two never differ.

    Args:
        mine: (n,) whether one policy was right.
        reference: (n,) whether the other was, for the same questions.
    """
    n, b, c = len(mine), int((mine & ~reference).sum()), int((reference & ~mine).sum())
    z = float(stats.norm.ppf(0.975))
    value = (b - c) / n

    def excess(d: float) -> float:
        linear = (2 * n - b + c) * d - b - c
        q = (sqrt(max(linear**2 + 8 * n * c * d * (1 - d), 0)) - linear) / (4 * n)
        return abs(b - c - n * d) - z * sqrt(max(n * (2 * q + d * (1 - d)), 0))

    low = -1.0 if value <= -1 or excess(-1.0) <= 0 else optimize.brentq(excess, -1.0, value - _STEP)
    high = 1.0 if value >= 1 or excess(1.0) <= 0 else optimize.brentq(excess, value + _STEP, 1.0)
    return Estimate(value, float(low), float(high))


# The equation also has a root at the difference itself, so the ends are looked for from this far beside it.
_STEP = 1e-9

#: Computes a figure from the means of columns, each a number or an array over resamples.
Statistic = Callable[..., NDArray[np.float64]]

# The number of resamples; for many records it is limited by memory, one byte for each record and resample.
_MOST_RESAMPLES, _LEAST_RESAMPLES, _MOST_DRAWN = 9_999, 400, 40_000_000
_AT_ONCE = 1_000_000


class Resamples:
    """Bootstrap resamples of n records, drawn once, so that all figures of a table use the same ones.

    A record brings the outcomes of all policies into a resample together, so that the difference between two policies
    does not depend on how hard or long the questions are.

    Attributes:
        counts: (R, n) how often each record is in each resample.

    Args:
        records: n.
        seed: Seed of the drawing.
        resamples: R; by default 9,999, for more than 4,000 records fewer, but at least 400.
    """

    def __init__(self, records: int, *, seed: int = 0, resamples: int | None = None) -> None:
        rng = np.random.default_rng(seed)
        size = resamples or max(min(_MOST_RESAMPLES, _MOST_DRAWN // records), _LEAST_RESAMPLES)
        self.counts = np.empty((size, records), dtype=np.uint8)
        for part in self.batches():
            drawn = rng.integers(0, records, part.shape) + records * np.arange(len(part))[:, None]
            part[:] = np.bincount(drawn.ravel(), minlength=part.size).reshape(part.shape)

    def batches(self) -> Iterator[NDArray[np.uint8]]:
        """The rows of ``counts`` in batches that fit into memory as floats."""
        step = max(_AT_ONCE // self.counts.shape[1], 1)
        for first in range(0, len(self.counts), step):
            yield self.counts[first : first + step]

    def interval(self, statistic: Statistic, *columns: NDArray[np.float64]) -> Estimate:
        """A statistic of the columns' means, with its 95 % percentile interval (Efron & Tibshirani 1993, 13.3).

        Args:
            statistic: Takes one mean per column, elementwise; resamples for which it is not finite are left out.
            columns: (n,) each, paired by record.
        """
        stacked = np.stack(columns, axis=1)
        value = float(statistic(*stacked.mean(axis=0)))
        parts = [part.astype(np.float64) @ stacked for part in self.batches()]
        with np.errstate(divide="ignore", invalid="ignore"):
            found = statistic(*(np.concatenate(parts).T / len(stacked)))
        return around(value, found)


def around(value: float, resampled: NDArray[np.float64]) -> Estimate:
    """A figure with the 95 % percentile interval of its values over resamples, as far as they are finite."""
    finite = resampled[np.isfinite(resampled)]
    if not len(finite):
        return Estimate(value, value, value)
    low, high = np.percentile(finite, (2.5, 97.5))
    return Estimate(value, float(low), float(high))


def share_saved(spent: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the reference's tokens that were not spent; negative where more were."""
    return np.asarray(1 - spent / reference)
