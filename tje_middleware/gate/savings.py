"""Tokens that a gate saved against always going deeper.

All counts are output tokens: tokens written, thinking included, as the records' ``tokens`` and ``deeper_tokens`` are.
With a draft of d tokens and a deeper branch of D, always going deeper costs D where the deeper branch stands alone,
and d + D where it works on the draft (``deeper_includes_draft``). So that

- a draft that went deeper has cost d more than always going deeper: -d; nothing more or less where that needs the
  draft too. Measured.
- a draft that was accepted has saved D - d, or D. The deeper branch did not run, so D is what the profile's records
  lead to expect of drafts that this threshold accepts. Estimated; unknown where the records do not tell.
- a draft that was given up as hopeless has saved the same tokens, if no answer: D is then the records' mean.
- a deeper branch that failed would have failed without the gate as well: as one that answered.
- where a cap kept the deeper branch from running, the cap has saved, not the gate: unknown, nothing is claimed.
- a draft that nobody judged and that was accepted all the same is not of the kind that D is known for: unknown. So
  is one that was to go deeper and did not, or of which nobody has said yet what became of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Literal

from ..calibration.profile import CalibrationProfile
from .decision import GateDecision, Route

SavedBy = Literal["measured", "estimated"]


@dataclass(frozen=True)
class Savings:
    """What one decision saved.

    Attributes:
        tokens: Output tokens saved against always going deeper, negative where the gate cost more; None: unknown.
        by: Whether it was measured or estimated; None where it is unknown.
    """

    tokens: float | None = None
    by: SavedBy | None = None


_UNKNOWN = Savings()


def savings_of(
    decision: GateDecision, profile: CalibrationProfile | None = None, *, deeper_includes_draft: bool = False
) -> Savings:
    """What a decision saved, as far as that is known.

    Where the usage of some calls is only partly known, d is a lower bound and what was saved an upper one.

    Args:
        decision: As it was settled.
        profile: What it was decided by.
        deeper_includes_draft: Whether always going deeper costs the draft too, as a refinement does.
    """
    if decision.answered_by == "deeper" or decision.reason == "branch_failed":
        return _of_deeper(decision, deeper_includes_draft)
    if decision.route is Route.FINAL and decision.reason == "confident":
        return _of_none(decision, profile, decision.threshold, deeper_includes_draft)
    if decision.route is Route.ABSTAIN:
        return _of_none(decision, profile, inf, deeper_includes_draft)
    return _UNKNOWN


def _of_deeper(decision: GateDecision, includes_draft: bool) -> Savings:
    """The deeper branch ran."""
    if includes_draft:
        return Savings(0.0, "measured")
    if decision.draft_usage is not None:
        return Savings(-float(decision.draft_usage.output_tokens), "measured")
    return Savings(-float(decision.tokens), "estimated") if decision.tokens is not None else _UNKNOWN


def _of_none(
    decision: GateDecision, profile: CalibrationProfile | None, up_to: float | None, includes_draft: bool
) -> Savings:
    """The deeper branch did not run."""
    if profile is None or up_to is None:
        return _UNKNOWN
    avoided = profile.expected_deeper_tokens(up_to)
    spent = 0.0 if includes_draft else draft_tokens(decision)
    return _UNKNOWN if avoided is None or spent is None else Savings(avoided - spent, "estimated")


def draft_tokens(decision: GateDecision) -> float | None:
    """Output tokens of a draft: those its calls were counted with, else those that its logprobs cover."""
    if decision.draft_usage is not None:
        return float(decision.draft_usage.output_tokens)
    return None if decision.tokens is None else float(decision.tokens)
