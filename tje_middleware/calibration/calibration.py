"""Calibrating a profile from records: how well a signal separates right from wrong, and each method's threshold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ..errors import CalibrationError, NoThreshold
from ..records.checks import oddities, refuse_repeated_ids
from ..records.columns import Observations
from ..records.record import CalibrationRecord
from ..signals import AUTO, LEARNED, SIGNALS
from .key import ProfileKey
from .profile import CalibrationProfile, Threshold
from .reference import fingerprint, reference_of
from .selection import Choice, choose
from .separation import auroc, auroc_interval, judge, mann_whitney_p
from .settings import CalibrationSettings, Prices
from .thresholds import Moments, cohens_d
from .thresholds.guaranteed import hopeless
from .thresholds.methods import METHODS
from .thresholds.rule import Drafts, Found, Rule

_ABSTAIN = "abstain"


def calibrate(
    records: Iterable[CalibrationRecord],
    *,
    key: ProfileKey,
    signal: str | None = None,
    candidates: Sequence[str] | None = None,
    alpha: float = 0.05,
    delta: float = 0.1,
    epsilon: float = 0.05,
    eta: float = 0.05,
    prices: Prices | None = None,
    seed: int = 0,
    resamples: int = 500,
) -> CalibrationProfile:
    """Find out whether a signal tells right from wrong drafts, and up to which value to accept drafts.

    Args:
        records: Labelled drafts, with the key's signal or with the logprobs to compute it from.
        key: What the profile will be valid for; its ``signal`` and ``top_k`` say what is computed.
        signal: A signal instead of the key's. ``"auto"``, here or in the key, chooses the one that separates best, by
            nested cross-validation, and corrects for the number of signals tried; the profile names the one chosen.
        candidates: The signals that ``"auto"`` chooses from; by default every one that all records have.
        alpha: For ``risk``: the share of accepted drafts that may be wrong.
        delta: The probability with which a guarantee may fail to hold.
        epsilon: For ``noninferior``: the accuracy that may be lost against always going deeper.
        eta: For abstaining: the share of hopeless drafts that going deeper may still get right.
        prices: For ``cost``: what a token, an error and a deeper run cost; without them there is no such threshold.
        seed: Of all random numbers; the same records and seed give the same profile, except for ``created_at``.
        resamples: Bootstrap resamples behind the thresholds' intervals; 0 for no intervals.

    Returns:
        Counts, statistics, every method's threshold with its interval, and a verdict with its reason.

    Raises:
        CalibrationError: no records at all, one that lacks the signal, named by its place and id, or an id twice.
        pydantic.ValidationError: a level outside (0, 1).
    """
    settings = CalibrationSettings(
        alpha=alpha, delta=delta, epsilon=epsilon, eta=eta, prices=prices, seed=seed, resamples=resamples
    )
    if signal is not None:
        key = key.model_copy(update={"signal": signal})
    observations = Observations.of(records, key.signal, key.top_k, candidates)
    return calibrate_observations(observations, key=key, settings=settings)


def calibrate_observations(
    observations: Observations, *, key: ProfileKey, settings: CalibrationSettings | None = None
) -> CalibrationProfile:
    """:func:`calibrate` for records as columns.

    Args:
        observations: The records, with the key's signal, or with every candidate where that is ``"auto"``.
        key: As for :func:`calibrate`.
        settings: The other arguments of :func:`calibrate`; its defaults unless given.

    Raises:
        CalibrationError: the signal is not there, or an id is there twice.
    """
    settings = settings or CalibrationSettings()
    observations.require_finite()
    refuse_repeated_ids(observations)
    notes = oddities(observations)
    if key.signal != AUTO:
        if key.signal not in observations.signals:
            raise CalibrationError(f"the records have no {key.signal!r}, only {', '.join(observations.signals)}")
        return _profile(observations, key.signal, key, settings, looks=1).model_copy(update={"notes": notes})
    choice = choose(observations, seed=settings.seed)
    if choice.learned is not None and choice.learned_from is not None:
        rest = observations.take(~choice.learned_from)
        observations = rest.with_signal(LEARNED, choice.learned.of_columns(rest.signals))
        notes = (*notes, f"the weights were learned from {int(choice.learned_from.sum())} other records")
    if choice.learned is None and choice.signal.partition("@")[0] not in SIGNALS:
        notes = (*notes, f"{choice.signal} is known by its values alone: a gate measures it where it is registered")
    profile = _profile(observations, choice.signal, key, settings, looks=choice.looks)
    return profile.model_copy(update={**_chosen(profile, choice), "notes": notes})


def _profile(
    observations: Observations, signal: str, key: ProfileKey, settings: CalibrationSettings, *, looks: float
) -> CalibrationProfile:
    """The profile of one signal, with a verdict as if no other signal had been tried."""
    drafts = Drafts(
        observations.signals[signal],
        observations.correct,
        observations.deeper_correct,
        observations.deeper_tokens,
        looks=looks,
    )
    correct, incorrect = drafts.classes
    right, wrong = Moments.of(correct), Moments.of(incorrect)
    area = auroc(correct, incorrect)
    interval = auroc_interval(area, len(correct), len(incorrect)) if area is not None else None
    rank_p = mann_whitney_p(correct, incorrect)
    verdict, reason = judge(correct, incorrect, area, interval, rank_p)
    thresholds = _thresholds(drafts, settings)
    abstain = thresholds.pop(_ABSTAIN)
    return CalibrationProfile(
        key=key,
        n_correct=right.n,
        n_incorrect=wrong.n,
        mean_correct=_finite(right.mean),
        sd_correct=_finite(right.sd),
        mean_incorrect=_finite(wrong.mean),
        sd_incorrect=_finite(wrong.sd),
        cohens_d=_finite(cohens_d(right, wrong)),
        welch_p=_welch_p(right, wrong),
        mann_whitney_p=rank_p,
        auroc=area,
        auroc_interval=interval,
        thresholds=thresholds,
        verdict=verdict,
        verdict_reason=reason,
        abstain=abstain,
        settings=settings,
        reference=reference_of(drafts.signal, tokens=observations.tokens, deeper_tokens=drafts.deeper_tokens),
        records_fingerprint=fingerprint(
            drafts.signal, drafts.correct, drafts.deeper_correct, drafts.deeper_tokens, observations.tokens
        ),
    )


def _chosen(profile: CalibrationProfile, choice: Choice) -> Mapping[str, object]:
    """The fields that ``"auto"`` changes in the profile of the signal that it chose."""
    verdict, reason = choice.verdict, choice.reason
    if choice.learned is not None:
        # The profile's records had no part in learning the weights, so its own verdict is valid.
        verdict, reason = profile.verdict, f"{choice.reason}; {profile.verdict_reason}"
    return {
        "chosen_signal": choice.signal,
        "learned": choice.learned,
        "auroc_out_of_fold": choice.auroc,
        "candidates": choice.table,
        "verdict": verdict,
        "verdict_reason": reason,
    }


def _thresholds(drafts: Drafts, settings: CalibrationSettings) -> dict[str, Threshold]:
    rules: dict[str, Rule] = {**{name: method.rule for name, method in METHODS.items()}, _ABSTAIN: hopeless}
    outcomes = {name: _outcome(rule, drafts, settings) for name, rule in rules.items()}
    found = {name: outcome for name, outcome in outcomes.items() if isinstance(outcome, Found)}
    values = {name: threshold.value for name, threshold in found.items()}
    quick = {name: method.resampled for name, method in METHODS.items() if method.resampled is not None}
    resampled = {name: quick.get(name, rules[name]) for name in found}
    spread = spreads(drafts, resampled, values, settings) if settings.resamples else {}
    return {name: _threshold(outcome, spread.get(name)) for name, outcome in outcomes.items()}


def _outcome(rule: Rule, drafts: Drafts, settings: CalibrationSettings) -> Found | NoThreshold:
    try:
        return rule(drafts, settings)
    except NoThreshold as error:
        return error


def _threshold(found: Found | NoThreshold, spread: Spread | None) -> Threshold:
    if isinstance(found, NoThreshold):
        return Threshold(reason=str(found))
    return Threshold(
        value=found.value,
        guarantee=found.guarantee,
        abstain_from=found.abstain_from,
        interval=spread.interval if spread else None,
        found=spread.found if spread else None,
    )


def _welch_p(right: Moments, wrong: Moments) -> float | None:
    if min(right.n, wrong.n) < 2 or right.sd == 0 == wrong.sd:
        return None
    samples = (right.mean, right.sd, right.n, wrong.mean, wrong.sd, wrong.n)
    return _finite(float(stats.ttest_ind_from_stats(*samples, equal_var=False).pvalue))


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


# From more records than this, resamples of this size are drawn, and their spread is scaled (m out of n bootstrap).
_MOST_RECORDS = 20_000


class Spread(NamedTuple):
    """How a threshold varies over the resamples.

    Attributes:
        interval: 95 % percentile interval of its value; None where too few resamples have a threshold.
        found: Share of the resamples that have a threshold.
    """

    interval: tuple[float, float] | None
    found: float


def spreads(
    drafts: Drafts, rules: Mapping[str, Rule], values: Mapping[str, float], settings: CalibrationSettings
) -> dict[str, Spread]:
    """The spread of each rule's threshold over bootstrap resamples of the records.

    Percentile bootstrap (Efron & Tibshirani 1993, section 13.3), records drawn with replacement; for more than 20,000
    records m out of n (Bickel et al. 1997), deviations from the median scaled by sqrt(m/n) around the value.

    Args:
        drafts: The records.
        rules: By the name of the method.
        values: Of those that found a threshold in the records, its value.
        settings: The rules' settings, the seed, and how many resamples.
    """
    rng, n = np.random.default_rng(settings.seed), len(drafts.signal)
    drafts = _take(drafts, np.argsort(drafts.signal, kind="stable"))
    size = min(n, _MOST_RECORDS)
    found: dict[str, list[float]] = {name: [] for name in rules}
    for _ in range(settings.resamples):
        # Sorted, as rules sort by the signal, which is fast where it is sorted already.
        drawn = _take(drafts, np.sort(rng.integers(0, n, size)))
        for name, rule in rules.items():
            with suppress(NoThreshold):
                found[name].append(rule(drawn, settings).value)
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
