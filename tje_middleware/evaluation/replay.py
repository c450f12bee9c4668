"""Replay: the decisions of every policy about recorded drafts that its threshold was not made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from ..calibration.calibration import calibrate_observations
from ..calibration.key import ProfileKey
from ..calibration.profile import CalibrationProfile
from ..calibration.separation import stratified
from ..calibration.settings import CalibrationSettings
from ..errors import CalibrationError
from ..logprobs.arrays import BoolArray, FloatArray
from ..records.checks import refuse_repeated_ids
from ..records.columns import Observations
from ..records.record import CalibrationRecord
from .curve import savings_curve
from .estimates import Estimate, Resamples, paired_difference, share, share_saved
from .result import ALWAYS, NEVER, ORACLE, Evaluation, Outcomes, PolicyFigures

#: Called with how many folds are done, and how many there are.
Progress = Callable[[int, int], None]


def replay(
    observations: Iterable[CalibrationRecord] | Observations,
    *,
    key: ProfileKey,
    settings: CalibrationSettings | None = None,
    folds: int = 5,
    margin: float = 0.02,
    deeper_includes_draft: bool = False,
    test: Iterable[CalibrationRecord] | Observations | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Replay every policy over recorded drafts.

    Without ``test`` the records are split into folds, and each fold is decided by a profile that is calibrated on the
    others, with a signal chosen anew: this measures calibrations on records like these, not one profile. As in a
    gate, an unusable profile and a method without a threshold send every draft deeper.

    Args:
        observations: The records, or their columns with the key's signal, or with every candidate where that is
            ``"auto"``.
        key: The key of the profile.
        settings: Settings of the calibration; ``seed`` is also that of the folds and the bootstrap.
        folds: Number of folds; there are fewer where a class has fewer records.
        margin: Accuracy that "not inferior" may lose against always going deeper, as a share.
        deeper_includes_draft: Whether always going deeper writes the draft as well, as a refinement of it does. If
            not, always going deeper writes no draft, and a gate pays for each draft that it rejects.
        test: Separate records to decide, by one profile of all ``observations``.
        progress: Called after each fold.

    Raises:
        CalibrationError: records that cannot be calibrated or split, that lack a signal, or that are in both parts.
    """
    if not 0 <= margin < 1:
        raise CalibrationError(f"margin is how much accuracy may be lost, as a share of 1: not {margin}")
    settings = settings or CalibrationSettings()
    observations = Observations.of(observations, key.signal, key.top_k)
    test = None if test is None else Observations.of(test, key.signal, key.top_k)
    profile = calibrate_observations(observations, key=key, settings=settings)
    profiles: Iterable[CalibrationProfile] = [profile]
    if test is None:
        tested, masks = observations, _folds(observations, folds, settings.seed)
        # Without intervals of the thresholds, which are not needed and would take most of the time.
        quick = settings.model_copy(update={"resamples": 0})
        profiles = (calibrate_observations(observations.take(~here), key=key, settings=quick) for here in masks)
    else:
        _refuse_shared(observations, test)
        tested, masks = test, [np.ones(len(test), dtype=np.bool_)]
    replayed = _Replay(tested, list(profile.thresholds), len(masks))
    for done, (here, made) in enumerate(zip(masks, profiles, strict=True), start=1):
        replayed.decide(here, made)
        if progress is not None:
            progress(done, len(masks))
    outcomes = Outcomes.of(tested, deeper_includes_draft=deeper_includes_draft)
    curve = None
    if outcomes.deeper_correct is not None:
        curve = savings_curve(replayed.order, tested, deeper_includes_draft=deeper_includes_draft, seed=settings.seed)
    return Evaluation(
        profile=profile,
        records=len(tested),
        folds=len(masks) if test is None else None,
        margin=margin,
        policies=figures_of(replayed.accepted(), outcomes, margin=margin, seed=settings.seed),
        missing=replayed.missing(),
        signals=dict(replayed.signals),
        curve=curve,
        deeper_includes_draft=deeper_includes_draft,
    )


def values_of(profile: CalibrationProfile, observations: Observations) -> FloatArray:
    """(n,) the profile's signal over records.

    Raises:
        CalibrationError: a signal that it needs is not there.
    """
    for name in profile.needed_signals:
        if name not in observations.signals:
            reason = observations.skipped.get(name, f"there are {', '.join(observations.signals)}")
            raise CalibrationError(f"the records to decide have no {name!r}, which the profile needs: {reason}")
    if profile.learned is not None:
        return profile.learned.of_columns(observations.signals)
    return observations.signals[profile.signal]


def accepted_by(profile: CalibrationProfile, method: str, values: FloatArray) -> BoolArray:
    """(n,) what a gate with its default policies accepts, from the (n,) values of the profile's signal."""
    threshold = profile.thresholds[method].value
    if threshold is None or profile.verdict == "unusable":
        return np.zeros(len(values), dtype=np.bool_)
    return values <= threshold


