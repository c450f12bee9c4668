"""What a registry holds becomes an export, and an export becomes part of a registry: all of it, or nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, TypeVar

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
    PROVENANCE,
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

    Raises:
        ProfileNotFound: one of the keys has no version.
        RegistryDamaged: a profile cannot be read.
    """
    export = Export([], [], [])
    wanted = _readable_keys(read, shown) if keys is None else list(dict.fromkeys(keys))
    for key in wanted:
        rows = version_rows(read, key)
        if not rows and keys is not None:
            raise no_profile(read, key, shown)
        for row in rows:
            stored = vars(stored_version(row, shown, ()))
            fields = {name: value for name, value in stored.items() if name != "alarms"}
            export.versions.append(_line(ExportedVersion, f"{shown}: version {row.version} of {key}", key, fields))
        there = {row.version for row in rows}
        for one in promotion_log(read, key):
            before, after = (number if number in there else None for number in (one.from_version, one.to_version))
            if after == one.to_version and before != after:  # a change between deleted versions is left out
                fields = {**asdict(one), "from_version": before}
                export.promotions.append(_line(ExportedPromotion, f"{shown}: a promotion of {key}", key, fields))
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


_Exported = TypeVar("_Exported", ExportedVersion, ExportedPromotion)


def _line(kind: type[_Exported], what: str, key: ProfileKey, fields: Mapping[str, Any]) -> _Exported:
    try:
        return kind(key=key, **fields)
    except ValidationError as error:
        raise RegistryDamaged(f"{what} cannot be exported: {error.errors()[0]['msg']}") from error


def store_export(connection: Connection, export: Export, *, promote: bool, by: str, shown: str) -> ImportReport:
    """Store an export.

    A key that has no version here becomes what it is in the file, with what was active when; one that was never
    here keeps the numbers of its versions. Of the others, versions that are the same are left out, the rest get the
    next numbers, and what is active stays so.

    With ``promote``, what is active in the file becomes active here in the place of what is, too, and models that are
    here already get its aliases.

    Raises:
        RegistryError: an alias that cannot be here, or a key that is too long.
    """
    there = {key_of(row.key) for row in connection.execute(select(PROFILES.c.key).distinct())}
    left_alone = set() if promote else {key.model for key in there if key is not None}
    logs: defaultdict[str, list[ExportedPromotion]] = defaultdict(list)
    for one in export.promotions:
        logs[canonical_key(one.key)].append(one)
    versions: list[ImportedVersion] = []
    others: list[OtherActive] = []
    for canonical, group in groupby(export.versions, key=lambda version: canonical_key(version.key)):
        stored, other = _store_key(connection, list(group), logs[canonical], promote=promote, by=by, shown=shown)
        versions += stored
        others += other
    aliases = all_aliases(reader(connection))
    made, kept = [], []
    for alias in export.aliases:
        if alias.model in left_alone:
            kept += [alias.alias] if aliases.get(alias.alias) != alias.model else []
        elif declare_alias(connection, alias.alias, alias.model, by=by, shown=shown):
            made.append(alias.alias)
    promoted, not_promoted = (others, []) if promote else ([], others)
    return ImportReport(tuple(versions), tuple(promoted), tuple(not_promoted), tuple(made), tuple(kept))


def _store_key(
    connection: Connection,
    found: Sequence[ExportedVersion],
    log: Sequence[ExportedPromotion],
    *,
    promote: bool,
    by: str,
    shown: str,
) -> tuple[list[ImportedVersion], list[OtherActive]]:
    """Store the versions of a key, and make the one active that is to be; says where the file has another."""
    key = found[0].key
    canonical = storable_key(key)
    last, active = held_numbers(connection, canonical)
    rows = version_rows(reader(connection), key)
    keeps_numbers = last == 0 and found[-1].version <= _MOST_VERSIONS
    here = _by_content(rows, shown)
    numbers: dict[int, int] = {}
    is_new: dict[int, bool] = {}
    for one in found:
        same = _counterpart(one, here.get(_without_version(one.profile), ()), active)
        if same is None:
            last = one.version if keeps_numbers else last + 1
            fields = {"key": canonical, "version": last, "body": body_of(one.profile, last)}
            connection.execute(insert(PROFILES).values(**fields, **one.model_dump(include=set(PROVENANCE))))
        numbers[one.version], is_new[one.version] = same or last, same is None
    if log and not rows:
        active = _store_log(connection, canonical, log, numbers)
    others = []
    wanted = next((numbers[one.version] for one in found if one.is_active), active)
    if wanted is not None and wanted != active:
        if rows:
            others.append(OtherActive(key, active, wanted))
        if promote or not rows:
            log_promotion(connection, canonical, active, wanted, "import", by)
            active = wanted
    hold_numbers(connection, canonical, last=last, active=active)
    stored = [
        ImportedVersion(key, exported, version, is_new[exported], version == active)
        for exported, version in numbers.items()
    ]
    return stored, others


def _store_log(
    connection: Connection, key: str, log: Sequence[ExportedPromotion], numbers: Mapping[int, int]
) -> int | None:
    """Write down what was active when, by the numbers that versions have here; returns what is active at its end."""
    after: int | None = None
    for one in log:
        before, after = (None if of is None else numbers.get(of) for of in (one.from_version, one.to_version))
        changed = {"key": key, "from_version": before, "to_version": after}
        connection.execute(insert(PROMOTIONS).values(**one.model_dump(include={"action", "at", "by"}), **changed))
    return after


def _counterpart(one: ExportedVersion, same: Sequence[int], active: int | None) -> int | None:
    """Which of the versions that say the same it is here: what is active stays so, then its own number, the last."""
    return max(
        same,
        key=lambda version: (one.is_active and version == active, version == one.version, version),
        default=None,
    )


def _by_content(rows: Sequence[Row[Any]], shown: str) -> Mapping[str, Sequence[int]]:
    """The numbers of stored versions by what their profiles say; one that cannot be read is like no other."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for row in rows:
        with suppress(RegistryDamaged):
            found[_without_version(profile_of(row, shown))].append(int(row.version))
    return found


def _without_version(profile: CalibrationProfile) -> str:
    return profile.model_dump_json(exclude={"version"})
