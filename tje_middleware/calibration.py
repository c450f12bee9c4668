"""Records -> profile: how well a signal separates right from wrong, and each method's threshold."""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt

import numpy as np
from scipy import optimize, stats

from .errors import CalibrationError, NoThreshold, TjeError
from .profile import CalibrationProfile, CalibrationRecord, ProfileKey, Threshold, Verdict
from .thresholds import METHODS, FloatArray, ThresholdMethod, cohens_d, sample_sd

# Larger values are no signal, and their squares would leave the range of floats.
_LARGEST_VALUE = 1e100
# The equation of the AUROC's interval holds trivially at an area of exactly 0 or 1; it is solved from here on.
_NEXT_TO_CERTAIN = 1e-9


def calibrate(records: Iterable[CalibrationRecord], *, key: ProfileKey) -> CalibrationProfile:
    """Find out whether a signal tells right from wrong drafts, and from which value on.

    Args:
        records: Labelled drafts, with the key's signal or with the logprobs to compute it from.
        key: What the profile will be valid for; its ``signal`` and ``top_k`` say what is computed.

    Returns:
        Counts, statistics, every method's threshold, and a verdict with its reason.

    Raises:
        CalibrationError: no records at all, or one that lacks the signal, named by its place and id.
    """
    values: list[float] = []
    labels: list[bool] = []
    for place, record in enumerate(records):
        if not isinstance(record, CalibrationRecord):
            kind = type(record).__name__
            raise CalibrationError(f"record {place} is a {kind}: CalibrationRecord.model_validate() reads a mapping")
        try:
            values.append(record.value(key.signal, key.top_k))
        except TjeError as error:
            name = f"record {place}" + (f" ({record.id})" if record.id is not None else "")
            raise CalibrationError(f"{name}: {error}") from error
        labels.append(record.correct)
    signal, right = np.asarray(values, dtype=np.float64), np.asarray(labels, dtype=np.bool_)
    return calibrate_samples(signal[right], signal[~right], key=key)


def calibrate_samples(correct: FloatArray, incorrect: FloatArray, *, key: ProfileKey) -> CalibrationProfile:
    """The same from the signal's values over correct and incorrect drafts, two 1-D float64 arrays.

    Raises:
        CalibrationError: both are empty, or a value is not finite or absurdly large.
    """
    if not len(correct) and not len(incorrect):
        raise CalibrationError("there are no records to calibrate from; 5 to 10 labelled drafts are a beginning")
    if not all((np.abs(sample) <= _LARGEST_VALUE).all() for sample in (correct, incorrect)):
        raise CalibrationError(f"some values of {key.signal} are not finite, or beyond {_LARGEST_VALUE:g}")
    area = auroc(correct, incorrect)
    interval = auroc_interval(area, len(correct), len(incorrect)) if area is not None else None
    rank_p = _mann_whitney_p(correct, incorrect)
    verdict, reason = judge(correct, incorrect, area, interval, rank_p)
    return CalibrationProfile(
        key=key,
        n_correct=len(correct),
        n_incorrect=len(incorrect),
        mean_correct=_mean(correct),
        sd_correct=_sd(correct),
        mean_incorrect=_mean(incorrect),
        sd_incorrect=_sd(incorrect),
        cohens_d=_finite(cohens_d(correct, incorrect)),
        welch_p=_welch_p(correct, incorrect),
        mann_whitney_p=rank_p,
        auroc=area,
        auroc_interval=interval,
        thresholds={name: _threshold(method, correct, incorrect) for name, method in METHODS.items()},
        verdict=verdict,
        verdict_reason=reason,
    )


def auroc(correct: FloatArray, incorrect: FloatArray) -> float | None:
    """P(signal of a correct draft < signal of an incorrect one), ties counting half; None without both classes.

    The Mann-Whitney statistic over n_c n_i (Hanley & McNeil 1982).
    """
    if not len(correct) or not len(incorrect):
        return None
    ranks = stats.rankdata(np.concatenate([correct, incorrect]))
    n_c, n_i = len(correct), len(incorrect)
    return float((ranks[n_c:].sum() - n_i * (n_i + 1) / 2) / (n_c * n_i))


