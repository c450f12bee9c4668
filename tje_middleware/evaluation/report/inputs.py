"""The inputs of a report, and the curves that it draws: short arrays for any number of records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...calibration.profile import CalibrationProfile
from ...calibration.thresholds.methods import METHODS
from ...errors import CalibrationError
from ...gate.decision import Route
from ...logprobs.arrays import BoolArray, FloatArray
from ...records.columns import Observations
from .. import Evaluation, PolicyFigures
from ..refinability import RefinabilityBin, refinability
from ..replay import values_of
from ..sample_size import LearningCurve
from .heatmap import DraftText

#: The largest number of points of a curve.
MOST_POINTS = 500
_FEWEST_BINS, _MOST_BINS = 8, 40
# Values outside the middle 98 % by more than this many times its width go into the outermost bins.
_FAR_OUT = 1.0
_Z = 1.959963984540054


@dataclass(frozen=True)
class ReportInputs:
    """The inputs of a report.

    Attributes:
        evaluation: The replay, with the profile.
        observations: The records behind it, with the profile's signal among their signals.
        learning: Calibrations on fewer records; None: not computed.
        drafts: Drafts with their texts.
    """

    evaluation: Evaluation
    observations: Observations
    learning: LearningCurve | None
    drafts: Sequence[DraftText]

    @classmethod
    def gather(
        cls,
        evaluation: Evaluation,
        observations: Observations,
        learning: LearningCurve | None,
        drafts: Sequence[DraftText],
    ) -> ReportInputs:
        """Make the inputs; a learned signal is computed here.

        Raises:
            CalibrationError: there are no records, or they lack the profile's signal.
        """
        if not len(observations):
            raise CalibrationError("there are no records to report on")
        profile = evaluation.profile
        observations = observations.with_signal(profile.signal, values_of(profile, observations))
        return cls(evaluation, observations, learning, drafts)

    @property
    def profile(self) -> CalibrationProfile:
        """The profile."""
        return self.evaluation.profile

    @property
    def values(self) -> FloatArray:
        """(n,) the profile's signal, in its unit."""
        return self.observations.signals[self.profile.signal]

    @property
    def usable(self) -> bool:
        """Whether a gate would use this profile."""
        return self.profile.verdict != "unusable"

    @property
    def methods(self) -> list[str]:
        """The methods that were replayed, in the profile's order."""
        return [name for name in self.profile.thresholds if name in self.evaluation.policies]

    @property
    def method(self) -> str | None:
        """The method in the headline; None with an unusable profile, or without a threshold that was replayed."""
        if not self.usable:
            return None
        found = [name for name in self.methods if self.profile.thresholds[name].value is not None]
        # A method of another release, which is unknown here, comes last.
        return max(found, key=lambda name: METHODS[name].precedence if name in METHODS else -1, default=None)

    @property
    def promising(self) -> list[str]:
        """The profile's methods that come with a guarantee."""
        promising = [method for method in METHODS.values() if method.promises]
        return [method.name for method in promising if method.name in self.profile.thresholds]

    @property
    def limits(self) -> dict[str, float | None]:
        """The promised share of wrong drafts among accepted ones, by method; None: not recorded."""
        settings, found = self.profile.settings, {}
        for name, method in METHODS.items():
            if method.risk_limit is not None and name in self.profile.thresholds:
                found[name] = None if settings is None else method.risk_limit(settings)
        return found

    @property
    def gives_up(self) -> bool:
        """Whether the profile has a value from which on drafts are given up."""
        own = any(threshold.abstain_from is not None for threshold in self.profile.thresholds.values())
        return own or (self.profile.abstain is not None and self.profile.abstain.value is not None)

    @cached_property
    def bars(self) -> Histogram:
        """Histogram of the signal, by class."""
        return histogram(self.values, self.observations.correct)

    @cached_property
    def risk_coverage(self) -> RiskCoverage:
        """Share of wrong drafts among accepted ones, by the share accepted."""
        return risk_coverage(self.values, self.observations.correct)

    @cached_property
    def roc(self) -> Roc | None:
        """The ROC curve; None without both classes."""
        return roc(self.values, self.observations.correct) if self.profile.auroc is not None else None

    @cached_property
    def bins(self) -> Sequence[RefinabilityBin]:
        """Bins of about equally many drafts."""
        return refinability(self.observations, self.profile.signal)

    def figures(self, policy: str | None) -> PolicyFigures | None:
        """Figures of a policy; None where it was not replayed."""
        return None if policy is None else self.evaluation.policies.get(policy)

    def route(self, draft: DraftText) -> Route:
        """The route of a draft in a gate with the headline's method and ``abstain=True``."""
        if self.method is None or draft.signal is None:
            return Route.DEEPER
        threshold = self.profile.thresholds[self.method]
        if threshold.value is not None and draft.signal <= threshold.value:
            return Route.FINAL
        given_up = self.profile.hopeless_from(self.method)
        return Route.ABSTAIN if given_up is not None and draft.signal >= given_up else Route.DEEPER


class Histogram(NamedTuple):
    """Counts of each class in B bins.

    Attributes:
        edges: (B + 1,) in the signal's unit.
        right: (B,) counts of right drafts.
        wrong: (B,) counts of wrong drafts.
        beyond: Number of values outside the edges, which are counted in the outermost bins.
    """

    edges: FloatArray
    right: NDArray[np.int64]
    wrong: NDArray[np.int64]
    beyond: int


class RiskCoverage(NamedTuple):
    """Errors among accepted drafts, most confident first.

    Attributes:
        accepted: (P,) share of drafts accepted.
        wrong: (P,) share of wrong drafts among them.
        low: (P,) lower end of Wilson's 95 % interval of each point alone.
        high: (P,) upper end.
    """

    accepted: FloatArray
    wrong: FloatArray
    low: FloatArray
    high: FloatArray


class Roc(NamedTuple):
    """ROC curve: for every threshold (P,) share of wrong drafts accepted, and (P,) share of right drafts accepted."""

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
    """The curve over all numbers of drafts that a threshold can accept."""
    order, ends = _acceptable(values)
    ends = ends[thinned(len(ends))]
    events = np.cumsum(~correct[order], dtype=np.int64)[ends - 1]
    low, high = _wilson(events, ends)
    return RiskCoverage(ends / len(values), events / ends, low, high)


def roc(values: FloatArray, correct: BoolArray) -> Roc | None:
    """The ROC curve; None without both classes."""
    if correct.all() or not correct.any():
        return None
    order, ends = _acceptable(values)
    right = np.cumsum(correct[order])[ends - 1]
    kept = thinned(len(ends))
    wrong = (ends - right)[kept] / int((~correct).sum())
    return Roc(np.concatenate([[0.0], wrong]), np.concatenate([[0.0], right[kept] / int(correct.sum())]))


def _acceptable(values: FloatArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The order of the values, and the numbers of drafts that a threshold can accept: equal values go together."""
    order = np.argsort(values, kind="stable")
    return order, np.flatnonzero(np.diff(values[order], append=np.inf) > 0) + 1


def thinned(n: int, most: int = MOST_POINTS - 1) -> NDArray[np.int64]:
    """At most ``most`` places out of n, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))


def short(values: FloatArray | Sequence[float]) -> list[float]:
    """The values rounded to six significant digits, which are enough for drawing.

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
