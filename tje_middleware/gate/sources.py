"""Sources of a gate's profile: one that was given to it, or the active one of a registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from ..calibration.key import ProfileKey
from ..calibration.profile import Alarm, CalibrationProfile


class ProfileSource(Protocol):
    """The source of a gate's profile."""

    @property
    def key(self) -> ProfileKey:
        """The key of the profile."""

    @property
    def keeps_alarms(self) -> bool:
        """Whether look-ups return a reported alarm until it is dismissed."""

    def lookup(self) -> ProfileLookup:
        """The profile as it is now; never raises."""

    async def ready(self) -> None:
        """Fetch the profile for the next look-up without blocking the event loop; never raises."""

    def report_alarm(self, alarm: Alarm) -> None:
        """Report an alarm about the profile to all gates that use this source; never waits, never raises."""


class ProfileStore(Protocol):
    """A registry, as far as a gate needs it."""

    def lookup(self, key: ProfileKey) -> ProfileLookup:
        """The active profile of a key; answers from memory where it can, and never raises."""

    async def alookup(self, key: ProfileKey) -> ProfileLookup:
        """The same without blocking the event loop."""

    def report_alarm(self, key: ProfileKey, alarm: Alarm) -> None:
        """Store an alarm about a version of a key soon, for all processes; never waits, never raises.

        Where the key's model is an alias, the alarm is about the profile of the other key.
        """


@dataclass(frozen=True)
class FixedProfile:
    """The source of a gate that was given its profile."""

    profile: CalibrationProfile

    keeps_alarms: ClassVar[bool] = False

    @property
    def key(self) -> ProfileKey:
        """The profile's key."""
        return self.profile.key

    def lookup(self) -> ProfileLookup:
        """The profile."""
        return ProfileLookup(self.profile)

    async def ready(self) -> None:
        """Nothing is to be fetched."""

    def report_alarm(self, alarm: Alarm) -> None:
        """No other gate uses this source."""


@dataclass(frozen=True)
class StoredProfile:
    """The source of a gate that follows a registry."""

    store: ProfileStore
    key: ProfileKey
    keeps_alarms: ClassVar[bool] = True

    def lookup(self) -> ProfileLookup:
        """The active profile of the store."""
        return self.store.lookup(self.key)

    async def ready(self) -> None:
        """Fetch the profile from the store, where it is not known yet."""
        await self.store.alookup(self.key)

    def report_alarm(self, alarm: Alarm) -> None:
        """Report the alarm to all processes that share the store."""
        self.store.report_alarm(self.key, alarm)


@dataclass(frozen=True)
class ProfileLookup:
    """The result of a look-up, which must not raise on the decision path.

    Attributes:
        profile: The profile; None where there is none.
        stale: True where the store could not be asked and this is the last profile seen.
        problem: Why the profile is missing or stale; None when all is well.
        alarm: The newest alarm about this version that was not dismissed; None: there is none.
        names: Aliases of the profile's model.
    """

    profile: CalibrationProfile | None
    stale: bool = False
    problem: str | None = None
    alarm: Alarm | None = None
    names: frozenset[str] = frozenset()
