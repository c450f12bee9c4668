"""The paper's four threshold methods: functions of the moments of a signal in both classes.

*Think Just Enough* (arXiv 2510.08146, section 4). Each takes the signal's values over correct and over incorrect
drafts (1-D float64, in the signal's unit), or their :class:`Moments`, and returns tau in that unit: accept when
signal <= tau. Each raises NoThreshold, with what is missing, where its equation has no solution.

Notation: mu_c, sd_c, mu_i, sd_i are means and standard deviations (n - 1 in the denominator) over correct and
incorrect drafts; d = (mu_i - mu_c) / sd_pooled is Cohen's d, positive when incorrect drafts are more uncertain.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log, log1p, sqrt
from typing import NamedTuple

import numpy as np

from ...errors import CalibrationError, NoThreshold
from ...logprobs.arrays import FloatArray
from .rule import Found, ThresholdMethod

# Beyond these spreads, in units of the gap between the means, fourth powers leave the range of floats.
_LEAST_SPREAD, _LARGEST_SPREAD = 1e-75, 1e75


class Moments(NamedTuple):
    """Size, mean and standard deviation (n - 1 in the denominator) of a sample; NaN where undefined."""

    n: int
    mean: float
    sd: float

    @classmethod
    def of(cls, sample: FloatArray) -> Moments:
        """The moments of a 1-D sample.

        Raises:
            CalibrationError: a value is NaN or infinite.
        """
        require_finite(sample)
        n = len(sample)
        mean = float(np.mean(sample)) if n else float("nan")
        return cls(n, mean, sample_sd(sample) if n > 1 else float("nan"))


Sample = FloatArray | Moments


def mean_threshold(correct: Sample, incorrect: Sample) -> float:  # noqa: ARG001
    """``mean``: tau = mu_c. Works from correct drafts alone."""
    right = _moments(correct)
    _need("mean", correct=(right, 1))
    return right.mean


def info_threshold(correct: Sample, incorrect: Sample) -> float:
    """``info``: tau = mu_c + sd_c * ln(1 + |d|)."""
    right, wrong = _moments(correct), _moments(incorrect)
    d = _cohens_d_or_refuse("info", right, wrong)
    return right.mean + right.sd * log1p(abs(d))


def universal_threshold(correct: Sample, incorrect: Sample) -> float:
    """``universal``: tau = mu_c + |d| / (1 + |d|) * (mu_i - mu_c) * max(0, 1 - sd_c / mu_c)."""
    right, wrong = _moments(correct), _moments(incorrect)
    d = abs(_cohens_d_or_refuse("universal", right, wrong))
    if right.mean <= 0:
        raise NoThreshold(
            f"universal divides by the mean over correct drafts, which must be positive, not {right.mean:.4g}"
        )
    return right.mean + d / (1 + d) * (wrong.mean - right.mean) * max(0.0, 1 - right.sd / right.mean)


def bayes_threshold(correct: Sample, incorrect: Sample, *, prior_correct: float | None = None) -> float:
    """``bayes``: the decision boundary between two Gaussians that minimises classification error.

    Equating log(pi_c N(x; mu_c, sd_c)) and log(pi_i N(x; mu_i, sd_i)) gives a x^2 + b x + c = 0 with
    a = 1/(2 sd_i^2) - 1/(2 sd_c^2), b = mu_c/sd_c^2 - mu_i/sd_i^2 and
    c = mu_i^2/(2 sd_i^2) - mu_c^2/(2 sd_c^2) + ln(pi_c sd_i / (pi_i sd_c)).
    The boundary is the root between the means; with equal variances a = 0 and there is one root.

    Args:
        correct: Signal of correct drafts, at least two.
        incorrect: Signal of incorrect drafts, at least two.
        prior_correct: pi_c, the share of drafts that are correct where the gate is used; by default that in these
            samples.

    Raises:
        NoThreshold: too few drafts, no spread, incorrect drafts not more uncertain, or priors or variances so
            unequal that one class is the better guess at both means.
    """
    right, wrong = _moments(correct), _moments(incorrect)
    _need("bayes", correct=(right, 2), incorrect=(wrong, 2))
    if prior_correct is None:
        prior_correct = right.n / (right.n + wrong.n)
    if not 0 < prior_correct < 1:
        raise NoThreshold(f"bayes needs a prior between 0 and 1, not {prior_correct}")
    gap = wrong.mean - right.mean
    if gap <= 0:
        raise NoThreshold("bayes needs incorrect drafts to be more uncertain than correct ones, and they are not")
    # In units of the gap, with the correct mean at 0 and the incorrect mean at 1: well scaled for any signal.
    s_c, s_i = right.sd / gap, wrong.sd / gap
    if min(s_c, s_i) < _LEAST_SPREAD:
        raise NoThreshold("bayes needs some spread within both classes, and one of them is constant")
    if max(s_c, s_i) > _LARGEST_SPREAD:
        raise NoThreshold("bayes needs incorrect drafts to be more uncertain than correct ones, and the means agree")
    a = 0.5 / s_i**2 - 0.5 / s_c**2
    b = -1 / s_i**2
    c = 0.5 / s_i**2 + log(prior_correct * s_i / ((1 - prior_correct) * s_c))
    inside = [root for root in _real_roots(a, b, c) if 0 <= root <= 1]
    if not inside:
        likelier = "correct" if c > 0 else "incorrect"
        raise NoThreshold(
            f"bayes finds no boundary between the means ({right.mean:.4g} and {wrong.mean:.4g}): "
            f"with these priors and spreads '{likelier}' is the better guess at both"
        )
    return right.mean + gap * inside[0]


def _method(
    name: str, threshold: Callable[[Sample, Sample], float], mark: tuple[str, str], *, precedence: int
) -> ThresholdMethod:
    return ThresholdMethod(
        name, lambda drafts, _: Found(threshold(*drafts.classes)), mark=mark, precedence=precedence
    )


MEAN = _method("mean", mean_threshold, ("circle", "●"), precedence=3)
INFO = _method("info", info_threshold, ("square", "■"), precedence=2)
BAYES = _method("bayes", bayes_threshold, ("diamond", "◆"), precedence=4)
UNIVERSAL = _method("universal", universal_threshold, ("triangle-up", "▲"), precedence=1)


def cohens_d(correct: Sample, incorrect: Sample) -> float:
    """Cohen's d = (mu_i - mu_c) / sd_pooled, without unit; positive when incorrect drafts are more uncertain.

    sd_pooled^2 = ((n_c - 1) sd_c^2 + (n_i - 1) sd_i^2) / (n_c + n_i - 2) (Cohen 1988, section 2.2).
    NaN where a class has fewer than two drafts, or neither class has any spread.
    """
    right, wrong = _moments(correct), _moments(incorrect)
    if min(right.n, wrong.n) < 2:
        return float("nan")
    squares = (right.n - 1) * right.sd**2 + (wrong.n - 1) * wrong.sd**2
    pooled = sqrt(squares / (right.n + wrong.n - 2))
    return (wrong.mean - right.mean) / pooled if pooled > 0 else float("nan")


def require_finite(sample: FloatArray) -> None:
    """Refuse a sample that cannot be ordered or averaged.

    Raises:
        CalibrationError: a value is NaN or infinite.
    """
    if not np.isfinite(sample).all():
        raise CalibrationError(f"{int((~np.isfinite(sample)).sum())} values of the signal are not finite")


def sample_sd(sample: FloatArray) -> float:
    """Standard deviation with n - 1 in the denominator, in the sample's unit; exactly 0 for a constant sample."""
    # The mean of equal values is rounded, so their standard deviation could come out as 1e-17 instead of 0.
    return float(np.std(sample, ddof=1)) if np.ptp(sample) > 0 else 0.0