def auroc_interval(area: float, n_correct: int, n_incorrect: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Confidence interval of an AUROC that stays honest for few records and at 0 and 1.

    Newcombe's method 5 (Statistics in Medicine 25:559-573, 2006): all areas t with
    |area - t| <= z sqrt(V(t)), where, with N = (n_c + n_i)/2 - 1,
    V(t) = t (1 - t) (1 + N (1 - t)/(2 - t) + N t/(1 + t)) / (n_c n_i).
    A bootstrap or DeLong's variance would give a point at an area of 1.
    """
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    mean_count = (n_correct + n_incorrect) / 2 - 1

    def excess(t: float) -> float:
        inner = 1 + mean_count * (1 - t) / (2 - t) + mean_count * t / (1 + t)
        return abs(area - t) - z * sqrt(t * (1 - t) * inner / (n_correct * n_incorrect))

    inside = min(max(area, _NEXT_TO_CERTAIN), 1 - _NEXT_TO_CERTAIN)
    low = 0.0 if excess(0.0) <= 0 else optimize.brentq(excess, 0.0, inside)
    high = 1.0 if excess(1.0) <= 0 else optimize.brentq(excess, inside, 1.0)
    return float(low), float(high)


def judge(
    correct: FloatArray,
    incorrect: FloatArray,
    area: float | None,
    interval: tuple[float, float] | None,
    rank_p: float | None,
) -> tuple[Verdict, str]:
    """Whether these samples show that the signal separates right from wrong drafts, and why.

    Shown means: the AUROC's interval excludes chance, and so does the Mann-Whitney test at 5 %, which is exact for
    few records without ties.
    """
    if area is None or interval is None:
        missing, present = ("incorrect", len(correct)) if len(correct) else ("correct", len(incorrect))
        return "unusable", f"no {missing} drafts among {present} records, so no separation can be shown"
    if np.ptp(np.concatenate([correct, incorrect])) == 0:
        return "unusable", f"the signal is the same ({correct[0]:.4g}) for every record"
    spread = f"AUROC {area:.3f}, 95 % interval {interval[0]:.3f} to {interval[1]:.3f}"
    if area <= 0.5 or incorrect.mean() <= correct.mean():
        return "unusable", f"incorrect drafts are not more uncertain than correct ones ({spread})"
    if interval[0] > 0.5 and rank_p is not None and rank_p <= 0.05:
        return "usable", f"correct drafts are more confident than incorrect ones ({spread})"
    records = len(correct) + len(incorrect)
    return "weak", f"the direction is right, but {records} records do not rule out chance ({spread}); add some"


def _threshold(method: ThresholdMethod, correct: FloatArray, incorrect: FloatArray) -> Threshold:
    try:
        return Threshold(value=method(correct, incorrect))
    except NoThreshold as error:
        return Threshold(reason=str(error))


def _welch_p(correct: FloatArray, incorrect: FloatArray) -> float | None:
    if min(len(correct), len(incorrect)) < 2 or np.ptp(correct) == 0 == np.ptp(incorrect):
        return None
    moments = [(np.mean(sample), sample_sd(sample), len(sample)) for sample in (correct, incorrect)]
    return _finite(float(stats.ttest_ind_from_stats(*moments[0], *moments[1], equal_var=False).pvalue))


def _mann_whitney_p(correct: FloatArray, incorrect: FloatArray) -> float | None:
    if not len(correct) or not len(incorrect) or np.ptp(np.concatenate([correct, incorrect])) == 0:
        return None
    return _finite(float(stats.mannwhitneyu(correct, incorrect, alternative="two-sided").pvalue))


def _mean(sample: FloatArray) -> float | None:
    return float(np.mean(sample)) if len(sample) else None


def _sd(sample: FloatArray) -> float | None:
    return sample_sd(sample) if len(sample) > 1 else None


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
