"""Sample size: how much a calibration varies with the records it happens to get, by their number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import floor, sqrt
from typing import NamedTuple

import numpy as np
from scipy import stats

from ..calibration.calibration import calibrate_observations
from ..calibration.key import ProfileKey
from ..calibration.profile import CalibrationProfile, Verdict
from ..calibration.settings import CalibrationSettings
from ..errors import CalibrationError
from ..records.columns import Observations
from ..records.record import CalibrationRecord
from ..signals import AUTO
from .replay import Progress, accepted_by, values_of
from .result import Outcomes

SIZES = (5, 10, 20, 50, 100, 200, 500, 1000)

# Choosing among many signals is slow: from this size on this share of the draws is made.
_SLOW_TO_CHOOSE, _SHARE_OF_DRAWS = 100, 0.2
# More held-out records make the computation slower and the spread hardly better.
_MOST_HELD_OUT = 20_000


@dataclass(frozen=True)
class Middle:
    """A figure over many draws: its median, and the bounds between which nine in ten draws lie."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class MethodAtSize:
    """One method's thresholds on draws of one size; all figures but the first two are over the records not drawn.

    Without a threshold, or with an unusable profile, every draft goes deeper, as in a gate.

    Attributes:
        found: Share of the draws with a threshold.
        threshold: In the signal's unit, over the draws with one; None where no draw has one, or where the draws chose
            different signals.
        accepted: Share of drafts accepted.
        risk: Share of wrong drafts among accepted ones, over the draws that accepted any; None where none did.
        accuracy_gain: Accuracy minus that of always going deeper; None without deeper outcomes.
        saved: Share of the tokens of always going deeper that were not spent; None where they were not recorded.
    """

    found: float
    threshold: Middle | None
    accepted: Middle
    risk: Middle | None
    accuracy_gain: Middle | None
    saved: Middle | None


@dataclass(frozen=True)
class AtSize:
    """Calibrations on draws of one size.

    Attributes:
        records: Number of records in each draw.
        draws: Number of draws.
        held_out: Number of other records that each calibration was tried on.
        one_class: Share of the draws in which all drafts were right, or all wrong.
        auroc: AUROC over the draws with both classes; None where there is no such draw.
        verdicts: Share of the draws by verdict.
        signals: Share of the draws by the profile's signal.
        methods: Thresholds and figures by threshold method.
    """

    records: int
    draws: int
    held_out: int
    one_class: float
    auroc: Middle | None
    verdicts: Mapping[Verdict, float]
    signals: Mapping[str, float]
    methods: Mapping[str, MethodAtSize]


class Labels(NamedTuple):
    """The number of labelled records that would show the separation.

    Attributes:
        needed: In all.
        more: In addition to those there are; 0 where there are enough.
    """

    needed: int
    more: int


@dataclass(frozen=True)
class LearningCurve:
    """Calibrations on few of the records, and on more and more of them.

    Attributes:
        profile: The profile of all records, without intervals, to compare the draws with.
        records: Number of records.
        sizes: Calibrations of each size below that.
        labels: Number of records that would show the separation of all records; None where they do not separate.
    """

    profile: CalibrationProfile
    records: int
    sizes: tuple[AtSize, ...]
    labels: Labels | None


def learning_curve(
    records: Iterable[CalibrationRecord] | Observations,
    *,
    key: ProfileKey,
    settings: CalibrationSettings | None = None,
    sizes: Sequence[int] = SIZES,
    repeats: int = 100,
    deeper_includes_draft: bool = False,
    progress: Progress | None = None,
) -> LearningCurve:
    """Calibrate on many random draws of few records, and try each on the records that it left out.

    Args:
        records: Labelled drafts, or their columns, as calibration takes them.
        key: The key of the profiles; with the signal ``"auto"`` every draw chooses its own signal.
        settings: Settings of the calibrations; ``resamples`` is not used.
        sizes: Numbers of records to draw; those not below the number of records are left out.
        repeats: Draws of each size; a fifth of that where a signal is chosen from 100 records or more.
        deeper_includes_draft: As for :func:`~tje_middleware.evaluation.replay`.
        progress: Called after each draw.

    Raises:
        CalibrationError: records that cannot be calibrated, a size below 1, or no repeats.
    """
    settings = (settings or CalibrationSettings()).model_copy(update={"resamples": 0})
    observations = Observations.of(records, key.signal, key.top_k)
    if repeats < 1 or min(sizes, default=1) < 1:
        raise CalibrationError(f"sizes and repeats must be at least 1: not {tuple(sizes)} and {repeats}")
    n, rng = len(observations), np.random.default_rng(settings.seed)
    profile = calibrate_observations(observations, key=key, settings=settings)
    plan = [(size, _draws(key, size, repeats)) for size in sorted(set(sizes)) if size < n]
    total, done, found = sum(draws for _, draws in plan), 0, []
    for size, draws in plan:
        seen = []
        for _ in range(draws):
            places = rng.permutation(n)
            drawn, rest = places[:size], places[size : size + _MOST_HELD_OUT]
            made = calibrate_observations(observations.take(drawn), key=key, settings=settings)
            seen.append(_drawn(made, observations.take(rest), deeper_includes_draft=deeper_includes_draft))
            done += 1
            if progress is not None:
                progress(done, total)
        found.append(_at_size(size, min(n - size, _MOST_HELD_OUT), seen))
    return LearningCurve(profile, n, tuple(found), _labels(profile))


