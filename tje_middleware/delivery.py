"""After the decision: which answer is delivered, and what it says of a deeper branch that did not run or failed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from .decision import GateDecision, Route
from .gate import EntropyGate
from .usage import TokenUsage

#: How a draft is treated while it is written. ``hold``: nobody sees it before it is accepted. ``annotate``: it
#: passes through, is the answer whatever the gate decides, and carries the decision. ``abort``: held, and the
#: request is cancelled as soon as the draft is sure to be rejected.
Mode = Literal["hold", "annotate", "abort"]
#: When the deeper branch fails: return the draft and say so, or raise.
OnBranchError = Literal["draft", "raise"]


@dataclass(frozen=True)
class Delivery:
    """The rules by which one gate's decisions are carried out.

    Attributes:
        gate: Whose decisions.
        mode: How drafts are treated while they are written.
        on_branch_error: What to do when the deeper branch fails.
    """

    gate: EntropyGate
    mode: Mode = "hold"
    on_branch_error: OnBranchError = "draft"

    def goes_deeper(self, decision: GateDecision) -> bool:
        """Whether the deeper branch is to run."""
        # A cap says so in the reason; the route stays what the gate would have liked.
        return decision.route is Route.DEEPER and decision.reason != "capped" and self.mode != "annotate"

    def with_draft(self, decision: GateDecision, usage: TokenUsage | None) -> GateDecision:
        """The decision of an answer that is the draft."""
        return replace(decision, answered_by="draft", draft_usage=usage)

    def with_deeper(
        self, decision: GateDecision, draft_usage: TokenUsage | None, deeper_usage: TokenUsage | None
    ) -> GateDecision:
        """The decision of an answer that the deeper branch gave."""
        return replace(decision, answered_by="deeper", draft_usage=draft_usage, deeper_usage=deeper_usage)

    def capped(self, decision: GateDecision, cap: str) -> GateDecision:
        """The decision where a cap keeps the deeper branch from running.

        Args:
            decision: One whose route is deeper.
            cap: The cap in words, such as "max_deeper_per_run=3".
        """
        return replace(decision, reason="capped", detail=f"{decision.detail}; {cap} is reached, so this is the draft")

    def after_failure(self, decision: GateDecision, error: Exception) -> GateDecision:
        """The decision where the deeper branch failed and the draft takes its place.

        Raises:
            Exception: the error itself, where that is the policy or the draft was stopped before its end: half an
                answer is none.
        """
        if self.on_branch_error == "raise" or decision.aborted:
            raise error
        # The error's kind alone: its text may quote the prompt or the answer, and decisions are kept.
        failed = f"the deeper branch failed ({type(error).__name__}), so this is the draft"
        self.gate.say_once("branch_failed", f"{failed}: {str(error)[:200]}")
        return replace(decision, reason="branch_failed", detail=f"{decision.detail}; {failed}")
