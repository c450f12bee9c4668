"""Where a gate gets its profile from: given to it, or the newest of a registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from ..calibration.key import ProfileKey
from ..calibration.profile import Alarm, CalibrationProfile
from .decision import GateDecision


class ProfileSource(Protocol):
    """Where a gate gets its profile from."""

    @property
    def key(self) -> ProfileKey:
        """The key whose profile it answers with."""
        ...

    @property
    def keeps_alarms(self) -> bool:
        """Whether look-ups show an alarm from when it was reported until it is dismissed."""
        ...

    def lookup(self) -> ProfileLookup:
        """The profile as it is now; never raises."""
        ...

    async def ready(self) -> None:
        """Have the profile at hand for the next look-up, without holding the event loop up; never raises."""
        ...

    def report_alarm(self, alarm: Alarm) -> None:
        """Tell whoever else has a profile from there of an alarm about it; never waits, never raises."""
        ...


class ProfileStore(Protocol):
    """What a gate needs of a registry."""

    def lookup(self, key: ProfileKey) -> ProfileLookup:
        """The active profile of a key; answers from memory where it can, and never raises."""
        ...

    async def alookup(self, key: ProfileKey) -> ProfileLookup:
        """The same without holding the event loop up."""
        ...

    def report_alarm(self, key: ProfileKey, alarm: Alarm) -> None:
        """Have an alarm about a version of a key stored, soon and for all processes; never waits, never raises.

        Under an alias the profile is another key's.
        """
        ...


class DecisionSink(Protocol):
    """Where decisions are written down.

    Attributes:
        texts: Whether prompts and answers are kept there; False is what users expect.
    """

    texts: bool

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
        risk_limit: float | None = None,
        deeper_includes_draft: bool | None = None,
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
            risk_limit: Share of the drafts accepted like this that may be wrong (0 to 1); None: no promise.
            deeper_includes_draft: Whether always going deeper costs the draft too, as where the deeper branch refines
                it.
        """
        ...


@dataclass(frozen=True)
class FixedProfile:
    """The source of a gate that was given its profile."""

    profile: CalibrationProfile

    keeps_alarms: ClassVar[bool] = False

    @property
    def key(self) -> ProfileKey:
        """As the profile says."""
        return self.profile.key

    def lookup(self) -> ProfileLookup:
        """The profile."""
        return ProfileLookup(self.profile)

    async def ready(self) -> None:
        """It always is."""

    def report_alarm(self, alarm: Alarm) -> None:
        """Nobody else has it from here."""


@dataclass(frozen=True)
class StoredProfile:
    """The source of a gate that follows a registry."""

    store: ProfileStore
    key: ProfileKey
    keeps_alarms: ClassVar[bool] = True

    def lookup(self) -> ProfileLookup:
        """The active one of the store."""
        return self.store.lookup(self.key)

    async def ready(self) -> None:
        """Asks the store, the first time."""
        await self.store.alookup(self.key)

    def report_alarm(self, alarm: Alarm) -> None:
        """Through the store, to all processes that share it."""
        self.store.report_alarm(self.key, alarm)


@dataclass(frozen=True)
class ProfileLookup:
    """What a store answers on the decision path, where it must not raise.

    Attributes:
        profile: The profile, or None where there is none to be had.
        stale: True where the store could not be asked and this is the last profile seen.
        problem: Why the profile is missing or stale; None when all is well.
        alarm: The newest alarm about this version of it that nobody has dismissed; None: there is none.
        names: Other names of the profile's model, declared as aliases of it.
    """

    profile: CalibrationProfile | None
    stale: bool = False
    problem: str | None = None
    alarm: Alarm | None = None
    names: frozenset[str] = frozenset()
