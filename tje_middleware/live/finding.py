"""What was found out about a live model."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

#: ``limited``: there, with something to know about it. ``missing``: not given. ``failed``: given in a form that is of
#: no use, or not found out.
Outcome = Literal["ok", "limited", "missing", "failed"]


@dataclass(frozen=True)
class Finding:
    """The answer to one question about a model.

    Attributes:
        check: What was looked at, in a word or three.
        outcome: How that stands.
        words: What was seen, as a sentence without its full stop.
        advice: What to do about it; empty where nothing is to be done.
    """

    check: str
    outcome: Outcome
    words: str
    advice: str = ""


@dataclass(frozen=True)
class LiveModel:
    """What a model behind an endpoint really returns.

    Attributes:
        model: Its name, as it was asked for.
        endpoint: Where it was asked, without credentials.
        findings: One for each question, in the order in which they were asked.
        top_k: Alternatives a position that the gate can have of it; None where it cannot be gated.
        verdict: Whether it can be gated, in words: ``yes``, ``with top_k=5``, ``no``, ...
        requests: How many requests that took.
    """

    model: str
    endpoint: str
    findings: tuple[Finding, ...]
    top_k: int | None
    verdict: str
    requests: int

    @property
    def can_be_gated(self) -> bool:
        """Whether a gate has anything to measure."""
        return self.top_k is not None

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, fit for JSON."""
        return {**asdict(self), "findings": [*map(asdict, self.findings)], "can_be_gated": self.can_be_gated}
