"""What is raised when live drafts are not those that a profile was calibrated on, or a promise of it is not kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Literal

#: ``drift``: the signal is distributed otherwise than in the profile's records. ``risk``: more of the accepted
#: drafts are wrong than the method promised.
AlarmKind = Literal["drift", "risk"]


@dataclass(frozen=True)
class Alarm:
    """One alarm about one profile; it holds until it is dismissed or another version is promoted.

    Attributes:
        kind: What is wrong.
        detail: The same as a sentence, with the numbers that it rests on.
        version: The registry's version of the profile; None where it was not stored.
        raised_at: When.
        raised_by: Host and process.
        evidence: The numbers by name.
    """

    kind: AlarmKind
    detail: str
    version: int | None = None
    raised_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    raised_by: str = ""
    evidence: Mapping[str, float] = field(default_factory=dict)
