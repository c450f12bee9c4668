"""What there is for a key, in one reading: aliases followed, alarms seen, and a way out where there is nothing."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, func, select

from ..database import Read
from ..database.schema import ALARMS, ALIASES, KEYS, PROFILES
from ..errors import ProfileNotFound
from ..keys import ProfileKey, same_model
from ..profile import ProfileLookup
from . import _aliases, _versions
from ._alarms import alarm_of

# Where a key has no profile, so many of the others are looked through for the one that may have been meant.
_MOST_KEYS = 1000


def look(read: Read, key: ProfileKey, shown: str) -> ProfileLookup:
    """The active profile of a key, or of the model that its model is an alias of.

    A key with nothing is an answer: ``problem`` says what to do.

    Args:
        read: Of one reading.
        key: Of whom.
        shown: The database, for the problem.

    Raises:
        RegistryDamaged: the profile cannot be read.
    """
    rows = _active(read, key)
    if not rows and (named := _aliases.key_behind(read, key)) is not None:
        rows = _active(read, named)
    if not rows:
        return ProfileLookup(None, problem=_nothing(read, key, shown))
    first = rows[0]
    return ProfileLookup(
        _versions.profile_of(first, shown),
        alarm=alarm_of(first) if first.id is not None else None,
        names=frozenset(row.alias for row in rows if row.alias is not None),
    )


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
    raise ProfileNotFound(_nothing(read, key, shown, version))


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
    return ProfileNotFound(_nothing(read, key, shown))


def counted(versions: Sequence[int]) -> str:
    """Version numbers in words; of many, the first and the last."""
    if len(versions) > 6:
        return f"versions {versions[0]} to {versions[-1]}"
    return f"version{'s' if len(versions) > 1 else ''} {', '.join(map(str, versions))}"


def _active(read: Read, key: ProfileKey) -> Sequence[Row[Any]]:
    # One query, as a gate may wait for it: a row for each alias, and one where there is none.
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
        .add_columns(
            ALIASES.c.alias,
            *(column for column in ALARMS.c if column.name not in PROFILES.c),
        )
        .outerjoin(ALIASES, ALIASES.c.model == _aliases.comparable(key.model))
        .outerjoin(ALARMS, ALARMS.c.id == newest)
    )
    return read(wanted.where(KEYS.c.key == _versions.canonical(key)))


def _nothing(read: Read, key: ProfileKey, shown: str, version: int | None = None) -> str:
    named = _aliases.key_behind(read, key)
    for candidate in [key, *([named] if named else [])]:
        if there := _versions.numbers(read, candidate):
            return (
                f"{shown} has no active profile for {candidate}: "
                f"it has only candidates ({counted(there)}): promote one"
            )
    what = "profile" if version is None else f"version {version} of a profile"
    also = f" ({key.model!r} is an alias of {named.model!r})" if named else ""
    keys = read(select(KEYS.c.key).where(KEYS.c.active_version.is_not(None)).order_by(KEYS.c.key).limit(_MOST_KEYS))
    others = [found for row in keys if (found := _versions.key_of(row.key)) is not None]
    return f"{shown} has no {what} for {key}{also}; {_hint(named or key, others)}"


def _hint(key: ProfileKey, others: Sequence[ProfileKey]) -> str:
    """What to do where a key has no profile: it may be another that was meant."""
    for other in others:
        if same_model(key.model, other.model) and other.model_copy(update={"model": key.model}) == key:
            command = shlex.join(["tje", "registry", "alias", key.model, other.model])
            return f"it has {other}: if the models are the same, say so with {command}"
    near = sorted(
        (other for other in others if _alike(key, other)), key=lambda other: (-_alike(key, other), str(other))
    )
    if not near:
        return "calibrate and put() one first"
    return f"it has {'; '.join(map(str, near[:3]))}: name the signal and the settings of the one that is meant"


def _alike(key: ProfileKey, other: ProfileKey) -> int:
    """How likely one key was meant by the other: 0 for not at all."""
    return (key.model == other.model) + (key.task == other.task)
