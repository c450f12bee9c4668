"""What there is for keys, in one reading: aliases followed, alarms seen, and a way out where there is nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, func, select

from ..database import Read
from ..database.schema import ALARMS, KEYS, PROFILES
from ..errors import ProfileNotFound, RegistryDamaged
from ..keys import ProfileKey
from ..profile import ProfileLookup
from . import _aliases, _versions
from ._absence import counted, problems
from ._alarms import alarm_of
from ._among import among
from ._parsing import Parsing


def look(
    read: Read, keys: Collection[ProfileKey], parsing: Parsing, shown: str
) -> Mapping[ProfileKey, ProfileLookup | RegistryDamaged]:
    """The active profile of each key, or of the model that its model is an alias of; few queries for many keys.

    A key with nothing is an answer: ``problem`` says what to do. One whose profile cannot be read hides no other.

    Args:
        read: Of one reading.
        keys: Of whom.
        parsing: Knows the profiles of readings before.
        shown: The database, for the problems.
    """
    aliases = _aliases.all_of(read)
    behind = {key: key.model_copy(update={"model": aliases[key.model]}) for key in keys if key.model in aliases}
    names: defaultdict[str, set[str]] = defaultdict(set)
    for alias, model in aliases.items():
        names[model].add(alias)
    active = _active(read, {*keys, *behind.values()})
    found: dict[ProfileKey, ProfileLookup | RegistryDamaged] = {}
    for key in keys:
        for candidate in (key, behind.get(key)):
            if candidate is not None and (row := active.get(_versions.canonical(candidate))) is not None:
                found[key] = _answer(row, names[candidate.model], parsing, shown)
                break
    missing = [key for key in keys if key not in found]
    found.update(
        {key: ProfileLookup(None, problem=why) for key, why in problems(read, missing, behind, shown).items()}
    )
    return found


def one(read: Read, key: ProfileKey, version: int, shown: str) -> Row[Any]:
    """The row of one version of a key, or of the model that its model is an alias of.

    Raises:
        ProfileNotFound: there is none; the message says which there are.
    """
    named = _aliases.key_behind(read, key)
    for candidate in [key, *([named] if named else [])]:
        if row := _versions.one(read, candidate, version):
            return row
        if there := _versions.numbers(read, candidate):
            raise no_version(candidate, version, there, shown)
    raise _absent(read, key, named, shown, version)


def no_version(key: ProfileKey, version: int, there: Sequence[int], shown: str) -> ProfileNotFound:
    """The error for a version that there is not."""
    return ProfileNotFound(f"{shown} has no version {version} of a profile for {key}; it has {counted(there)}")


def nothing(read: Read, key: ProfileKey, shown: str) -> ProfileNotFound:
    """The error for a key of which there is no version; to change one, it is named by its own name."""
    named = _aliases.key_behind(read, key)
    if named is not None and _versions.numbers(read, named):
        return ProfileNotFound(
            f"{shown} has no profile for {key}; {key.model!r} is an alias of {named.model!r}: name that model"
        )
    return _absent(read, key, named, shown)


def _absent(
    read: Read, key: ProfileKey, named: ProfileKey | None, shown: str, version: int | None = None
) -> ProfileNotFound:
    return ProfileNotFound(problems(read, [key], {key: named} if named else {}, shown, version)[key])


def _active(read: Read, keys: Collection[ProfileKey]) -> Mapping[str, Row[Any]]:
    """The rows of the active versions of these keys, each with the newest alarm about it, by key."""
    newest = (
        select(func.max(ALARMS.c.id))
        .where(
            ALARMS.c.key == KEYS.c.key,
            ALARMS.c.version == KEYS.c.active_version,
            ALARMS.c.dismissed_at.is_(None),
        )
        .correlate(KEYS)
        .scalar_subquery()
    )
    wanted = (
        _versions.select_active()
        .add_columns(*(column for column in ALARMS.c if column.name not in PROFILES.c))
        .outerjoin(ALARMS, ALARMS.c.id == newest)
    )
    return {row.key: row for row in among(read, wanted, KEYS.c.key, keys)}


def _answer(row: Row[Any], names: Collection[str], parsing: Parsing, shown: str) -> ProfileLookup | RegistryDamaged:
    try:
        alarm = alarm_of(row, shown) if row.id is not None else None
        return ProfileLookup(parsing.profile_of(row, shown), alarm=alarm, names=frozenset(names))
    except RegistryDamaged as error:
        return error
