"""An export becomes part of a registry: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from sqlalchemy import Connection, insert

from ..database.schema import PROFILES
from ..errors import RegistryDamaged
from ..keys import ProfileKey
from ..profile import CalibrationProfile
from . import _aliases, _versions
from ._changing import storable
from ._export_format import ExportedVersion
from ._reading_exports import Export


@dataclass(frozen=True)
class ImportedVersion:
    """What became of one version of an export.

    Attributes:
        key: Of the profile.
        exported: Its number in the file.
        version: Its number here.
        is_new: False where the same profile was here already.
    """

    key: ProfileKey
    exported: int
    version: int
    is_new: bool


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        versions: Each version of the file.
        promoted: The keys whose active version is another one now.
        aliases: The names that are aliases now and were none.
    """

    versions: tuple[ImportedVersion, ...]
    promoted: tuple[ProfileKey, ...]
    aliases: tuple[str, ...]

    @property
    def stored(self) -> int:
        """How many versions are new here."""
        return sum(version.is_new for version in self.versions)

    @property
    def skipped(self) -> int:
        """How many were here already."""
        return len(self.versions) - self.stored


def store(connection: Connection, export: Export, *, promote: bool, by: str, shown: str) -> ImportReport:
    """Store an export.

    A key that was never here keeps the numbers of its versions. Where there are versions already, those that are
    the same are left out, and the others get the next numbers.

    Args:
        connection: Of the change.
        export: What to store.
        promote: Whether what is active in the file becomes active here.
        by: Who imports it.
        shown: The database, for errors.

    Raises:
        RegistryError: an alias that cannot be here, or a key that is too long.
    """
    versions: list[ImportedVersion] = []
    promoted = []
    for _, group in groupby(export.versions, key=lambda version: _versions.canonical(version.key)):
        found = list(group)
        stored = _store_key(connection, found, shown)
        versions += stored
        active = [new.version for one, new in zip(found, stored, strict=True) if one.is_active]
        if promote and active and _activate(connection, found[0].key, active[0], by):
            promoted.append(found[0].key)
    aliases = [
        one.alias for one in export.aliases if _aliases.declare(connection, one.alias, one.model, by=by, shown=shown)
    ]
    return ImportReport(tuple(versions), tuple(promoted), tuple(aliases))


def _store_key(connection: Connection, found: Sequence[ExportedVersion], shown: str) -> list[ImportedVersion]:
    key = found[0].key
    canonical = storable("the key", _versions.canonical(key))
    storable("the model's name", key.model)
    last, active = _versions.held(connection, canonical)
    is_fresh = last == 0
    here = {} if is_fresh else _here(connection, key, shown)
    stored = []
    for one in found:
        same = here.get(_without_version(one.profile))
        if same is None:
            last = one.version if is_fresh else last + 1
            _insert(connection, canonical, one, last)
        stored.append(ImportedVersion(key, one.version, same or last, is_new=same is None))
    _versions.set_held(connection, canonical, last=last, active=active)
    return stored


def _here(connection: Connection, key: ProfileKey, shown: str) -> dict[str, int]:
    """The versions that there are, by what they say."""
    found = {}
    for row in _versions.all_of(_versions.reader(connection), key):
        try:
            found[_without_version(_versions.profile_of(row, shown))] = int(row.version)
        except RegistryDamaged:  # noqa: PERF203 (it is not the same as anything)
            continue
    return found


def _without_version(profile: CalibrationProfile) -> str:
    return profile.model_dump_json(exclude={"version"})


def _insert(connection: Connection, key: str, one: ExportedVersion, version: int) -> None:
    connection.execute(
        insert(PROFILES).values(
            key=key,
            version=version,
            body=one.profile.model_copy(update={"version": version}).model_dump_json(),
            put_at=one.put_at,
            put_by=one.put_by,
            source=one.source,
            library_version=one.library_version,
            records_fingerprint=one.records_fingerprint,
        )
    )


def _activate(connection: Connection, key: ProfileKey, version: int, by: str) -> bool:
    canonical = _versions.canonical(key)
    last, before = _versions.held(connection, canonical)
    if version == before:
        return False
    _versions.set_held(connection, canonical, last=last, active=version)
    _versions.log(connection, canonical, before, version, "import", by)
    return True
