"""What to say where keys have no profile: what there is in its place, and what to do."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain, islice

from sqlalchemy import select

from ..database import Read
from ..database.schema import KEYS, PROFILES
from ..keys import ProfileKey, same_model
from . import _versions
from ._among import among

# So many of the other keys are looked through for the one that may have been meant.
_MOST_KEYS = 1000
# So many of those are named.
_MOST_NAMED = 3


def problems(
    read: Read,
    keys: Collection[ProfileKey],
    behind: Mapping[ProfileKey, ProfileKey],
    shown: str,
    version: int | None = None,
) -> Mapping[ProfileKey, str]:
    """Why each of these keys has no profile, and what to do.

    Args:
        read: Of one reading.
        keys: Those without a profile.
        behind: Of those whose model is an alias, the same key of the model it stands for.
        shown: The database.
        version: The version that was asked for; None: the active one.
    """
    if not keys:
        return {}
    held = _numbers(read, {*keys, *(behind[key] for key in keys if key in behind)})
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
            if (key := _versions.key_of(row.key)) is not None:
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
        yield from (
            other for other in chain(of_model, of_task) if (other.model == key.model) != (other.task == key.task)
        )


def _numbers(read: Read, keys: Collection[ProfileKey]) -> Mapping[ProfileKey, Sequence[int]]:
    """The versions that there are of those keys that have one, oldest first."""
    canonical = {_versions.canonical(key): key for key in keys}
    found: defaultdict[ProfileKey, list[int]] = defaultdict(list)
    query = select(PROFILES.c.key, PROFILES.c.version).order_by(PROFILES.c.version)
    for row in among(read, query, PROFILES.c.key, keys):
        found[canonical[row.key]].append(row.version)
    return found
