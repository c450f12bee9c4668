"""What there is for keys, in one reading: aliases followed, alarms seen, and a way out where there is nothing."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from sqlalchemy import Row, func, select

from ..calibration.key import ProfileKey, same_model
from ..calibration.profile import CalibrationProfile
from ..errors import ProfileNotFound, RegistryDamaged
from ..gate.sources import ProfileLookup
from ..storage import Read
from .alarms import alarm_of
from .aliases import all_aliases, key_behind
from .tables import ALARMS, KEYS, PROFILES
from .versions import among, canonical_key, key_of, profile_of, select_active, version_numbers, version_row

#: Profiles that were parsed once, each with its text, by key: one that has not changed is not parsed again.
Parsed = dict[str, tuple[str, CalibrationProfile]]


def look(
    read: Read, keys: Collection[ProfileKey], parsed: Parsed, shown: str
) -> Mapping[ProfileKey, ProfileLookup | RegistryDamaged]:
    """The active profile of each key, or of the model that its model is an alias of; few queries for many keys.

    A key with nothing is an answer: ``problem`` says what to do. One whose profile cannot be read hides no other.
    What is parsed anew is added to ``parsed``.
    """
    aliases = all_aliases(read)
    behind = {key: key.model_copy(update={"model": aliases[key.model]}) for key in keys if key.model in aliases}
    names: defaultdict[str, set[str]] = defaultdict(set)
    for alias, model in aliases.items():
        names[model].add(alias)
    active = _active(read, {*keys, *behind.values()})
    found: dict[ProfileKey, ProfileLookup | RegistryDamaged] = {}
    for key in keys:
        for candidate in (key, behind.get(key)):
            if candidate is not None and (row := active.get(canonical_key(candidate))) is not None:
                found[key] = _answer(row, names[candidate.model], parsed, shown)
                break
    missing = _problems(read, [key for key in keys if key not in found], behind, shown)
    return {**found, **{key: ProfileLookup(None, problem=why) for key, why in missing.items()}}


def find_version(read: Read, key: ProfileKey, version: int, shown: str) -> Row[Any]:
    """The row of one version of a key, or of the model that its model is an alias of; else ProfileNotFound."""
    named = key_behind(read, key)
    for candidate in [key, *([named] if named else [])]:
        if row := version_row(read, candidate, version):
            return row
        if there := version_numbers(read, candidate):
            raise no_version(candidate, version, there, shown)
    raise ProfileNotFound(_problems(read, [key], {key: named} if named else {}, shown, version)[key])


def no_version(key: ProfileKey, version: int, there: Sequence[int], shown: str) -> ProfileNotFound:
    """The error for a version that there is not."""
    return ProfileNotFound(f"{shown} has no version {version} of a profile for {key}; it has {counted(there)}")


def no_profile(read: Read, key: ProfileKey, shown: str) -> ProfileNotFound:
    """The error for a key of which there is no version; to change one, it is named by its own name."""
    named = key_behind(read, key)
    if named is not None and version_numbers(read, named):
        return ProfileNotFound(
            f"{shown} has no profile for {key}; {key.model!r} is an alias of {named.model!r}: name that model"
        )
    return ProfileNotFound(_problems(read, [key], {key: named} if named else {}, shown)[key])


def _active(read: Read, keys: Collection[ProfileKey]) -> Mapping[str, Row[Any]]:
    """The rows of the active versions of these keys, each with the newest alarm about it, by key."""
    about_it = (ALARMS.c.key == KEYS.c.key) & (ALARMS.c.version == KEYS.c.active_version)
    holding = select(func.max(ALARMS.c.id)).where(about_it, ALARMS.c.dismissed_at.is_(None))
    newest = holding.correlate(KEYS).scalar_subquery()
    of_alarms = (column for column in ALARMS.c if column.name not in PROFILES.c)
    wanted = select_active().add_columns(*of_alarms).outerjoin(ALARMS, ALARMS.c.id == newest)
    return {row.key: row for row in among(read, wanted, KEYS.c.key, keys)}


def _answer(row: Row[Any], names: Collection[str], parsed: Parsed, shown: str) -> ProfileLookup | RegistryDamaged:
    try:
        alarm = alarm_of(row, shown) if row.id is not None else None
        body, profile = parsed.get(row.key, (None, None))
        if profile is None or body != row.body:
            profile = profile_of(row, shown)
            parsed[row.key] = row.body, profile
        return ProfileLookup(profile, alarm=alarm, names=frozenset(names))
    except RegistryDamaged as error:
        return error


# So many of the other keys are looked through for the one that may have been meant.
_MOST_KEYS = 1000
# So many of those are named.
_MOST_NAMED = 3


def _problems(
    read: Read,
    keys: Collection[ProfileKey],
    behind: Mapping[ProfileKey, ProfileKey],
    shown: str,
    version: int | None = None,
) -> Mapping[ProfileKey, str]:
    """Why each of these keys has no profile, or none of a version, and what to do.

    ``behind`` has, of keys whose model is an alias, the same key of the model that it stands for.
    """
    if not keys:
        return {}
    canonical = {canonical_key(key): key for key in {*keys, *(behind[key] for key in keys if key in behind)}}
    held: defaultdict[ProfileKey, list[int]] = defaultdict(list)
    numbers = select(PROFILES.c.key, PROFILES.c.version).order_by(PROFILES.c.version)
    for row in among(read, numbers, PROFILES.c.key, canonical.values()):
        held[canonical[row.key]].append(row.version)
    others = _Others(read)
    what = "profile" if version is None else f"version {version} of a profile"
    found = {}
    for key in keys:
        named = behind.get(key, key)
        candidate = key if key in held else named
        if candidate in held:
            found[key] = (
                f"{shown} has no active profile for {candidate}: "
                f"it has only candidates ({counted(held[candidate])}): promote one"
            )
            continue
        also = f" ({key.model!r} is an alias of {named.model!r})" if named != key else ""
        found[key] = f"{shown} has no {what} for {key}{also}; {others.hint(named)}"
    return found


def counted(versions: Sequence[int]) -> str:
    """Version numbers in words; of many, the first and the last."""
    if len(versions) > 6:
        return f"versions {versions[0]} to {versions[-1]}"
    return f"version{'s' if len(versions) > 1 else ''} {', '.join(map(str, versions))}"


class _Others:
    """The keys that have a profile, of one reading, by what they have in common with one that has none."""

    def __init__(self, read: Read) -> None:
        self._of_model: defaultdict[str, list[ProfileKey]] = defaultdict(list)
        self._of_task: defaultdict[str, list[ProfileKey]] = defaultdict(list)
        active = select(KEYS.c.key).where(KEYS.c.active_version.is_not(None))
        for row in read(active.order_by(KEYS.c.key).limit(_MOST_KEYS)):
            if (key := key_of(row.key)) is not None:
                self._of_model[key.model].append(key)
                self._of_task[key.task].append(key)

    def hint(self, key: ProfileKey) -> str:
        """What to do where a key has no profile: it may be another that was meant."""
        for other in self._of_task.get(key.task, ()):
            if same_model(key.model, other.model) and other.model_copy(update={"model": key.model}) == key:
                command = shlex.join(["tje", "registry", "alias", key.model, other.model])
                return f"it has {other}: if the models are the same, say so with {command}"
        near = list(islice(self._alike(key), _MOST_NAMED))
        if not near:
            return "calibrate and put() one first"
        return f"it has {'; '.join(map(str, near))}: name the signal and the settings of the one that is meant"

    def _alike(self, key: ProfileKey) -> Iterator[ProfileKey]:
        """Those that were likely meant: of the same model and task, then of one of them."""
        of_model, of_task = self._of_model.get(key.model, []), self._of_task.get(key.task, [])
        yield from (other for other in of_model if other.task == key.task)
        yield from (other for other in of_model if other.task != key.task)
        yield from (other for other in of_task if other.model != key.model)
