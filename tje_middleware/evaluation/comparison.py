"""How policies compare on the same questions: accuracy, tokens, tokens saved, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .estimates import Estimate, Resamples, paired_difference, share, share_saved


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
