"""Where a gate gets its profile from: given to it, or the newest of a registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .alarms import Alarm
from .decision import GateDecision
from .profile import CalibrationProfile, ProfileKey, ProfileLookup


class ProfileSource(Protocol):
    """Where a gate gets its profile from."""

    @property
    def key(self) -> ProfileKey:
        """The key whose profile it answers with."""
        ...

    def lookup(self) -> ProfileLookup:
        """The profile as it is now; never raises."""
        ...


class ProfileStore(Protocol):
    """What a gate needs of a registry."""

    def lookup(self, key: ProfileKey) -> ProfileLookup:
        """The active profile of a key; answers from memory where it can, and never raises."""
        ...

    def report_alarm(self, key: ProfileKey, alarm: Alarm) -> None:
        """Have an alarm about a version of a key stored, soon and for all processes; never waits, never raises."""
        ...


class DecisionSink(Protocol):
    """Where decisions are written down."""

    def record(
        self,
        decision: GateDecision,
        *,
        profile: CalibrationProfile | None = None,
        latency_seconds: float | None = None,
        draft_model: str | None = None,
        deeper_model: str | None = None,
        prompt: str | None = None,
        answer: str | None = None,
    ) -> None:
        """Have a decision stored, soon; the last one of a ``decision_id`` counts. Never waits, never raises.

        Args:
            decision: The gate's, as far as it is settled.
            profile: What it was decided by.
            latency_seconds: From the question to the answer (seconds).
            draft_model: The model that wrote the draft.
            deeper_model: The model that wrote the deeper answer.
            prompt: What was asked; kept only where texts are switched on.
            answer: What was answered; likewise.
        """
        ...


@dataclass(frozen=True)
class FixedProfile:
    """The source of a gate that was given its profile."""

    profile: CalibrationProfile

    @property
    def key(self) -> ProfileKey:
        """As the profile says."""
        return self.profile.key

    def lookup(self) -> ProfileLookup:
        """The profile."""
        return ProfileLookup(self.profile)


@dataclass(frozen=True)
class StoredProfile:
    """The source of a gate that follows a registry."""

    store: ProfileStore
    key: ProfileKey

    def lookup(self) -> ProfileLookup:
        """The newest one of the store."""
        return self.store.lookup(self.key)
