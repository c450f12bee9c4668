"""Where a gate gets its profile from: given to it, or the newest of a registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

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
        """The newest profile of a key; answers from memory where it can, and never raises."""
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
