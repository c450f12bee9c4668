"""What became of each draft on either route, and what a policy makes of it: answers and tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .._arrays import BoolArray, FloatArray
from ..observations import Observations


class Tokens(NamedTuple):
    """Completion tokens, three (n,) columns.

    Attributes:
        draft: Of the draft.
        deeper: Of the deeper branch.
        always: Of answering without a gate, always by the deeper branch.
    """

    draft: FloatArray
    deeper: FloatArray
    always: FloatArray

    def spent(self, accepted: BoolArray) -> FloatArray:
        """(n,) what a gate spends: every draft is paid for, and the deeper branch where it was not accepted."""
        return np.asarray(self.draft + np.where(accepted, 0.0, self.deeper))


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Recorded outcomes of n drafts.

    Attributes:
        correct: (n,) whether the draft was right.
        deeper_correct: (n,) whether the deeper branch was; None where not recorded.
        tokens: What both cost; None unless both were recorded and something was written.
    """

    correct: BoolArray
    deeper_correct: BoolArray | None
    tokens: Tokens | None

    @classmethod
    def of(cls, observations: Observations, *, deeper_includes_draft: bool) -> Outcomes:
        """Read them from records.

        Args:
            observations: The records.
            deeper_includes_draft: Whether always going deeper writes the draft as well, as refinement does that
                continues from it; otherwise the deeper branch is asked right away.
        """
        draft, deeper = observations.tokens, observations.deeper_tokens
        tokens = None
        if draft is not None and deeper is not None:
            tokens = Tokens(draft, deeper, draft + deeper if deeper_includes_draft else deeper)
        if tokens is not None and not tokens.always.any():
            tokens = None
        return cls(observations.correct, observations.deeper_correct, tokens)

    @property
    def gain(self) -> FloatArray | None:
        """(n,) right answers that accepting wins over going deeper: 1, 0 or -1; None without deeper outcomes."""
        if self.deeper_correct is None:
            return None
        return self.correct.astype(np.float64) - self.deeper_correct
