"""A gate's decision, the one object that travels with an answer; and what it saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from math import inf
from typing import Any, Literal
from uuid import uuid4

from ..calibration.profile import CalibrationProfile
from ..calls.usage import TokenUsage

#: Under this name the decision travels in an answer's metadata.
METADATA_KEY = "tje"
#: Which answer was taken.
Answerer = Literal["draft", "deeper", "human"]
#: Why a route was taken, for machines; ``GateDecision.detail`` says it in words.
Reason = Literal[
    "confident",
    "uncertain",
    "hopeless",
    "no_logprobs",
    "unreadable_logprobs",
    "too_few_tokens",
    "no_signal",
    "no_profile",
    "unusable_profile",
    "drifted",
    "other_settings",
    "branch_failed",
    "capped",
    "tool_call",
]
#: Whether savings were measured or estimated.
SavedBy = Literal["measured", "estimated"]


class Route(str, Enum):
    """Where a draft goes."""

    FINAL = "final"
    DEEPER = "deeper"
    ABSTAIN = "abstain"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class GateDecision:
    """What the gate decided about one draft, and on what grounds.

    Attributes:
        route: Where the draft goes.
        reason: Why, as one of a few words.
        detail: Why, as a sentence.
        signal: Name of the signal.
        signal_value: Its value for this draft, in its unit (bits for entropies); None where unknown.
        threshold: The value up to which drafts are accepted, same unit; None where there is none.
        method: The threshold method.
        tokens: Positions that the draft's logprobs cover (tokens); None where unknown.
        verdict: The profile's verdict; None without a profile.
        profile_version: The registry's version of the profile; None where it was not stored.
        stale: True where the registry could not be asked and the last profile seen was used.
        key: The profile's key in words: whose decision it is; None where nobody said.
        decision_id: Names this decision, such as in ``ledger.feedback(decision_id, correct=...)``; None where it is
            not one of a gate's.
        alarm: The kind of an alarm that was raised about the profile (``drift``, ``risk``); None: there is none.
        aborted: True where the draft was stopped before its end, because it was sure to be rejected; the signal's
            value is then a lower bound, and tokens counts what came.
        answered_by: Which answer was taken in the end; None before that is known. A draft that was to go deeper
            is the answer where the deeper branch failed or was not allowed to run.
        draft_usage: Tokens that the draft spent, all its model calls together; None where nobody counted.
        deeper_usage: The same of the deeper branch; None where it did not run or nobody counted.
    """

    route: Route
    reason: Reason
    detail: str
    signal: str
    method: str
    signal_value: float | None = None
    threshold: float | None = None
    tokens: int | None = None
    verdict: str | None = None
    profile_version: int | None = None
    stale: bool = False
    key: str | None = None
    decision_id: str | None = field(default=None, compare=False)
    alarm: str | None = None
    aborted: bool = False
    answered_by: Answerer | None = None
    draft_usage: TokenUsage | None = None
    deeper_usage: TokenUsage | None = None

    @property
    def accepted(self) -> bool:
        """Whether the draft is the answer."""
        return self.route is Route.FINAL

    @property
    def usage(self) -> TokenUsage | None:
        """What the answer cost, with a draft that was rejected for it; None where nobody counted."""
        counted = [usage for usage in (self.draft_usage, self.deeper_usage) if usage is not None]
        return sum(counted, TokenUsage()) if counted else None

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values, fit for JSON and for a message's metadata; usages are dicts of their own."""
        return {**asdict(self), "route": self.route.value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GateDecision:
        """The decision that ``as_dict`` gave; fields that are not known here are left out.

        Raises:
            ValueError: these are not the fields of a decision.
        """
        known: dict[str, Any] = {each.name: values[each.name] for each in fields(cls) if each.name in values}
        try:
            for name in ("draft_usage", "deeper_usage"):
                if known.get(name) is not None:
                    known[name] = TokenUsage(**known[name])
            return cls(**{**known, "route": Route(known.get("route"))})
        except (TypeError, ValueError) as error:
            raise ValueError(f"these are not the fields of a decision: {error}") from error


def new_decision_id() -> str:
    """A name that no other decision has, in whichever process."""
    return uuid4().hex


def decision_held(held: object) -> GateDecision | None:
    """The decision that an answer's metadata holds under its key; None where that is none that can be read.

    Example:
        >>> decision_held({"route": "final"}) is decision_held(None) is None
        True
    """
    if not isinstance(held, Mapping):
        return None
    try:
        return GateDecision.from_dict(held)
    except ValueError:  # written by another version; the draft is then taken as if nobody had decided
        return None


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
    """What a decision saved in tokens against always going deeper, as far as that is known.

    All counts are output tokens: tokens written, thinking included, as the records' ``tokens`` and ``deeper_tokens``
    are. With a draft of d tokens and a deeper branch of D, always going deeper costs D where the deeper branch stands
    alone, and d + D where it works on the draft (``deeper_includes_draft``). So that

    - a draft that went deeper has cost d more than always going deeper: -d; nothing more or less where that needs the
      draft too. Measured.
    - a draft that was accepted has saved D - d, or D. The deeper branch did not run, so D is what the profile's
      records lead to expect of drafts that this threshold accepts. Estimated; unknown where the records do not tell.
    - a draft that was given up as hopeless has saved the same tokens, if no answer: D is then the records' mean.
    - a deeper branch that failed would have failed without the gate as well: as one that answered.
    - where a cap kept the deeper branch from running, the cap has saved, not the gate: unknown, nothing is claimed.
    - a draft that nobody judged and that was accepted all the same is not of the kind that D is known for: unknown.
      So is one that was to go deeper and did not, or of which nobody has said yet what became of it.

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
