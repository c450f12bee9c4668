"""Worlds of drafts whose true risk is known exactly, and candidates to choose among."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from tje_middleware.calibration.thresholds.rule import Drafts
from tje_middleware.records.columns import Observations

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """A signal with a distribution over right and another over wrong drafts.

    Attributes:
        name: What is hard about it.
        right: Of the signal over right drafts (a frozen scipy distribution).
        wrong: Over wrong ones.
        share_wrong: Of all drafts.
        alpha: The limit that ``risk`` is asked for here.
        rescued: Share of wrong drafts that going deeper puts right, whatever their signal.
        kept: Share of right drafts that going deeper leaves right.
    """

    name: str
    right: stats.rv_continuous
    wrong: stats.rv_continuous
    share_wrong: float
    alpha: float
    rescued: float = 0.7
    kept: float = 0.95

    def draw(self, n: int, rng: np.random.Generator) -> Drafts:
        """n independent drafts."""
        correct = rng.random(n) >= self.share_wrong
        signal = np.where(correct, *(one.rvs(size=n, random_state=rng) for one in (self.right, self.wrong)))
        deeper_correct = rng.random(n) < np.where(correct, self.kept, self.rescued)
        return Drafts(signal.astype(np.float64), correct, deeper_correct)

    def shares(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Of all drafts, those at or below each value that are right, and that are wrong."""
        return (1 - self.share_wrong) * self.right.cdf(values), self.share_wrong * self.wrong.cdf(values)

    def accepted(self, values: FloatArray) -> FloatArray:
        """Share of the drafts at or below each value."""
        right, wrong = self.shares(values)
        return right + wrong

    def risk(self, values: FloatArray) -> FloatArray:
        """Share of wrong ones among the drafts at or below each value; 0 where there are none."""
        right, wrong = self.shares(values)
        return np.divide(wrong, right + wrong, out=np.zeros_like(wrong), where=right + wrong > 0)

    def lost(self, values: FloatArray) -> FloatArray:
        """Accuracy below always going deeper of accepting up to each value."""
        right, wrong = self.shares(values)
        return wrong * self.rescued - right * (1 - self.kept)

    def helped(self, values: FloatArray) -> FloatArray:
        """Share that going deeper answers rightly of the drafts at or above each value; 0 where there are none."""
        below = self.shares(np.nextafter(values, -np.inf))
        right, wrong = 1 - self.share_wrong - below[0], self.share_wrong - below[1]
        there = right + wrong > 1e-12
        return np.divide(
            right * self.kept + wrong * self.rescued, right + wrong, out=np.zeros_like(right), where=there
        )

    def grid(self) -> FloatArray:
        """Values to look for the best threshold among."""
        drafts = self.draw(4_000, np.random.default_rng(0))
        return np.unique(drafts.signal)


def _steps(risks: Sequence[float], widths: Sequence[float]) -> dict[str, object]:
    """A uniform signal whose drafts are wrong with these probabilities, step by step."""
    edges, masses = np.concatenate([[0.0], np.cumsum(widths)]), np.array(widths)
    wrong = masses * risks
    return {
        "right": stats.rv_histogram((masses - wrong, edges), density=False),
        "wrong": stats.rv_histogram((wrong, edges), density=False),
        "share_wrong": float(wrong.sum()),
    }


WORLDS: Sequence[World] = (
    World("clear separation", stats.norm(5, 1), stats.norm(7.5, 1), 0.3, alpha=0.1),
    World("weak separation", stats.norm(5, 1), stats.norm(5.8, 1), 0.3, alpha=0.2),
    World("mostly wrong", stats.norm(5, 1), stats.norm(8, 1), 0.7, alpha=0.2),
    World("mostly right", stats.norm(5, 1), stats.norm(5.7, 1), 0.12, alpha=0.1),
    World("heavy tails", stats.t(1.5, loc=9), stats.t(1.5, loc=12), 0.3, alpha=0.15),
    World("skewed", stats.gamma(2), stats.gamma(5), 0.3, alpha=0.15),
    World("counts with ties", stats.poisson(4), stats.poisson(9), 0.3, alpha=0.1),
    World("five values", stats.binom(4, 0.2), stats.binom(4, 0.5), 0.3, alpha=0.2),
    World("no separation, just too risky", stats.norm(5, 1), stats.norm(5, 1), 0.201, alpha=0.2),
    World("ties, no separation, just too risky", stats.binom(4, 0.4), stats.binom(4, 0.4), 0.201, alpha=0.2),
    World("risk crosses its limit twice", alpha=0.1, **_steps((0.02, 0.6, 0.01, 0.8), (0.25, 0.1, 0.35, 0.3))),
    World("the most confident are the worst", alpha=0.1, **_steps((0.5, 0.02, 0.6), (0.1, 0.6, 0.3))),
)


@dataclass(frozen=True)
class Candidates:
    """Normal signals of one unit of spread that resemble each other, right drafts at 0.

    Attributes:
        name: What is hard about choosing.
        gaps: Mean of each signal over wrong drafts.
        common: Share of the variance that all signals have in common.
        share_wrong: Of all drafts.
        alpha: The limit that ``risk`` is asked for here.
        sizes: Numbers of records.
    """

    name: str
    gaps: Sequence[float]
    common: float
    share_wrong: float
    alpha: float
    sizes: Sequence[int]

    def draw(self, n: int, rng: np.random.Generator) -> Observations:
        """n independent drafts."""
        wrong = rng.random(n) < self.share_wrong
        own = rng.normal(size=(len(self.gaps), n))
        noise = np.sqrt(self.common) * rng.normal(size=n) + np.sqrt(1 - self.common) * own
        columns = np.array(self.gaps)[:, None] * wrong + noise
        return Observations(correct=~wrong, signals={f"s{place}": column for place, column in enumerate(columns)})

    def world(self, name: str) -> World:
        """The world of one of them."""
        gap = self.gaps[int(name[1:])]
        return World(name, stats.norm(0, 1), stats.norm(gap, 1), self.share_wrong, self.alpha)


CANDIDATES: Sequence[Candidates] = (
    Candidates("near-ties that resemble each other", (1.3, 1.3, 1.25, 1.2, 0, 0), 0.8, 0.25, 0.1, (60, 120)),
    Candidates("independent near-ties", (1.3, 1.3, 1.25, 1.2, 0, 0), 0.0, 0.25, 0.1, (60, 120)),
    Candidates("eight of noise, just too risky", (0,) * 8, 0.3, 0.201, 0.2, (50, 120)),
)
#: Two halves of one signal: here a learned one is better.
COMPLEMENTARY = Candidates("complementary, so a learned one", (1.0, 1.0, 1.0), 0.0, 0.3, 0.15, (500,))
NOISE: Sequence[Candidates] = (
    Candidates("independent noise", (0,) * 10, 0.0, 0.4, 0.1, (20, 50, 90)),
    Candidates("noise of one kind", (0,) * 10, 0.8, 0.25, 0.1, (20, 50, 90)),
)