def _moments(sample: Sample) -> Moments:
    return sample if isinstance(sample, Moments) else Moments.of(sample)


def _cohens_d_or_refuse(method: str, correct: Moments, incorrect: Moments) -> float:
    _need(method, correct=(correct, 2), incorrect=(incorrect, 2))
    d = cohens_d(correct, incorrect)
    if not np.isfinite(d):
        raise NoThreshold(f"{method} divides by the spread within the classes, and there is none")
    return d


def _need(method: str, **classes: tuple[Moments, int]) -> None:
    """Refuse samples that are too small; the message says how many drafts are needed."""
    lacking = [
        f"{least} {name} draft{'s' if least > 1 else ''} (there {'is' if sample.n == 1 else 'are'} {sample.n})"
        for name, (sample, least) in classes.items()
        if sample.n < least
    ]
    if lacking:
        raise NoThreshold(f"{method} needs at least {' and '.join(lacking)}")


def _real_roots(a: float, b: float, c: float) -> list[float]:
    """Real roots of a x^2 + b x + c, exact as a goes to 0 (b is never 0 here)."""
    discriminant = b * b - 4 * a * c
    if discriminant < 0:
        return []
    # Both terms have the same sign: the textbook formula loses all digits by cancellation where a is small.
    q = -0.5 * (b + (sqrt(discriminant) if b > 0 else -sqrt(discriminant)))
    return [c / q] + ([q / a] if a else [])
