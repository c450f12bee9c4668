"""A gate's decision: the one object that travels with an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from typing import Any, Literal
from uuid import uuid4

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