def labels_for_verdict(auroc: float, share_correct: float, have: int) -> Labels | None:
    """The number of records that would show that a signal with this AUROC separates.

    Newcombe's interval (:func:`~tje_middleware.calibration.separation.auroc_interval`) lies above 0.5 where
    12 (auroc - 0.5)^2 n_c n_i > z^2 (n + 1), for classes of n_c = share_correct n and n_i = n - n_c records.

    Args:
        auroc: The area under the ROC curve.
        share_correct: Share of right drafts.
        have: The number of records there are.

    Returns:
        The numbers; None where the area is not above 0.5, or one class does not occur: no number would show it.
    """
    if auroc <= 0.5 or not 0 < share_correct < 1:
        return None
    quadratic = 12 * (auroc - 0.5) ** 2 * share_correct * (1 - share_correct)
    linear = float(stats.norm.ppf(0.975)) ** 2
    shown = floor((linear + sqrt(linear * (linear + 4 * quadratic))) / (2 * quadratic)) + 1
    both = floor(1 / min(share_correct, 1 - share_correct))
    needed = max(shown, both)
    return Labels(needed, max(needed - have, 0))


def _draws(key: ProfileKey, size: int, repeats: int) -> int:
    if key.signal != AUTO or size < _SLOW_TO_CHOOSE:
        return repeats
    return max(round(repeats * _SHARE_OF_DRAWS), 1)


def _labels(profile: CalibrationProfile) -> Labels | None:
    area = profile.auroc if profile.auroc_out_of_fold is None else profile.auroc_out_of_fold
    records = profile.n_correct + profile.n_incorrect
    return None if area is None else labels_for_verdict(area, profile.n_correct / records, records)


class _Realised(NamedTuple):
    """Figures of one method's threshold on the records that were not drawn; None where not defined."""

    threshold: float | None
    accepted: float
    risk: float | None
    accuracy_gain: float | None
    saved: float | None


class _Draw(NamedTuple):
    """The profile of one draw, and figures by method."""

    profile: CalibrationProfile
    methods: Mapping[str, _Realised]


def _drawn(profile: CalibrationProfile, rest: Observations, *, deeper_includes_draft: bool) -> _Draw:
    values, outcomes = values_of(profile, rest), Outcomes.of(rest, deeper_includes_draft=deeper_includes_draft)
    gain, tokens, methods = outcomes.gain, outcomes.tokens, {}
    for method, threshold in profile.thresholds.items():
        accepted = accepted_by(profile, method, values)
        methods[method] = _Realised(
            threshold=threshold.value,
            accepted=int(accepted.sum()) / len(values),
            risk=float((~outcomes.correct[accepted]).mean()) if accepted.any() else None,
            accuracy_gain=None if gain is None else float((accepted * gain).mean()),
            saved=None if tokens is None else float(1 - tokens.spent(accepted).sum() / tokens.always.sum()),
        )
    return _Draw(profile, methods)


def _at_size(size: int, held_out: int, draws: Sequence[_Draw]) -> AtSize:
    profiles = [draw.profile for draw in draws]
    signals = Counter(profile.signal for profile in profiles)
    return AtSize(
        records=size,
        draws=len(draws),
        held_out=held_out,
        one_class=sum(not profile.n_correct or not profile.n_incorrect for profile in profiles) / len(draws),
        auroc=_middle(profile.auroc for profile in profiles),
        verdicts={
            verdict: sum(profile.verdict == verdict for profile in profiles) / len(draws)
            for verdict in ("usable", "weak", "unusable")
        },
        signals={name: count / len(draws) for name, count in signals.most_common()},
        methods={
            method: _method_at_size([draw.methods[method] for draw in draws], one_unit=len(signals) == 1)
            for method in profiles[0].thresholds
        },
    )


def _method_at_size(draws: Sequence[_Realised], *, one_unit: bool) -> MethodAtSize:
    accepted = _middle(draw.accepted for draw in draws)
    if accepted is None:
        raise AssertionError("every draw accepts some share of drafts, be it none")
    return MethodAtSize(
        found=sum(draw.threshold is not None for draw in draws) / len(draws),
        threshold=_middle(draw.threshold for draw in draws) if one_unit else None,
        accepted=accepted,
        risk=_middle(draw.risk for draw in draws),
        accuracy_gain=_middle(draw.accuracy_gain for draw in draws),
        saved=_middle(draw.saved for draw in draws),
    )


def _middle(values: Iterable[float | None]) -> Middle | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    low, median, high = np.percentile(known, (5, 50, 95))
    return Middle(float(median), float(low), float(high))
