"""What a replay of recorded outcomes found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .._arrays import FloatArray
from ..profile import CalibrationProfile
from .estimates import Estimate

#: Names of the policies that need no gate.
NEVER, ALWAYS, ORACLE = "never", "always", "oracle"


@dataclass(frozen=True)
class PolicyFigures:
    """One policy, replayed over the records; differences are paired by record. All intervals are 95 %.

    Attributes:
        accepted: Share of drafts that were the answer, with Wilson's interval.
        risk: Share of wrong drafts among accepted ones, with Wilson's interval; None where none was accepted.
        accuracy: Share of right answers, with Wilson's interval; None without deeper outcomes.
        accuracy_gain: Accuracy minus that of always going deeper, Tango's interval; None without deeper outcomes.
        over_random: Accuracy minus that of accepting as many drafts at random, bootstrap; None where not defined.
        tokens: Completion tokens in all; None where they were not recorded.
        saved: Share of the tokens of always going deeper that were not spent, bootstrap; None likewise.
        not_inferior: Whether accuracy is shown to be at most the margin below always going deeper; None without
            deeper outcomes.
    """

    accepted: Estimate
    risk: Estimate | None
    accuracy: Estimate | None = None
    accuracy_gain: Estimate | None = None
    over_random: Estimate | None = None
    tokens: int | None = None
    saved: Estimate | None = None
    not_inferior: bool | None = None


@dataclass(frozen=True)
class SavingsCurve:
    """What accepting the most confident drafts first costs and saves, from none to all of n.

    Attributes:
        accepted: (n + 1,) share of drafts accepted, 0 to 1.
        saved: (n + 1,) share of tokens saved against always going deeper; None where tokens were not recorded.
        gate: (n + 1,) accuracy by the signal's order.
        random: (n + 1,) accuracy in expectation over random orders.
        oracle: (n + 1,) accuracy by the best possible order.
        area: Mean of ``gate`` over all shares accepted.
        area_random: The same of ``random``.
        area_oracle: The same of ``oracle``.
        share_of_way: (area - area_random) / (area_oracle - area_random), bootstrap interval; None where the oracle is
            no better than random.
    """

    accepted: FloatArray
    saved: FloatArray | None
    gate: FloatArray
    random: FloatArray
    oracle: FloatArray
    area: float
    area_random: float
    area_oracle: float
    share_of_way: Estimate | None


@dataclass(frozen=True)
class Evaluation:
    """Every policy over records that its thresholds were not made from.

    Attributes:
        profile: Calibrated from all calibration records; what a gate would use.
        records: How many records the policies were replayed over.
        folds: Into how many parts the records were split, each decided by a profile of the others; None where a
            file of its own was tested.
        margin: Accuracy that "not inferior" may lose, as a share.
        policies: Of ``never``, ``always``, ``oracle`` and every method, its figures.
        missing: Of every method that had no threshold in some fold, why, and in how many.
        signals: How often each signal was the gate's, over the folds.
        curve: Savings against accuracy; None without deeper outcomes.
        deeper_includes_draft: Whether always going deeper pays for the draft as well.
    """

    profile: CalibrationProfile
    records: int
    folds: int | None
    margin: float
    policies: Mapping[str, PolicyFigures]
    missing: Mapping[str, str]
    signals: Mapping[str, int]
    curve: SavingsCurve | None
    deeper_includes_draft: bool = False
