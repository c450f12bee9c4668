"""What a registry holds becomes an export, and an export becomes part of a registry: all of it, or nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Row, insert, select

from ..calibration.key import ProfileKey
from ..calibration.profile import CalibrationProfile
from ..errors import RegistryDamaged
from ..storage import Read
from .aliases import all_aliases, declare_alias
from .lookup import no_profile
from .promotions import promotion_log
from .tables import KEYS, PROFILES, PROMOTIONS, storable_key
from .transfer_format import Export, ExportedAlias, ExportedPromotion, ExportedVersion
from .versions import (
    body_of,
    canonical_key,
    held_numbers,
    hold_numbers,
    key_of,
    log_promotion,
    profile_of,
    reader,
    stored_version,
    version_rows,
)

# Higher numbers of versions are not kept by an import: there would be no room for those that follow.
_MOST_VERSIONS = 1_000_000
_PROVENANCE = {"put_at", "put_by", "source", "library_version", "records_fingerprint"}


@dataclass(frozen=True)
class ImportedVersion:
    """What became of one version of an export.

    Attributes:
        key: Of the profile.
        exported: Its number in the file.
        version: Its number here.
        is_new: False where the same profile was here already.
        is_active: Whether it is the active one here now.
    """

    key: ProfileKey
    exported: int
    version: int
    is_new: bool
    is_active: bool = False


@dataclass(frozen=True)
class OtherActive:
    """A key that was here already, and of which another version is active in the file.

    Attributes:
        key: The key.
        before: The version that was active here; None: none was.
        after: The version, by its number here, that is active in the file.
    """

    key: ProfileKey
    before: int | None
    after: int


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes:
        versions: Each version of the file.
        promoted: Where the version that is active in the file was made active in another's place.
        kept: Where it was not, as that was not asked for.
        aliases: The names that are aliases now and were none.
        aliases_kept: The names that are not, as their models were here already and nobody asked to change those.
    """

    versions: tuple[ImportedVersion, ...]
    promoted: tuple[OtherActive, ...]
    kept: tuple[OtherActive, ...]
    aliases: tuple[str, ...]
    aliases_kept: tuple[str, ...]

    @property
    def stored(self) -> int:
        """How many versions are new here."""
        return sum(version.is_new for version in self.versions)

    @property
    def skipped(self) -> int:
        """How many were here already."""
        return len(self.versions) - self.stored


def collect_export(read: Read, keys: Collection[ProfileKey] | None, shown: str) -> Export:
    """The versions of these keys or all, what was active when, and the aliases of their models.

    Args:
        read: Of one reading.
        keys: None: all.
        shown: The database, for errors.

    Raises:
        ProfileNotFound: one of the keys has no version.
        RegistryDamaged: a profile cannot be read.
    """
    export = Export([], [], [])
    wanted = _readable_keys(read, shown) if keys is None else list(dict.fromkeys(keys))
    for key in wanted:
        versions = [_exported(key, row, shown) for row in version_rows(read, key)]
        if not versions and keys is not None:
            raise no_profile(read, key, shown)
        export.versions.extend(versions)
        export.promotions.extend(_promotions(read, key, {one.version for one in versions}, shown))
    models = {key.model for key in wanted}
    for alias, model in all_aliases(read).items():
        if keys is None or model in models:
            export.aliases.append(ExportedAlias(alias=alias, model=model))
    return export


def _readable_keys(read: Read, shown: str) -> list[ProfileKey]:
    keys = []
    for row in read(select(KEYS.c.key).order_by(KEYS.c.key)):
        key = key_of(row.key)
        if key is None:
            raise RegistryDamaged(
                f"{shown} holds a key that cannot be read ({row.key[:80]}): it comes from another release of "
                f"tje-middleware: export with that release"
            )
        keys.append(key)
    return keys


def _exported(key: ProfileKey, row: Row[Any], shown: str) -> ExportedVersion:
    fields = vars(stored_version(row, shown, ())).copy()
    del fields["alarms"]
    try:
        return ExportedVersion(key=key, **fields)
    except ValidationError as error:
        where = f"version {row.version} of {key}"
        raise RegistryDamaged(f"{shown}: {where} cannot be exported: {error.errors()[0]['msg']}") from error


def _promotions(read: Read, key: ProfileKey, there: Collection[int], shown: str) -> Iterator[ExportedPromotion]:
    """What was active when, of the versions that there are."""
    for one in promotion_log(read, key):
        before, after = (number if number in there else None for number in (one.from_version, one.to_version))
        if after != one.to_version or before == after:  # it tells of deleted versions alone
            continue
        try:
            yield ExportedPromotion(key=key, **{**asdict(one), "from_version": before})
        except ValidationError as error:
            said = error.errors()[0]["msg"]
            raise RegistryDamaged(f"{shown}: a promotion of {key} cannot be exported: {said}") from error


