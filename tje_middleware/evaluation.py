"""How policies compare on the same questions: accuracy, tokens, tokens saved, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats


@dataclass(frozen=True)
class Outcome:
    """What one policy made of one question.

    Attributes:
        correct: Whether its answer was right.
        output_tokens: Tokens that the model wrote for it, over all its calls.
        input_tokens: Tokens that the model read for it, over all its calls.
        accepted: Whether the draft was the answer.
    """

    correct: bool
    output_tokens: int
    input_tokens: int
    accepted: bool


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """One policy, measured against the baseline on the same questions.

    Attributes:
        questions: How many.
        accuracy: Share of right answers, with Wilson's interval.
        accuracy_gain: Accuracy minus the baseline's, with a paired interval.
        output_tokens: Tokens written in all.
        input_tokens: Tokens read in all.
        saved: Share of the baseline's written tokens that were not spent, with a paired interval.
        saved_all: The same for tokens written and read together.
        accepted: Share of drafts that were the answer, with Wilson's interval.
    """

    questions: int
    accuracy: Estimate
    accuracy_gain: Estimate
    output_tokens: int
    input_tokens: int
    saved: Estimate
    saved_all: Estimate
    accepted: Estimate


def compare(outcomes: Mapping[str, Sequence[Outcome]], *, baseline: str, seed: int = 0) -> dict[str, Comparison]:
    """Compare every policy with the baseline.

    Args:
        outcomes: Of each policy, its outcomes over the same questions in the same order.
        baseline: The policy to compare with.
        seed: Of the bootstrap.

    Raises:
        ValueError: no questions, or not the same number of them.
    """
    reference = outcomes[baseline]
    if not reference or any(len(other) != len(reference) for other in outcomes.values()):
        raise ValueError("policies can be compared only on the same questions, at least one")
    return {name: _compared(mine, reference, seed) for name, mine in outcomes.items()}


def _compared(mine: Sequence[Outcome], reference: Sequence[Outcome], seed: int) -> Comparison:
    correct, correct_reference = (_column(part, lambda o: o.correct) for part in (mine, reference))
    written, written_reference = (_column(part, lambda o: o.output_tokens) for part in (mine, reference))
    both, both_reference = (_column(part, lambda o: o.output_tokens + o.input_tokens) for part in (mine, reference))
    return Comparison(
        questions=len(mine),
        accuracy=share(sum(outcome.correct for outcome in mine), len(mine)),
        accuracy_gain=paired_difference(correct > 0, correct_reference > 0),
        output_tokens=int(written.sum()),
        input_tokens=int((both - written).sum()),
        saved=paired_interval(_share_saved, written, written_reference, seed=seed),
        saved_all=paired_interval(_share_saved, both, both_reference, seed=seed),
        accepted=share(sum(outcome.accepted for outcome in mine), len(mine)),
    )


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


# Beside the difference itself, where the equation has a root that is none of the interval's ends.
_STEP = 1e-9

Statistic = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def paired_interval(
    statistic: Statistic,
    mine: NDArray[np.float64],
    reference: NDArray[np.float64],
    *,
    seed: int = 0,
    resamples: int = 9_999,
) -> Estimate:
    """A statistic of two paired samples with its 95 % percentile bootstrap interval.

    Questions are resampled, not the two samples apart, so what makes a question hard or long cancels out.

    Args:
        statistic: Of two arrays (..., n), along the last axis.
        mine: (n,) one policy's values.
        reference: (n,) the baseline's values for the same questions.
        seed: Of the resampling.
        resamples: How many.
    """
    value = float(statistic(mine, reference))
    if len(mine) < 2 or np.array_equal(mine, reference):
        return Estimate(value, value, value)
    result = stats.bootstrap(
        (mine, reference),
        lambda a, b, axis: statistic(a, b),  # noqa: ARG005 (the axis is always the last)
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Estimate(value, float(result.confidence_interval.low), float(result.confidence_interval.high))


def _share_saved(mine: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 - mine.sum(-1) / reference.sum(-1))


def _column(outcomes: Sequence[Outcome], read: Callable[[Outcome], float]) -> NDArray[np.float64]:
    return np.array([read(outcome) for outcome in outcomes], dtype=np.float64)
