"""ThresholdMethod: a rule from labelled drafts to a threshold, with its properties."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...logprobs.arrays import BoolArray, FloatArray
from ..settings import CalibrationSettings


@dataclass(frozen=True)
class Drafts:
    """A signal of n drafts and their outcomes.

    Attributes:
        signal: (n,) lower = more confident.
        correct: (n,) whether the draft was right.
        deeper_correct: (n,) whether the deeper branch was right; None where unknown.
        deeper_tokens: (n,) tokens that the deeper branch wrote; None where unknown.
        looks: The number by which guarantees divide their level; above 1 where the signal was chosen from several.
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
    """A threshold that a rule found.

    Attributes:
        value: The value up to which drafts are accepted, in the signal's unit.
        guarantee: What the rule promises about it, in words, with the counts behind it; None: nothing.
        abstain_from: The value from which on the rule gives drafts up, in the signal's unit; None: it never does.
    """

    value: float
    guarantee: str | None = None
    abstain_from: float | None = None


#: From drafts and settings to a threshold; raises NoThreshold, with what is missing, where there is none.
Rule = Callable[[Drafts, CalibrationSettings], Found]


@dataclass(frozen=True)
class ThresholdMethod:
    """A threshold method, declared once for calibration, gates, reports and the command line.

    Attributes:
        name: The name by which users choose it.
        rule: Computes the threshold.
        mark: Its symbol in figures: plotly's name of it, and a character.
        precedence: A report's headline is about the method with the highest precedence that has a threshold.
        promises: Whether its threshold comes with a guarantee over the drawing of the records.
        risk_limit: The share of accepted drafts that may be wrong, where the method promises one; feedback on live
            drafts is compared with it.
        has_own_abstention: Whether its rule finds ``abstain_from`` itself; the other methods use the profile's
            ``abstain`` threshold.
        resampled: A faster rule that the bootstrap repeats; None: the rule itself.
    """

    name: str
    rule: Rule
    mark: tuple[str, str]
    precedence: int = 0
    promises: bool = False
    risk_limit: Callable[[CalibrationSettings], float] | None = None
    has_own_abstention: bool = False
    resampled: Rule | None = None
