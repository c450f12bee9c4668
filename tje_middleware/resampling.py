"""How far a threshold would move with other records: bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import NoThreshold
from .settings import CalibrationSettings
from .thresholds.every import Drafts, Method

# Beyond this many records resamples of fewer are drawn, and their spread is scaled (m out of n bootstrap).
_MOST_RECORDS = 20_000


class Spread(NamedTuple):
    """What became of a threshold over the resamples.

    Attributes:
        interval: 95 % percentile interval of its value; None where it was hardly ever found.
        found: Share of the resamples in which it was.
    """

    interval: tuple[float, float] | None
    found: float


def spreads(
    drafts: Drafts, methods: Mapping[str, Method], values: Mapping[str, float], settings: CalibrationSettings
) -> dict[str, Spread]:
    """The spread of each method's threshold over bootstrap resamples of the records.

    Percentile bootstrap (Efron & Tibshirani 1993, section 13.3), records drawn with replacement; for more than 20,000
    records m out of n (Bickel et al. 1997), deviations from the median scaled by sqrt(m/n) around the value.

    Args:
        drafts: The records.
        methods: The methods.
        values: Of those that found a threshold in the records, its value.
        settings: The methods' settings, the seed, and how many resamples.
    """
    rng, n = np.random.default_rng(settings.seed), len(drafts.signal)
    drafts = _take(drafts, np.argsort(drafts.signal, kind="stable"))
    size = min(n, _MOST_RECORDS)
    found: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(settings.resamples):
        # In order, so that what sorts by the signal finds it sorted.
        drawn = _take(drafts, np.sort(rng.integers(0, n, size)))
        for name, method in methods.items():
            with suppress(NoThreshold):
                found[name].append(method(drawn, settings).value)
    scale = sqrt(size / n)
    return {
        name: Spread(_interval(np.array(thresholds), values.get(name), scale), len(thresholds) / settings.resamples)
        for name, thresholds in found.items()
    }


def _interval(thresholds: NDArray[np.float64], value: float | None, scale: float) -> tuple[float, float] | None:
    # A 2.5 % tail of fewer resamples than this is one or two numbers.
    if value is None or len(thresholds) < 40:
        return None
    low, middle, high = np.percentile(thresholds, (2.5, 50, 97.5))
    if scale < 1:
        low, high = value + scale * (low - middle), value + scale * (high - middle)
    return float(low), float(high)


def _take(drafts: Drafts, places: NDArray[np.int64]) -> Drafts:
    return replace(
        drafts,
        signal=drafts.signal[places],
        correct=drafts.correct[places],
        deeper_correct=None if drafts.deeper_correct is None else drafts.deeper_correct[places],
        deeper_tokens=None if drafts.deeper_tokens is None else drafts.deeper_tokens[places],
    )
