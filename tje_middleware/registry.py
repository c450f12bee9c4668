"""The registry: profiles on disk, versioned, shared by the processes of one machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from pydantic import ValidationError
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Row,
    String,
    Table,
    Text,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from typing_extensions import Self

from .errors import ProfileNotFound, RegistryDamaged, RegistryError, RegistryUnavailable
from .profile import CalibrationProfile, ProfileKey, ProfileLookup

_METADATA = MetaData()
# One row a version. The key is its canonical JSON, so that a key's optional parts take part in uniqueness.
_PROFILES = Table(
    "tje_profiles",
    _METADATA,
    Column("key", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("body", Text, nullable=False),
    PrimaryKeyConstraint("key", "version"),
)
_LOCK_TIMEOUT_SECONDS = 30.0


class CalibrationRegistry:
    """Profiles under their keys, every version kept.

    Example:
        >>> registry = CalibrationRegistry("sqlite:///tje.db")
        >>> registry
        CalibrationRegistry('sqlite:///tje.db')

    Args:
        url: ``sqlite:///relative/path.db`` or ``sqlite:////absolute/path.db``. Nothing is opened before the
            first use.
        refresh_seconds: How long :meth:`lookup` answers from memory before it asks the database again.

    Raises:
        RegistryError: a URL that is none, or of a database that this release does not support.
    """

    def __init__(self, url: str = "sqlite:///tje.db", *, refresh_seconds: float = 60.0) -> None:
        self.url = url
        self._refresh_seconds = refresh_seconds
        self._engine = _sqlite_engine(url)
        self._schema_made = False
        self._seen: dict[ProfileKey, tuple[float, CalibrationProfile]] = {}
        self._seen_lock = threading.Lock()

    def put(self, profile: CalibrationProfile) -> int:
        """Store a profile as the newest version of its key; returns that version (1, 2, ...).

        Raises:
            RegistryUnavailable: the database cannot be written (read-only, full, locked); nothing has changed.
            RegistryDamaged: the file is no registry.
        """
        key = _canonical(profile.key)
        with self._transaction(write=True) as connection:
            newest = connection.scalar(select(func.max(_PROFILES.c.version)).where(_PROFILES.c.key == key))
            version = (newest or 0) + 1
            stored = profile.model_copy(update={"version": version})
            connection.execute(insert(_PROFILES).values(key=key, version=version, body=stored.model_dump_json()))
        self._remember(stored)
        return version

    def get(self, key: ProfileKey, *, version: int | None = None) -> CalibrationProfile:
        """The newest profile of a key, or one version of it, fresh from the database.

        Raises:
            ProfileNotFound: there is none.
            RegistryUnavailable: the database cannot be read.
            RegistryDamaged: what it holds cannot be read.
        """
        rows = self._rows(key, version)
        if not rows:
            which = f"version {version} of " if version is not None else ""
            raise ProfileNotFound(f"{self.url} has no {which}profile for {key}; calibrate and put() one first")
        profile = self._read(rows[-1])
        if version is None:
            self._remember(profile)
        return profile

    def lookup(self, key: ProfileKey) -> ProfileLookup:
        """The newest profile of a key for the decision path: from memory while it is fresh, and never raising.

        When the database cannot be asked, the last profile seen in this process serves, marked stale.
        """
        seen = self._seen.get(key)
        if seen and time.monotonic() < seen[0]:
            return ProfileLookup(seen[1])
        try:
            return ProfileLookup(self.get(key))
        except ProfileNotFound as error:
            with self._seen_lock:
                self._seen.pop(key, None)
            return ProfileLookup(None, problem=str(error))
        except RegistryError as error:
            if seen is None:
                return ProfileLookup(None, problem=str(error))
            return ProfileLookup(seen[1], stale=True, problem=str(error))

    def history(self, key: ProfileKey) -> Sequence[CalibrationProfile]:
        """All versions of a key, oldest first; empty where there is none.

        Raises:
            RegistryUnavailable, RegistryDamaged: as :meth:`get`.
        """
        return [self._read(row) for row in self._rows(key)]

    def delete(self, key: ProfileKey) -> int:
        """Remove all versions of a key; returns how many there were.

        Raises:
            ProfileNotFound: there was none.
            RegistryUnavailable, RegistryDamaged: as :meth:`put`.
        """
        with self._transaction(write=True) as connection:
            removed = connection.execute(delete(_PROFILES).where(_PROFILES.c.key == _canonical(key))).rowcount
        with self._seen_lock:
            self._seen.pop(key, None)
        if not removed:
            raise ProfileNotFound(f"{self.url} has no profile for {key}")
        return removed

    def list(self) -> Sequence[CalibrationProfile]:
        """The newest profile of every key, ordered by key.

        Raises:
            RegistryUnavailable, RegistryDamaged: as :meth:`get`.
        """
        newest = select(_PROFILES.c.key, func.max(_PROFILES.c.version).label("version")).group_by(_PROFILES.c.key)
        latest = newest.subquery()
        query = (
            select(_PROFILES)
            .join(latest, (_PROFILES.c.key == latest.c.key) & (_PROFILES.c.version == latest.c.version))
            .order_by(_PROFILES.c.key)
        )
        with self._transaction() as connection:
            rows = connection.execute(query).all()
        return [self._read(row) for row in rows]

    def close(self) -> None:
        """Close the connections; the registry may be used again afterwards."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"CalibrationRegistry({self.url!r})"

    def _rows(self, key: ProfileKey, version: int | None = None) -> Sequence[Row[tuple[str, int, str]]]:
        query = select(_PROFILES).where(_PROFILES.c.key == _canonical(key)).order_by(_PROFILES.c.version)
        if version is not None:
            query = query.where(_PROFILES.c.version == version)
        with self._transaction() as connection:
            return connection.execute(query).all()

    def _read(self, row: Row[tuple[str, int, str]]) -> CalibrationProfile:
        try:
            return CalibrationProfile.model_validate_json(row.body)
        except ValidationError as error:
            raise RegistryDamaged(
                f"{self.url} holds a profile that cannot be read (version {row.version} of {row.key}): "
                f"{error.errors()[0]['msg']}; it may come from another release: calibrate and put() anew"
            ) from error

    def _remember(self, profile: CalibrationProfile) -> None:
        with self._seen_lock:
            self._seen[profile.key] = (time.monotonic() + self._refresh_seconds, profile)

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[Connection]:
        try:
            if not self._schema_made:
                with self._engine.begin() as connection:
                    _METADATA.create_all(connection)
                self._schema_made = True
            with self._engine.execution_options(tje_write=write).begin() as connection:
                yield connection
        except DBAPIError as error:
            raise _explained(self.url, error) from error


