"""Where a gate gets its profile from: given to it, or the newest of a registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from ..calibration.key import ProfileKey
from ..calibration.profile import Alarm, CalibrationProfile


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
