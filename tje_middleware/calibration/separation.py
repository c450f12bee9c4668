"""How well a signal separates right from wrong drafts: area, interval, test, verdict."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from ..logprobs.arrays import BoolArray, FloatArray
from .profile import Verdict

# At an area of exactly 0 or 1 the equation of the AUROC's interval has a trivial root; it is solved from here on.
_NEXT_TO_CERTAIN = 1e-9


def auroc(correct: FloatArray, incorrect: FloatArray) -> float | None:
    """P(signal of a correct draft < signal of an incorrect one), ties counting half; None without both classes.

    The Mann-Whitney statistic over n_c n_i (Hanley & McNeil 1982).
    """
    if not len(correct) or not len(incorrect):
        return None
    ranks = ranks_of(np.concatenate([correct, incorrect]))
    wrong = np.arange(len(ranks)) >= len(correct)
    return float(areas(ranks, wrong))


def ranks_of(values: FloatArray) -> FloatArray:
    """Ranks along the last axis, equal values sharing their mean rank; the shape of the values."""
    return np.asarray(stats.rankdata(values, axis=-1), dtype=np.float64)


def areas(ranks: FloatArray, wrong: NDArray[np.bool_]) -> FloatArray:
    """(...,) the AUROC of each row of a signal's ranks (..., n), for labels (n,) of both classes."""
    n_i = int(wrong.sum())
    n_c = len(wrong) - n_i
    return np.asarray((ranks[..., wrong].sum(axis=-1) - n_i * (n_i + 1) / 2) / (n_c * n_i))


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
    """The verdict on how well a signal separates right from wrong drafts, and the reason for it.

    ``usable`` requires that both the AUROC's interval and the Mann-Whitney test at 5 %, which is exact for few
    records without ties, exclude chance.
    """
    if area is None or interval is None:
        missing, present = ("incorrect", len(correct)) if len(correct) else ("correct", len(incorrect))
        return "unusable", f"no {missing} drafts among {present} records, so no separation can be shown"
    if np.ptp(np.concatenate([correct, incorrect])) == 0:
        return "unusable", f"the signal is the same ({correct[0]:.4g}) for every record"
    spread = f"AUROC {area:.3f}, 95 % interval {interval[0]:.3f} to {interval[1]:.3f}"
    if interval[1] < 0.5 and rank_p is not None and rank_p <= 0.05:
        return "unusable", f"the wrong direction: incorrect drafts are the more confident ones ({spread})"
    if area <= 0.5 or incorrect.mean() <= correct.mean():
        return "unusable", f"incorrect drafts are not more uncertain than correct ones ({spread})"
    if interval[0] > 0.5 and rank_p is not None and rank_p <= 0.05:
        return "usable", f"correct drafts are more confident than incorrect ones ({spread})"
    records = len(correct) + len(incorrect)
    return "weak", f"the direction is right, but {records} records do not rule out chance ({spread}); add some"


def mann_whitney_p(correct: FloatArray, incorrect: FloatArray) -> float | None:
    """Two-sided p-value of equal distributions; None without both classes or without any spread."""
    if not len(correct) or not len(incorrect) or np.ptp(np.concatenate([correct, incorrect])) == 0:
        return None
    p_value = float(stats.mannwhitneyu(correct, incorrect, alternative="two-sided").pvalue)
    return p_value if np.isfinite(p_value) else None


def stratified(wrong: BoolArray, rng: np.random.Generator, *, folds: int, repeats: int) -> Iterator[BoolArray]:
    """(n,) masks of folds, each with both classes inside and outside; none where a class has fewer than two."""
    folds = min(folds, int(wrong.sum()), int((~wrong).sum()))
    if folds < 2:
        return
    for _ in range(repeats):
        place = np.empty(len(wrong), dtype=np.int64)
        for one_class in (wrong, ~wrong):
            place[one_class] = rng.permutation(int(one_class.sum())) % folds
        for fold in range(folds):
            yield place == fold