def _canonical(key: ProfileKey) -> str:
    return key.model_dump_json()


def _sqlite_engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise RegistryError(f"{url!r} is no registry URL; a file is sqlite:///path/to/tje.db") from error
    if parsed.get_backend_name() != "sqlite":
        raise RegistryError(
            f"this release keeps registries in SQLite files (sqlite:///path/to/tje.db), not in "
            f"{parsed.get_backend_name()!r}"
        )
    if parsed.database in {None, "", ":memory:"}:
        raise RegistryError(f"{url!r} names no file, and a registry in memory is shared with nobody")
    engine = create_engine(parsed, connect_args={"timeout": _LOCK_TIMEOUT_SECONDS})

    @event.listens_for(engine, "connect")
    def _leave_transactions_to_sqlalchemy(connection: object, _record: object) -> None:
        # The driver begins transactions late and only before writes, so two processes could read the same
        # newest version and both go on to write.
        connection.isolation_level = None  # type: ignore[attr-defined]

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("tje_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


# What SQLite says, and what a user can do about it; in the order in which they are looked for.
_REMEDIES: tuple[tuple[tuple[str, ...], type[RegistryError], str], ...] = (
    (
        ("not a database", "malformed", "no such column", "encrypted"),
        RegistryDamaged,
        "the file is damaged or not a registry: move it away and calibrate anew, or restore a copy",
    ),
    (
        ("readonly", "read-only"),
        RegistryUnavailable,
        "it cannot be written: check the rights of the file and its folder",
    ),
    (("unable to open",), RegistryUnavailable, "check that its folder exists and may be read and written"),
    (("full", "disk i/o"), RegistryUnavailable, "the disk may be full: make room; what was stored before is intact"),
    (("locked", "busy"), RegistryUnavailable, "another process holds it: try again, or stop that process"),
)


def _explained(url: str, error: DBAPIError) -> RegistryError:
    said = str(error.orig)
    for signs, kind, remedy in _REMEDIES:
        if any(sign in said.lower() for sign in signs):
            return kind(f"{url}: {said}; {remedy}")
    return RegistryUnavailable(f"{url}: {said}")