def store_export(connection: Connection, export: Export, *, promote: bool, by: str, shown: str) -> ImportReport:
    """Store an export.

    A key that has no version here becomes what it is in the file, with what was active when; one that was never
    here keeps the numbers of its versions. Of the others, versions that are the same are left out, the rest get the
    next numbers, and what is active stays so.

    Args:
        connection: Of the change.
        export: What to store.
        promote: Whether what is active in the file becomes active here in the place of what is, too; and whether
            models that are here already get its aliases.
        by: Who imports it.
        shown: The database, for errors.

    Raises:
        RegistryError: an alias that cannot be here, or a key that is too long.
    """
    there = _every_key(connection)
    versions: list[ImportedVersion] = []
    others = []
    logs: defaultdict[str, list[ExportedPromotion]] = defaultdict(list)
    for one in export.promotions:
        logs[canonical_key(one.key)].append(one)
    for canonical, group in groupby(export.versions, key=lambda version: canonical_key(version.key)):
        found = list(group)
        stored = _store_key(connection, found, shown)
        numbers = {version.exported: version.version for version in stored}
        is_new = canonical not in there
        if is_new:
            _store_log(connection, canonical, logs[canonical], numbers)
        before = held_numbers(connection, canonical)[1]
        active = next((numbers[version.version] for version in found if version.is_active), None)
        if active is not None and active != before:
            if is_new or promote:
                last, _ = held_numbers(connection, canonical)
                hold_numbers(connection, canonical, last=last, active=active)
                log_promotion(connection, canonical, before, active, "import", by)
            if not is_new:
                others.append(OtherActive(found[0].key, before, active))
        now_active = held_numbers(connection, canonical)[1]
        versions += [replace(version, is_active=version.version == now_active) for version in stored]
    made, kept = _store_aliases(
        connection, export.aliases, set() if promote else set(there.values()), by=by, shown=shown
    )
    return ImportReport(
        tuple(versions), tuple(others if promote else ()), tuple(() if promote else others), made, kept
    )


def _every_key(connection: Connection) -> Mapping[str, str]:
    """The keys that have a version, and the model of each that can be read."""
    rows = connection.execute(select(PROFILES.c.key).distinct()).all()
    return {row.key: key.model if (key := key_of(row.key)) else "" for row in rows}


def _store_key(connection: Connection, found: Sequence[ExportedVersion], shown: str) -> list[ImportedVersion]:
    key = found[0].key
    canonical = storable_key(key)
    last, active = held_numbers(connection, canonical)
    keeps_numbers = last == 0 and found[-1].version <= _MOST_VERSIONS
    here = _here(connection, key, shown)
    stored = []
    for one in found:
        same = _counterpart(one, here.get(_without_version(one.profile), ()), active)
        if same is None:
            last = one.version if keeps_numbers else last + 1
            fields = {"key": canonical, "version": last, "body": body_of(one.profile, last)}
            connection.execute(insert(PROFILES).values(**fields, **one.model_dump(include=_PROVENANCE)))
        stored.append(ImportedVersion(key, one.version, same or last, is_new=same is None))
    hold_numbers(connection, canonical, last=last, active=active)
    return stored


def _store_log(
    connection: Connection, key: str, log: Sequence[ExportedPromotion], numbers: Mapping[int, int]
) -> None:
    """Write down what was active when, by the numbers that the versions have here."""
    rows = [
        {
            **one.model_dump(exclude={"key"}),
            "key": key,
            "from_version": None if one.from_version is None else numbers.get(one.from_version),
            "to_version": None if one.to_version is None else numbers[one.to_version],
        }
        for one in log
    ]
    if rows:
        connection.execute(insert(PROMOTIONS), rows)
        last, _ = held_numbers(connection, key)
        hold_numbers(connection, key, last=last, active=rows[-1]["to_version"])


def _store_aliases(
    connection: Connection, aliases: Sequence[ExportedAlias], left_alone: set[str], *, by: str, shown: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Declare the aliases but those of models that are left alone; returns which were made and which not."""
    there = all_aliases(reader(connection))
    made, kept = [], []
    for one in aliases:
        if one.model in left_alone:
            kept += [one.alias] if there.get(one.alias) != one.model else []
        elif declare_alias(connection, one.alias, one.model, by=by, shown=shown):
            made.append(one.alias)
    return tuple(made), tuple(kept)


def _counterpart(one: ExportedVersion, same: Sequence[int], active: int | None) -> int | None:
    """Which of the versions that say the same it is here: what is active stays so, then its own number, the last."""
    return max(
        same,
        key=lambda version: (one.is_active and version == active, version == one.version, version),
        default=None,
    )


def _here(connection: Connection, key: ProfileKey, shown: str) -> Mapping[str, Sequence[int]]:
    """The versions that there are, by what they say."""
    found: dict[str, list[int]] = {}
    for row in version_rows(reader(connection), key):
        try:
            body = _without_version(profile_of(row, shown))
        except RegistryDamaged:
            continue
        found.setdefault(body, []).append(int(row.version))
    return found


def _without_version(profile: CalibrationProfile) -> str:
    return profile.model_dump_json(exclude={"version"})
