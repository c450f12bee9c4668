"""Delivery: which answer is delivered after a decision, and what the decision then says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, Protocol, get_args

from ..calls.usage import TokenUsage
from ..errors import described, require_one_of
from .decision import GateDecision, Route
from .gate import EntropyGate
from .stopping.watch import RejectionWatch, obstacle_to_stopping

#: How a draft is treated while it is written. ``hold``: nobody sees it before it is accepted. ``annotate``: it
#: passes through, is the answer whatever the gate decides, and carries the decision. ``abort``: held, and the
#: request is cancelled as soon as the draft is sure to be rejected.
Mode = Literal["hold", "annotate", "abort"]
#: What to do when the deeper branch fails: return the draft with a warning, or raise.
OnBranchError = Literal["draft", "raise"]
#: What to do with a draft that calls tools. ``gate``: judged like any other. ``pass``: accepted unjudged.
#: ``deeper_on_unknown``: judged where there are logprobs, and deeper where there are none, whatever the gate says.
ToolCalls = Literal["gate", "pass", "deeper_on_unknown"]

_UNJUDGED_CALL = "a call of tools, which tool_calls='pass' accepts unjudged"


class DeeperBranch(Protocol):
    """A deeper branch, as far as a gate needs it."""

    @property
    def needs_draft(self) -> bool:
        """Whether the branch cannot answer without the draft."""

    @property
    def includes_draft(self) -> bool:
        """Whether always going deeper costs the draft as well."""


@dataclass(frozen=True)
class Delivery:
    """The rules by which one gate's decisions are carried out.

    Attributes:
        gate: The gate that makes the decisions.
        mode: How drafts are treated while they are written.
        on_branch_error: What to do when the deeper branch fails.
        tool_calls: What to do with drafts that call tools.
        branch: The deeper branch; None where the gate does not know it.

    Raises:
        TypeError: the gate is no EntropyGate.
        ValueError: an option that does not exist.
    """

    gate: EntropyGate
    mode: Mode = "hold"
    on_branch_error: OnBranchError = "draft"
    tool_calls: ToolCalls = "gate"
    branch: DeeperBranch | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.gate, EntropyGate):
            raise TypeError(f"gate must be an EntropyGate, not {described(self.gate)}")
        require_one_of("mode", self.mode, get_args(Mode))
        require_one_of("on_branch_error", self.on_branch_error, get_args(OnBranchError))
        require_one_of("tool_calls", self.tool_calls, get_args(ToolCalls))

    def mode_for(self, *, may_call_tools: bool, capped: bool = False) -> Mode:
        """How one draft is treated while it is written."""
        if self.mode != "abort":
            return self.mode
        # A draft is not stopped where a cap keeps the deeper branch from running, where it may turn out to be a tool
        # call that is accepted unjudged, and where the branch needs it.
        may_pass = self.tool_calls == "pass" and may_call_tools
        return "hold" if capped or may_pass or self.needs_draft else "abort"

    @property
    def needs_draft(self) -> bool:
        """Whether the deeper branch cannot answer without the draft."""
        return self.branch is not None and self.branch.needs_draft

    def passed(self, *, calls_tools: bool) -> GateDecision | None:
        """The decision about a draft that is accepted unjudged; None for one to be judged."""
        if not calls_tools or self.tool_calls != "pass":
            return None
        return self.gate.passed("tool_call", _UNJUDGED_CALL)

    def gate_for(self, *, calls_tools: bool) -> EntropyGate:
        """The gate that judges a draft."""
        if calls_tools and self.tool_calls == "deeper_on_unknown":
            return self.gate.with_on_missing("deeper")
        return self.gate

    def goes_deeper(self, decision: GateDecision) -> bool:
        """Whether the deeper branch is to run."""
        # Where a cap is reached only the reason says so; the route is still deeper.
        return decision.route is Route.DEEPER and decision.reason != "capped" and self.mode != "annotate"

    def route_left(self, decision: GateDecision) -> Route:
        """The route of an answer with this decision that comes to the gate again, or to a later step.

        It is final once the deeper branch was tried.
        """
        tried = decision.answered_by in {"deeper", "human"} or decision.reason in {"branch_failed", "capped"}
        return Route.FINAL if tried else decision.route

    def announced(self, decision: GateDecision, draft_usage: TokenUsage | None) -> GateDecision:
        """The decision as it is announced before the deeper branch runs; where none runs, the draft is the answer."""
        # For a draft that is given up answered_by stays None: an outer gate must not take it for accepted.
        settled = decision.accepted or (decision.route is Route.DEEPER and not self.goes_deeper(decision))
        return self.with_draft(decision, draft_usage) if settled else decision

    def handed_on(self, decision: GateDecision, draft_usage: TokenUsage | None, *, hands_over: bool) -> GateDecision:
        """The decision in a draft that goes on to other steps; a step that answers instead needs the draft's usage.

        Args:
            decision: The gate's decision.
            draft_usage: Tokens that the draft spent.
            hands_over: Whether a draft that is given up is handed over to somebody; if not, it is the answer.
        """
        if decision.accepted or (decision.route is Route.ABSTAIN and not hands_over):
            return self.with_draft(decision, draft_usage)
        return replace(decision, draft_usage=draft_usage)

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
            decision: A decision whose route is deeper.
            cap: The cap in words, such as "max_deeper_per_run=3".
        """
        return replace(decision, reason="capped", detail=f"{decision.detail}; {cap} is reached, so this is the draft")

    def after_failure(self, decision: GateDecision, error: Exception) -> GateDecision:
        """The decision where the deeper branch failed and the draft takes its place.

        Raises:
            Exception: the error itself, where that is the policy, or where the draft was stopped before its end and
                is no answer.
        """
        if self.on_branch_error == "raise" or decision.aborted:
            raise error
        # Only the error's class: its text may quote the prompt or the answer, and decisions are stored.
        failed = f"the deeper branch failed ({type(error).__name__}), so this is the draft"
        self.gate.say_once("branch_failed", f"{failed}: {str(error)[:200]}")
        return replace(decision, reason="branch_failed", detail=f"{decision.detail}; {failed}")


def watch_for(
    gate: EntropyGate, *, limits: Iterable[object], model: str | None, temperature: float | None
) -> RejectionWatch | None:
    """A watch over one draft; None where it could never reject, with a warning, once, that says why.

    Args:
        gate: The gate that will decide about the draft.
        limits: All limits of the draft's length (tokens), wherever they were set; values other than positive ints are
            ignored.
        model: The model that writes the draft, where known.
        temperature: Its sampling temperature, where known.
    """
    # The largest limit, as it is unknown which of several the provider applies.
    limit = max((each for each in limits if isinstance(each, int) and each > 0), default=None)
    watch = gate.watch(max_tokens=limit, model=model, temperature=temperature)
    if watch.can_fire:
        return watch
    profile = gate.profile()
    obstacle = obstacle_to_stopping(profile.signal, max_tokens=limit) if profile is not None else None
    if obstacle is not None:
        gate.say_once("abort", f"mode='abort' cannot stop drafts, and holds them: {obstacle}")
    return None
