"""GateDecision, which travels with an answer, and the tokens that a decision saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from math import inf
from typing import Any, Literal
from uuid import uuid4

from ..calibration.profile import CalibrationProfile
from ..calls.usage import TokenUsage

#: The name of the decision in an answer's metadata.
METADATA_KEY = "tje"
#: Which answer was taken.
Answerer = Literal["draft", "deeper", "human"]
#: Why a route was taken; ``GateDecision.detail`` says it in words.
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
    """A gate's decision about one draft, and what it is based on.

    Attributes:
        route: Where the draft goes.
        reason: Why, as one of a few words.
        detail: Why, as a sentence.
        signal: Name of the signal.
        signal_value: The signal of this draft, in its unit (bits for entropies); None where unknown.
        threshold: The value up to which drafts are accepted, same unit; None where there is none.
        method: The threshold method.
        tokens: Positions that the draft's logprobs cover (tokens); None where unknown.
        verdict: The profile's verdict; None without a profile.
        profile_version: The registry's version of the profile; None where it was not stored.
        stale: True where the registry could not be asked and the last profile seen was used.
        key: The profile's key in words; None where it is unknown.
        decision_id: The id of this decision, as for ``ledger.feedback(decision_id, correct=...)``; None where no gate
            made it.
        alarm: The kind of an alarm that was raised about the profile (``drift``, ``risk``); None: there is none.
        aborted: True where the draft was stopped before its end, because it was sure to be rejected; the signal's
            value is then a lower bound, and ``tokens`` counts those that came.
        answered_by: Which answer was taken in the end; None before that is known. A draft that was to go deeper
            is the answer where the deeper branch failed or was not allowed to run.
        draft_usage: Tokens that the draft spent, in all its model calls; None where they were not counted.
        deeper_usage: Tokens that the deeper branch spent; None where it did not run or they were not counted.
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
        """Tokens of the answer, a rejected draft included; None where they were not counted."""
        counted = [usage for usage in (self.draft_usage, self.deeper_usage) if usage is not None]
        return sum(counted, TokenUsage()) if counted else None

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values, fit for JSON and for a message's metadata; usages are dicts of their own."""
        return {**asdict(self), "route": self.route.value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GateDecision:
        """The decision that ``as_dict`` wrote; fields of another release are left out.

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
    """A new id, different from that of any decision in any process."""
    return uuid4().hex


def decision_held(held: object) -> GateDecision | None:
    """The decision in an answer's metadata; None where there is none that can be read.

    Example:
        >>> decision_held({"route": "final"}) is decision_held(None) is None
        True
    """
    if not isinstance(held, Mapping):
        return None
    try:
        return GateDecision.from_dict(held)
    except ValueError:  # written by another release; the draft is then treated as undecided
        return None


@dataclass(frozen=True)
class Savings:
    """The tokens that one decision saved.

    Attributes:
        tokens: Output tokens saved against always going deeper, negative where the gate cost more; None: unknown.
        by: Whether ``tokens`` was measured or estimated; None where it is unknown.
    """

    tokens: float | None = None
    by: SavedBy | None = None


_UNKNOWN = Savings()


def savings_of(
    decision: GateDecision, profile: CalibrationProfile | None = None, *, deeper_includes_draft: bool = False
) -> Savings:
    """The tokens that a decision saved against always going deeper, as far as that is known.

    All counts are output tokens: tokens written, thinking included, as the records' ``tokens`` and ``deeper_tokens``
    are. With a draft of d tokens and a deeper branch of D, always going deeper costs D where the deeper branch starts
    from the question, and d + D where it starts from the draft (``deeper_includes_draft``). So:

    - A draft that went deeper saved -d, as it cost d more than always going deeper; 0 with ``deeper_includes_draft``.
      Measured.
    - A draft that was accepted saved D - d; D with ``deeper_includes_draft``. The deeper branch did not run, so D is
      its mean over the profile's records that this threshold accepts. Estimated; unknown where the records lack it.
    - A draft that was given up as hopeless saved the same, with D as the mean over all records.
    - A deeper branch that failed would have failed without the gate as well, so it counts like one that answered.
    - Where a cap kept the deeper branch from running, the cap saved tokens, not the gate: unknown.
    - A draft that was accepted without being judged is not one of those that D is known for: unknown. So is a draft
      that was to go deeper and did not, and one whose answer is not known yet.

    Where the usage of some calls is only partly known, d is a lower bound, and the saving an upper one.

    Args:
        decision: The settled decision.
        profile: The profile that it was decided by.
        deeper_includes_draft: Whether always going deeper costs the draft as well, as a refinement does.
    """
    spent = 0.0 if deeper_includes_draft else draft_tokens(decision)
    if spent is None:
        return _UNKNOWN
    if decision.answered_by == "deeper" or decision.reason == "branch_failed":
        is_counted = deeper_includes_draft or decision.draft_usage is not None
        return Savings(0.0 - spent, "measured" if is_counted else "estimated")
    if decision.route is Route.ABSTAIN:
        up_to: float | None = inf
    elif decision.route is Route.FINAL and decision.reason == "confident":
        up_to = decision.threshold
    else:
        return _UNKNOWN
    avoided = None if profile is None or up_to is None else profile.expected_deeper_tokens(up_to)
    return _UNKNOWN if avoided is None else Savings(avoided - spent, "estimated")


def draft_tokens(decision: GateDecision) -> float | None:
    """Output tokens of a draft: as counted, else those that its logprobs cover."""
    if decision.draft_usage is not None:
        return float(decision.draft_usage.output_tokens)
    return None if decision.tokens is None else float(decision.tokens)
