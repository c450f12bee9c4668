"""What a threshold method is: a rule from labelled drafts to a threshold, and what others must know about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...logprobs.arrays import BoolArray, FloatArray
from ..settings import CalibrationSettings


@dataclass(frozen=True)
class Drafts:
    """A signal of n drafts, and what became of them.

    Attributes:
        signal: (n,) lower = more confident.
        correct: (n,) whether the draft was right.
        deeper_correct: (n,) whether the deeper branch was; None where unknown.
        deeper_tokens: (n,) what it wrote (tokens); None where unknown.
        looks: As from how many signals this one was chosen on the same records: guarantees share their level.
    """

    signal: FloatArray
    correct: BoolArray
    deeper_correct: BoolArray | None = None
    deeper_tokens: FloatArray | None = None
    looks: float = 1

    @property
    def classes(self) -> tuple[FloatArray, FloatArray]:
        """The signal over correct and over incorrect drafts."""
        return self.signal[self.correct], self.signal[~self.correct]


@dataclass(frozen=True)
class Found:
    """A threshold, with what is known about it.

    Attributes:
        value: In the signal's unit.
        guarantee: What holds for it, in words; None where nothing is promised.
        abstain_from: Where its rule gives up; None: nowhere.
    """

    value: float
    guarantee: str | None = None
    abstain_from: float | None = None


#: From drafts and what calibration was asked for to a threshold; raises NoThreshold, saying what is missing.
Rule = Callable[[Drafts, CalibrationSettings], Found]


@dataclass(frozen=True)
class ThresholdMethod:
    """A threshold method, declared once: calibration, gates, reports and the command line ask this.

    Attributes:
        name: By which users ask for it.
        rule: Makes the threshold.
        mark: How figures draw it: plotly's name of the symbol, and the symbol as a character.
        precedence: A report's headline is about the method of the highest precedence that has a threshold.
        promises: Whether its threshold comes with a guarantee over the drawing of the records.
        risk_limit: The share of accepted drafts that may be wrong, where it promises one: feedback on live drafts
            is held against it.
        has_own_abstention: Whether its rule says itself where to give up; the others take what is shown to be
            hopeless.
        resampled: What a bootstrap repeats instead of the rule, where that would take too long.
    """

    name: str
    rule: Rule
    mark: tuple[str, str]
    precedence: int = 0
    promises: bool = False
    risk_limit: Callable[[CalibrationSettings], float] | None = None
    has_own_abstention: bool = False
    resampled: Rule | None = None
