"""Every key of a registry at one moment: what is active, what waits, and what is wrong with it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select

from ..database import Database, Read
from ..database.schema import ALARMS, KEYS, PROFILES, PROMOTIONS
from ..errors import RegistryDamaged
from ..keys import ProfileKey
from ..profile import CalibrationProfile
from . import _versions


@dataclass(frozen=True)
class KeyOverview:
    """One key with its versions.

    Attributes:
        key: None for one that this release cannot read.
        name: The key in words, or as it is stored where it cannot be read.
        active_version: None where there are candidates only.
        active: The active profile; None where there is none or it cannot be read.
        problem: Why the active profile cannot be read; None where it can.
        versions: The numbers of all versions, ascending.
        candidates: Those of versions after the active one that have never been active.
        alarms: How many alarms about the active version nobody has dismissed.
    """

    key: ProfileKey | None
    name: str
    active_version: int | None
    active: CalibrationProfile | None
    problem: str | None
    versions: tuple[int, ...]
    candidates: tuple[int, ...]
    alarms: int


@dataclass(frozen=True)
class StoredKey:
    """One key, without what its profiles say.

    Attributes:
        key: The key.
        active_version: None where there are candidates only.
        versions: The numbers of all versions, ascending.
        candidates: Those of versions after the active one that have never been active.
    """

    key: ProfileKey
    active_version: int | None
    versions: tuple[int, ...]
    candidates: tuple[int, ...]


def stored_keys(database: Database) -> Sequence[StoredKey]:
    """Every key that has a version and can be read; its profiles need not.

    Raises:
        RegistryUnavailable, RegistryDamaged, SchemaMismatch: as :func:`overview`.
    """
    with database.reading() as read:
        numbers = _numbers(read)
    return [
        StoredKey(key, of.active, of.versions, of.candidates)
        for canonical, of in numbers.items()
        if (key := _versions.key_of(canonical)) is not None
    ]


def overview(database: Database) -> Sequence[KeyOverview]:
    """Every key that has a version, ordered by key; one that cannot be read hides no other.

    Raises:
        RegistryUnavailable: the database cannot be read.
        RegistryDamaged: it is no registry.
        SchemaMismatch: its tables are those of another release.
    """
    with database.reading() as read:
        numbers = _numbers(read)
        bodies = {row.key: row for row in _versions.every_active(read)}
        raised = read(select(ALARMS.c.key, ALARMS.c.version).where(ALARMS.c.dismissed_at.is_(None)))
    alarms = Counter((row.key, row.version) for row in raised)
    found = []
    for canonical, of in numbers.items():
        key = _versions.key_of(canonical)
        profile, problem = None, None
        if canonical in bodies:
            try:
                profile = _versions.profile_of(bodies[canonical], database.url.shown)
            except RegistryDamaged as error:
                problem = str(error)
        found.append(
            KeyOverview(
                key=key,
                name=canonical if key is None else str(key),
                active_version=of.active,
                active=profile,
                problem=problem,
                versions=of.versions,
                candidates=of.candidates,
                alarms=alarms[canonical, of.active],
            )
        )
    return sorted(found, key=lambda one: one.name)


@dataclass(frozen=True)
class _Numbers:
    """The versions of a key."""

    active: int | None
    versions: tuple[int, ...]
    candidates: tuple[int, ...]


def _numbers(read: Read) -> Mapping[str, _Numbers]:
    """The versions of every key that has one, by key."""
    active = {row.key: row.active_version for row in read(select(KEYS.c.key, KEYS.c.active_version))}
    promoted = {(row.key, row.to_version) for row in read(select(PROMOTIONS.c.key, PROMOTIONS.c.to_version))}
    versions: defaultdict[str, list[int]] = defaultdict(list)
    for row in read(select(PROFILES.c.key, PROFILES.c.version).order_by(PROFILES.c.key, PROFILES.c.version)):
        versions[row.key].append(row.version)
    return {
        key: _Numbers(
            active=(now := active.get(key)),
            versions=tuple(numbers),
            candidates=tuple(n for n in numbers if n > (now or 0) and (key, n) not in promoted),
        )
        for key, numbers in versions.items()
    }