class _Replay:
    """The decisions of the profiles of all folds.

    Attributes:
        order: (n,) normalised rank of each draft's signal within its fold; equal values have the same rank.
        signals: The number of folds by the profile's signal.
    """

    def __init__(self, observations: Observations, methods: Sequence[str], folds: int) -> None:
        self._observations = observations
        self._folds = folds
        self._accepted = {method: np.zeros(len(observations), dtype=np.bool_) for method in methods}
        # By method, why drafts went deeper in some folds without being judged.
        self._without: dict[str, list[str]] = {method: [] for method in methods}
        self._unusable: dict[str, list[str]] = {method: [] for method in methods}
        self.order = np.zeros(len(observations))
        self.signals: Counter[str] = Counter()

    def decide(self, here: BoolArray, profile: CalibrationProfile) -> None:
        """Decide the records of one fold, a mask (n,)."""
        values = values_of(profile, self._observations)[here]
        self.order[here] = (stats.rankdata(values) - 0.5) / len(values)
        self.signals[profile.signal] += 1
        for method, threshold in profile.thresholds.items():
            if threshold.value is None:
                self._without[method].append(threshold.reason or "no reason was given")
            elif profile.verdict == "unusable":
                self._unusable[method].append(profile.verdict_reason)
            self._accepted[method][here] = accepted_by(profile, method, values)

    def accepted(self) -> dict[str, BoolArray]:
        """The (n,) accepted drafts by method, for the methods that had a threshold in some fold."""
        return {name: mask for name, mask in self._accepted.items() if len(self._without[name]) < self._folds}

    def missing(self) -> dict[str, str]:
        """The reason by method, for the methods that in some fold had no threshold or no usable profile."""
        said: dict[str, list[str]] = {}
        for what, found in (("no threshold", self._without), ("an unusable profile", self._unusable)):
            for method, reasons in found.items():
                if reasons:
                    folds = f" in {len(reasons)} of {self._folds} folds" if self._folds > 1 else ""
                    said.setdefault(method, []).append(f"{what}{folds}: {reasons[0]}")
        return {method: "; ".join(said[method]) for method in self._accepted if method in said}


def _folds(observations: Observations, folds: int, seed: int) -> list[BoolArray]:
    if folds < 2:
        raise CalibrationError(
            f"folds must be at least 2, not {folds}: no record is decided by a profile that saw it"
        )
    masks = list(stratified(~observations.correct, np.random.default_rng(seed), folds=folds, repeats=1))
    if not masks:
        right = int(observations.correct.sum())
        raise CalibrationError(
            f"{right} right and {len(observations) - right} wrong drafts cannot be split into folds: each needs at "
            f"least two of a class; label more drafts, or test on records of their own (test=..., --test FILE)"
        )
    return masks


def _refuse_shared(observations: Observations, test: Observations) -> None:
    if not len(test):
        raise CalibrationError("there are no records to test")
    refuse_repeated_ids(test)
    known = {name for name in observations.ids if name is not None}
    for place, name in enumerate(test.ids):
        if name in known:
            raise CalibrationError(
                f"record {place} of the test part ({name!r}) is also in the calibration part: a threshold must be "
                f"tested on other records than it was made from"
            )


_EXACTLY_NONE = Estimate(0.0, 0.0, 0.0)


def figures_of(
    accepted: Mapping[str, BoolArray], outcomes: Outcomes, *, margin: float, seed: int
) -> dict[str, PolicyFigures]:
    """The figures of never and always going deeper, of the oracle, and of gates.

    Args:
        accepted: The (n,) accepted drafts of each gate, by its name.
        outcomes: The n records.
        margin: As for :func:`~tje_middleware.evaluation.replay`.
        seed: Of the bootstrap.
    """
    table = _Table(outcomes, margin, Resamples(len(outcomes.correct), seed=seed))
    everything = np.ones(len(outcomes.correct), dtype=np.bool_)
    figures = {NEVER: table.gated(everything)}
    if outcomes.deeper_correct is not None:
        figures[ALWAYS] = table.always(outcomes.deeper_correct)
        # Where both answers are right, or both wrong, the oracle accepts the draft, which costs less.
        figures[ORACLE] = table.gated(outcomes.correct | ~outcomes.deeper_correct)
    return figures | {name: table.gated(drafts) for name, drafts in accepted.items()}


class _Table:
    """Figures over the same records and the same resamples."""

    def __init__(self, outcomes: Outcomes, margin: float, resamples: Resamples) -> None:
        self._outcomes = outcomes
        self._margin = margin
        self._resamples = resamples

    def gated(self, accepted: BoolArray) -> PolicyFigures:
        """The figures of a policy that writes every draft, and goes deeper with those that it does not accept."""
        correct, deeper, tokens = self._outcomes.correct, self._outcomes.deeper_correct, self._outcomes.tokens
        n, count = len(accepted), int(accepted.sum())
        risk = share(int((accepted & ~correct).sum()), count) if count else None
        figures = PolicyFigures(accepted=share(count, n), risk=risk)
        if tokens is not None:
            spent = tokens.spent(accepted)
            saved = self._resamples.interval(share_saved, spent, tokens.always)
            figures = replace(figures, tokens=round(spent.sum()), saved=saved)
        if deeper is None:
            return figures
        right = np.where(accepted, correct, deeper)
        gain = paired_difference(right, deeper)
        return replace(
            figures,
            accuracy=share(int(right.sum()), n),
            accuracy_gain=gain,
            over_random=self._over_random(accepted),
            not_inferior=bool(gain.low >= -self._margin),
        )

    def always(self, deeper_correct: BoolArray) -> PolicyFigures:
        """The figures of the deeper branch alone, with which the others are compared."""
        tokens = self._outcomes.tokens
        return PolicyFigures(
            accepted=share(0, len(deeper_correct)),
            risk=None,
            accuracy=share(int(deeper_correct.sum()), len(deeper_correct)),
            accuracy_gain=_EXACTLY_NONE,
            tokens=None if tokens is None else round(tokens.always.sum()),
            saved=None if tokens is None else _EXACTLY_NONE,
            not_inferior=True,
        )

    def _over_random(self, accepted: BoolArray) -> Estimate | None:
        gain, mine = self._outcomes.gain, accepted.astype(np.float64)
        if gain is None or accepted.all() or not accepted.any():
            return None
        # At random each record is accepted with the share accepted, so that the difference in accuracy is a
        # covariance.
        return self._resamples.interval(lambda product, one, other: product - one * other, mine * gain, mine, gain)
