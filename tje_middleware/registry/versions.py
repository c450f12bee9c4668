"""The versions of a key in the database: each is put once and never changed, and one is active."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from pydantic import ValidationError
from sqlalchemy import ColumnElement, Connection, Row, Select, insert, select, text, update

from .._version import __version__
from ..calibration.key import ProfileKey
from ..calibration.profile import Alarm, CalibrationProfile
from ..errors import RegistryDamaged, RegistryError
from ..storage import Database, Read
from ..storage.postgres import CHANNEL
from .tables import KEYS, MOST_PROFILE_BYTES, PROFILES, PROMOTIONS, acts, storable, storable_key

#: Where a version comes from: the names of a row's columns.
PROVENANCE = ("put_at", "put_by", "source", "library_version", "records_fingerprint")


@dataclass(frozen=True)
class StoredVersion:
    """One version of a key, and where it comes from.

    Attributes:
        profile: The profile.
        version: Its number.
        is_active: Whether it is the one that gates use.
        put_at: When it was put; None, as the next four, where a release before provenance put it.
        put_by: By whom.
        source: Where it comes from, in a word.
        library_version: The tje-middleware that put it.
        records_fingerprint: The digest of the records that it was calibrated on, where calibration gave one.
        alarms: The alarms about it that nobody has dismissed, newest first.
    """

    profile: CalibrationProfile
    version: int
    is_active: bool
    put_at: datetime | None
    put_by: str | None
    source: str | None
    library_version: str | None
    records_fingerprint: str | None
    alarms: tuple[Alarm, ...] = ()


def canonical_key(key: ProfileKey) -> str:
    """A key as the database knows it."""
    return key.model_dump_json()


def key_of(canonical: str) -> ProfileKey | None:
    """The key of a row; None for one of another release."""
    try:
        return ProfileKey.model_validate_json(canonical)
    except ValidationError:
        return None


def add_version(connection: Connection, profile: CalibrationProfile, *, active: bool, source: str, by: str) -> int:
    """Store a profile as the next version of its key; returns the version. Raises as ``CalibrationRegistry.put``."""
    key = storable_key(profile.key)
    if (fingerprint := profile.records_fingerprint) is not None:
        storable("records_fingerprint", fingerprint)
    last, before = held_numbers(connection, key)
    version = last + 1
    hold_numbers(connection, key, last=version, active=version if active else before)
    connection.execute(
        insert(PROFILES).values(
            key=key,
            version=version,
            body=body_of(profile, version),
            put_at=datetime.now(timezone.utc),
            put_by=storable("by", by),
            source=storable("source", source),
            library_version=__version__,
            records_fingerprint=fingerprint,
        )
    )
    if active:
        log_promotion(connection, key, before, version, "put", by)
    return version


def body_of(profile: CalibrationProfile, version: int) -> str:
    """A profile as the database keeps it, which can be exported and imported again; RegistryError where it cannot."""
    body = profile.model_copy(update={"version": version}).model_dump_json()
    if acts(body):
        raise RegistryError(f"the profile for {profile.key} has a text with a control character: take it out")
    if (size := len(body.encode())) > MOST_PROFILE_BYTES:
        raise RegistryError(
            f"the profile for {profile.key} has {size:,} bytes, and could not be exported with more than "
            f"{MOST_PROFILE_BYTES:,}: shorten its texts"
        )
    return body


def held_numbers(connection: Connection, key: str) -> tuple[int, int | None]:
    """The last number that was given to a version of a key (0: none), and the active version."""
    row = connection.execute(select(KEYS).where(KEYS.c.key == key)).one_or_none()
    return (row.last_version, row.active_version) if row else (0, None)


def hold_numbers(connection: Connection, key: str, *, last: int, active: int | None) -> None:
    """Write down the last number that was given, and which version is active."""
    values = {"last_version": last, "active_version": active}
    if not connection.execute(update(KEYS).where(KEYS.c.key == key).values(**values)).rowcount:
        connection.execute(insert(KEYS).values(key=key, **values))


def log_promotion(
    connection: Connection, key: str, before: int | None, after: int | None, action: str, by: str
) -> None:
    """Write down which version became active in the place of which."""
    now = datetime.now(timezone.utc)
    values = {"key": key, "from_version": before, "to_version": after, "action": action, "at": now}
    connection.execute(insert(PROMOTIONS).values(**values, by=storable("by", by)))


def reader(connection: Connection) -> Read:
    """Queries within a change, as in a reading."""
    return lambda query: connection.execute(query).all()


def active_rows(read: Read) -> Sequence[Row[Any]]:
    """The rows of the active versions of all keys, ordered by key."""
    return read(select_active().order_by(PROFILES.c.key))


def version_row(read: Read, key: ProfileKey, version: int) -> Row[Any] | None:
    """The row of one version."""
    rows = read(_all(key).where(PROFILES.c.version == version))
    return rows[0] if rows else None


def version_rows(read: Read, key: ProfileKey) -> Sequence[Row[Any]]:
    """The rows of all versions of a key with whether each is active (``active_version``), oldest first."""
    return read(_all(key).order_by(PROFILES.c.version))


def version_numbers(read: Read, key: ProfileKey) -> Sequence[int]:
    """The versions that there are, oldest first."""
    found = select(PROFILES.c.version).where(PROFILES.c.key == canonical_key(key)).order_by(PROFILES.c.version)
    return [row.version for row in read(found)]


def stored_version(row: Row[Any], shown: str, alarms: Sequence[Alarm]) -> StoredVersion:
    """The version that a row of :func:`version_rows` holds; raises as :func:`profile_of`."""
    return StoredVersion(
        profile_of(row, shown),
        row.version,
        row.version == row.active_version,
        **{name: getattr(row, name) for name in PROVENANCE},
        alarms=tuple(alarm for alarm in alarms if alarm.version == row.version),
    )


def profile_of(row: Row[Any], shown: str) -> CalibrationProfile:
    """The profile that a row of ``tje_profiles`` holds.

    Raises:
        RegistryDamaged: it cannot be read.
    """
    try:
        return CalibrationProfile.model_validate_json(row.body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RegistryDamaged(
            f"{shown} holds a profile that cannot be read (version {row.version} of {row.key}): "
            f"{place}{': ' if place else ''}{first['msg']}; it is damaged or comes from another release of "
            f"tje-middleware: use that release, or calibrate and put() anew"
        ) from error


def select_active() -> Select[Any]:
    """The rows of active versions."""
    return select(PROFILES).join(KEYS, (PROFILES.c.key == KEYS.c.key) & (PROFILES.c.version == KEYS.c.active_version))


def _all(key: ProfileKey) -> Select[Any]:
    return (
        select(PROFILES, KEYS.c.active_version)
        .outerjoin(KEYS, PROFILES.c.key == KEYS.c.key)
        .where(PROFILES.c.key == canonical_key(key))
    )


@contextmanager
def changing(database: Database) -> Iterator[Connection]:
    """As ``Database.writing``; on PostgreSQL its commit reaches every listener."""
    with database.writing() as connection:
        yield connection
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})


# A query takes so many values everywhere: SQLite before 3.32 has room for 999.
_MOST_AT_ONCE = 500


def among(
    read: Read, query: Select[Any], column: ColumnElement[str], keys: Iterable[ProfileKey]
) -> Iterator[Row[Any]]:
    """The rows of a query whose column is one of these keys, read with as few queries as there can be."""
    wanted = [canonical_key(key) for key in keys]
    for start in range(0, len(wanted), _MOST_AT_ONCE):
        yield from read(query.where(column.in_(wanted[start : start + _MOST_AT_ONCE])))
