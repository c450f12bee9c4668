"""Results of a replay of recorded outcomes, and of a comparison of policies on the same questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..calibration.profile import CalibrationProfile
from ..logprobs.arrays import BoolArray, FloatArray
from ..records.columns import Observations
from .estimates import Estimate, Resamples, paired_difference, share, share_saved

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
        saved: Share of the tokens of always going deeper that were not spent, bootstrap; None where tokens were not
            recorded.
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
    """Accuracy and tokens saved when the most confident drafts are accepted first, from none to all n of them.

    Attributes:
        accepted: (n + 1,) share of drafts accepted, 0 to 1.
        saved: (n + 1,) share of tokens saved against always going deeper; None where tokens were not recorded.
        gate: (n + 1,) accuracy by the signal's order.
        random: (n + 1,) accuracy in expectation over random orders.
        oracle: (n + 1,) accuracy by the best possible order.
        area: Mean of ``gate`` over all shares accepted.
        area_random: Mean of ``random``.
        area_oracle: Mean of ``oracle``.
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
        profile: The profile of all calibration records, which a gate would use.
        records: Number of records that the policies were replayed over.
        folds: Number of folds, each decided by a profile of the others; None where separate records were tested.
        margin: Accuracy that "not inferior" may lose, as a share.
        policies: Figures of ``never``, ``always``, ``oracle`` and every method, by name.
        missing: The reason by method, for the methods that in some fold had no threshold or no usable profile.
        signals: Number of folds by the profile's signal.
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


class Tokens(NamedTuple):
    """Completion tokens, three (n,) columns.

    Attributes:
        draft: Tokens of the draft.
        deeper: Tokens of the deeper branch.
        always: Tokens of always going deeper, without a gate.
    """

    draft: FloatArray
    deeper: FloatArray
    always: FloatArray

    def spent(self, accepted: BoolArray) -> FloatArray:
        """(n,) tokens that a gate spends: those of every draft, and of the deeper branch where it is not accepted."""
        return np.asarray(self.draft + np.where(accepted, 0.0, self.deeper))


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Recorded outcomes of n drafts.

    Attributes:
        correct: (n,) whether the draft was right.
        deeper_correct: (n,) whether the deeper branch was right; None where not recorded.
        tokens: Tokens of both; None unless both were recorded and any were written.
    """

    correct: BoolArray
    deeper_correct: BoolArray | None
    tokens: Tokens | None

    @classmethod
    def of(cls, observations: Observations, *, deeper_includes_draft: bool) -> Outcomes:
        """The outcomes of records.

        Args:
            observations: The records.
            deeper_includes_draft: Whether always going deeper writes the draft as well, as a refinement of it does.
        """
        draft, deeper, tokens = observations.tokens, observations.deeper_tokens, None
        if draft is not None and deeper is not None:
            always = draft + deeper if deeper_includes_draft else deeper
            tokens = Tokens(draft, deeper, always) if always.any() else None
        return cls(observations.correct, observations.deeper_correct, tokens)

    @property
    def gain(self) -> FloatArray | None:
        """(n,) right answers that accepting wins over going deeper: 1, 0 or -1; None without deeper outcomes."""
        if self.deeper_correct is None:
            return None
        return self.correct.astype(np.float64) - self.deeper_correct


@dataclass(frozen=True)
class Outcome:
    """The outcome of one policy on one question.

    Attributes:
        correct: Whether the answer was right.
        output_tokens: Tokens written, in all model calls.
        input_tokens: Tokens read, in all model calls.
        accepted: Whether the draft was the answer.
    """

    correct: bool
    output_tokens: int
    input_tokens: int
    accepted: bool


@dataclass(frozen=True)
class Comparison:
    """One policy, measured against the baseline on the same questions.

    Attributes:
        questions: Number of questions.
        accuracy: Share of right answers, with Wilson's interval.
        accuracy_gain: Accuracy minus the baseline's, with a paired interval.
        output_tokens: Tokens written in all.
        input_tokens: Tokens read in all.
        saved: Share of the baseline's written tokens that were not spent, with a paired interval.
        saved_all: Share of the baseline's tokens, written and read together, that were not spent; likewise.
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
        outcomes: Outcomes of each policy, by its name, for the same questions in the same order.
        baseline: The policy to compare with.
        seed: Of the bootstrap.

    Raises:
        ValueError: no questions, or not the same number of them.
    """
    reference = outcomes[baseline]
    if not reference or any(len(other) != len(reference) for other in outcomes.values()):
        raise ValueError("policies can be compared only on the same questions, at least one")
    resamples = Resamples(len(reference), seed=seed)
    return {name: _compared(mine, reference, resamples) for name, mine in outcomes.items()}


def _compared(mine: Sequence[Outcome], reference: Sequence[Outcome], resamples: Resamples) -> Comparison:
    correct, correct_reference = (_column(part, lambda o: o.correct) for part in (mine, reference))
    written, written_reference = (_column(part, lambda o: o.output_tokens) for part in (mine, reference))
    both, both_reference = (_column(part, lambda o: o.output_tokens + o.input_tokens) for part in (mine, reference))
    return Comparison(
        questions=len(mine),
        accuracy=share(sum(outcome.correct for outcome in mine), len(mine)),
        accuracy_gain=paired_difference(correct > 0, correct_reference > 0),
        output_tokens=int(written.sum()),
        input_tokens=int((both - written).sum()),
        saved=resamples.interval(share_saved, written, written_reference),
        saved_all=resamples.interval(share_saved, both, both_reference),
        accepted=share(sum(outcome.accepted for outcome in mine), len(mine)),
    )


def _column(outcomes: Sequence[Outcome], read: Callable[[Outcome], float]) -> NDArray[np.float64]:
    return np.array([read(outcome) for outcome in outcomes], dtype=np.float64)
