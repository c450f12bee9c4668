"""The curves that are drawn, as short arrays: pure functions, whatever the number of records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...logprobs.arrays import BoolArray, FloatArray

#: The most points of a curve that is drawn.
MOST_POINTS = 500
_FEWEST_BINS, _MOST_BINS = 8, 40
# Values farther out than this many times the middle 98 % go into the last bin.
_FAR_OUT = 1.0
_Z = 1.959963984540054


class Histogram(NamedTuple):
    """How often each class falls into each of B bins.

    Attributes:
        edges: (B + 1,) in the signal's unit.
        right: (B,) counts of right drafts.
        wrong: (B,) counts of wrong drafts.
        beyond: How many values lie outside the edges; they are counted in the outermost bins.
    """

    edges: FloatArray
    right: NDArray[np.int64]
    wrong: NDArray[np.int64]
    beyond: int


class RiskCoverage(NamedTuple):
    """Errors among accepted drafts, most confident first.

    Attributes:
        accepted: (P,) share of drafts accepted.
        wrong: (P,) share of wrong ones among them.
        low: (P,) lower end of Wilson's 95 % interval, each point for itself.
        high: (P,) upper end.
    """

    accepted: FloatArray
    wrong: FloatArray
    low: FloatArray
    high: FloatArray


class Roc(NamedTuple):
    """Both shares for every threshold: (P,) of wrong drafts accepted, and (P,) of right ones."""

    wrong_accepted: FloatArray
    right_accepted: FloatArray


def histogram(values: FloatArray, correct: BoolArray) -> Histogram:
    """Counts by class over common bins, outliers in the outermost."""
    low, high = float(values.min()), float(values.max())
    near_low, near_high = (float(end) for end in np.percentile(values, (1, 99)))
    reach = _FAR_OUT * (near_high - near_low)
    if reach > 0:
        low, high = max(low, near_low - reach), min(high, near_high + reach)
    inside = np.clip(values, low, high)
    suggested = len(np.histogram_bin_edges(inside, "sqrt")) - 1 if high > low else 1
    bins = int(np.clip(suggested, _FEWEST_BINS, _MOST_BINS)) if high > low else 1
    thin = 0.02 * max(abs(low), 1e-9)
    edges = np.histogram_bin_edges(inside, bins) if high > low else np.array([low - thin, low + thin])
    right, wrong = (np.histogram(inside[mask], edges)[0].astype(np.int64) for mask in (correct, ~correct))
    return Histogram(edges, right, wrong, int(((values < low) | (values > high)).sum()))


def risk_coverage(values: FloatArray, correct: BoolArray) -> RiskCoverage:
    """For every number of drafts that a threshold can accept."""
    order = np.argsort(values, kind="stable")
    ends = np.flatnonzero(np.diff(values[order], append=np.inf) > 0) + 1
    ends = ends[thinned(len(ends))]
    events = np.cumsum(~correct[order], dtype=np.int64)[ends - 1]
    low, high = _wilson(events, ends)
    return RiskCoverage(ends / len(values), events / ends, low, high)


def roc(values: FloatArray, correct: BoolArray) -> Roc | None:
    """None without both classes."""
    if correct.all() or not correct.any():
        return None
    order = np.argsort(values, kind="stable")
    ends = np.flatnonzero(np.diff(values[order], append=np.inf) > 0) + 1
    right = np.cumsum(correct[order])[ends - 1]
    kept = thinned(len(ends))
    wrong = (ends - right)[kept] / int((~correct).sum())
    return Roc(np.concatenate([[0.0], wrong]), np.concatenate([[0.0], right[kept] / int(correct.sum())]))


def thinned(n: int, most: int = MOST_POINTS - 1) -> NDArray[np.int64]:
    """At most ``most`` places out of n, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def short(values: FloatArray | Sequence[float]) -> list[float]:
    """Six significant digits: what nobody can see is not stored.

    Raises:
        ValueError: a value is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError("a value to draw is not finite")
    return [float(f"{value:.6g}") for value in array.tolist()]


def _wilson(events: NDArray[np.int64], trials: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    rate, z2 = events / trials, _Z**2
    middle = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z / (1 + z2 / trials) * np.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials**2))
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)
