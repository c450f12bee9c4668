"""The registry: profiles on disk, versioned, shared by the processes of one machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

from pydantic import ValidationError
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Row,
    Select,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    inspect,
    select,
)
from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import Self

from ._sqlite import explained, refuse_cut_file, sqlite_engine
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
_NO_TABLE = f"no such table: {_PROFILES.name}"
# A decision does not wait longer for a locked database than this, and asks again for a profile that is missing.
_LOOKUP_PATIENCE_SECONDS = 0.5
_RETRY_SECONDS = 5.0
# Where a key has no profile, so many of the others are looked through for the one that may have been meant.
_MOST_KEYS = 200


@dataclass(frozen=True)
class _Kept:
    """What a look-up answers from memory, and until when (seconds of the monotonic clock)."""

    answer: ProfileLookup
    until: float


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
        self._engine = sqlite_engine(url)
        self._path = Path(str(self._engine.url.database)).absolute()
        self._met = False
        self._seen: dict[ProfileKey, _Kept] = {}
        self._seen_lock = threading.Lock()

    def put(self, profile: CalibrationProfile) -> int:
        """Store a profile as the newest version of its key; returns that version (1, 2, ...).

        Raises:
            RegistryUnavailable: the database cannot be written (read-only, full, locked); nothing has changed.
            RegistryDamaged: the file is no registry.
        """
        key = _canonical(profile.key)
        with self._writing() as connection:
            newest = connection.scalar(select(func.max(_PROFILES.c.version)).where(_PROFILES.c.key == key))
            version = (newest or 0) + 1
            stored = profile.model_copy(update={"version": version})
            connection.execute(insert(_PROFILES).values(key=key, version=version, body=stored.model_dump_json()))
        self._keep(profile.key, ProfileLookup(stored))
        return version

    def get(self, key: ProfileKey, *, version: int | None = None) -> CalibrationProfile:
        """The newest profile of a key, or one version of it, fresh from the database.

        Raises:
            ProfileNotFound: there is none.
            RegistryUnavailable: the database cannot be read.
            RegistryDamaged: what it holds cannot be read.
        """
        if version is None:
            return self._newest(key)
        rows = self._rows(_versions(key).where(_PROFILES.c.version == version))
        if not rows:
            raise ProfileNotFound(f"{self.url} has no version {version} of a profile for {key}")
        return self._read(rows[0])

    def lookup(self, key: ProfileKey) -> ProfileLookup:
        """The newest profile of a key for the decision path: from memory while it is fresh, and never raising.

        When the database cannot be asked, the last profile seen in this process serves, marked stale, and it
        is asked again after ``refresh_seconds``.
        """
        seen = self._seen.get(key)
        if seen and time.monotonic() < seen.until:
            return seen.answer
        if seen:
            # Other threads go on with what is known: only this one waits for a slow or locked database.
            self._keep(key, seen.answer)
        try:
            return ProfileLookup(self._newest(key, patience=_LOOKUP_PATIENCE_SECONDS))
        except ProfileNotFound as error:
            answer = ProfileLookup(None, problem=str(error))
        except RegistryError as error:
            last = seen.answer.profile if seen else None
            answer = ProfileLookup(last, stale=last is not None, problem=str(error))
        # What there is not yet is looked for more often than what there is, but not for every decision.
        rest = self._refresh_seconds if answer.profile else min(self._refresh_seconds, _RETRY_SECONDS)
        self._keep(key, answer, rest)
        return answer

    def history(self, key: ProfileKey) -> Sequence[CalibrationProfile]:
        """All versions of a key, oldest first; empty where there is none.

        Raises:
            RegistryUnavailable, RegistryDamaged: as :meth:`get`.
        """
        return [self._read(row) for row in self._rows(_versions(key).order_by(_PROFILES.c.version))]

    def delete(self, key: ProfileKey) -> int:
        """Remove all versions of a key; returns how many there were.

        Raises:
            ProfileNotFound: there was none.
            RegistryUnavailable, RegistryDamaged: as :meth:`put`.
        """
        with self._writing() as connection:
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
        return [self._read(row) for row in self._rows(query)]

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

    def __reduce__(self) -> tuple[object, ...]:
        # Another process opens the file for itself; connections and locks stay here.
        return partial(type(self), refresh_seconds=self._refresh_seconds), (self.url,)

    def _newest(self, key: ProfileKey, *, patience: float | None = None) -> CalibrationProfile:
        rows = self._rows(_versions(key).order_by(_PROFILES.c.version.desc()).limit(1), patience=patience)
        if not rows:
            raise ProfileNotFound(f"{self.url} has no profile for {key}; {self._hint(key, patience)}")
        profile = self._read(rows[0])
        self._keep(key, ProfileLookup(profile))
        return profile

    def _hint(self, key: ProfileKey, patience: float | None) -> str:
        """What to do where a key has no profile: it may be another that was meant."""
        stored = self._rows(select(_PROFILES.c.key).distinct().limit(_MOST_KEYS), patience=patience)
        others = [other for row in stored if (other := _key(row.key)) is not None]
        near = sorted(
            (other for other in others if _alike(key, other)), key=lambda other: (-_alike(key, other), str(other))
        )
        if not near:
            return "calibrate and put() one first"
        return f"it has {'; '.join(map(str, near[:3]))}: name the signal and the settings of the one that is meant"

    def _rows(
        self, query: Select[tuple[str, int, str]], *, patience: float | None = None
    ) -> Sequence[Row[tuple[str, int, str]]]:
        """Run a query, waiting at most ``patience`` seconds for a lock where that is given."""
        with self._explaining(), self._engine.begin() as connection:
            if patience is not None:
                connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(patience * 1000)}")
            rows: Sequence[Row[tuple[str, int, str]]] | None
            try:
                rows = connection.execute(query).all()
            except SQLAlchemyError as error:
                if _NO_TABLE not in str(error):
                    raise
                self._refuse_another_file(connection)
                if self._met:
                    raise RegistryUnavailable(
                        f"{self.url} held profiles and is empty now: the file was removed or replaced; "
                        f"bring it back, or calibrate and put() anew"
                    ) from error
                rows = None
            refuse_cut_file(connection, self._path, self.url)
        self._met = self._met or rows is not None
        return rows or []

    def _read(self, row: Row[tuple[str, int, str]]) -> CalibrationProfile:
        try:
            return CalibrationProfile.model_validate_json(row.body)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise RegistryDamaged(
                f"{self.url} holds a profile that cannot be read (version {row.version} of {row.key}): "
                f"{place}{': ' if place else ''}{first['msg']}; it is damaged or comes from another release of "
                f"tje-middleware: use that release, or calibrate and put() anew"
            ) from error

    def _keep(self, key: ProfileKey, answer: ProfileLookup, seconds: float | None = None) -> None:
        rest = self._refresh_seconds if seconds is None else seconds
        with self._seen_lock:
            self._seen[key] = _Kept(answer, time.monotonic() + rest)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self._explaining(), self._engine.execution_options(tje_write=True).begin() as connection:
            refuse_cut_file(connection, self._path, self.url)
            # Under the write lock: of processes that start together, one makes the table and the others find it.
            if not inspect(connection).has_table(_PROFILES.name):
                self._refuse_another_file(connection)
                _METADATA.create_all(connection)
            yield connection
        self._met = True

    def _refuse_another_file(self, connection: Connection) -> None:
        """Refuse a file without our table that holds something else; an empty one becomes a registry."""
        others = [name for name in inspect(connection).get_table_names() if name != _PROFILES.name]
        if others:
            raise RegistryDamaged(
                f"{self.url} is no registry but another application's database (its tables: "
                f"{', '.join(others[:3])}); nothing was written: name another file"
            )

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise explained(self.url, error) from error
        except OSError as error:
            raise RegistryUnavailable(f"{self.url}: {error}; check its file and folder") from error


def _versions(key: ProfileKey) -> Select[tuple[str, int, str]]:
    return select(_PROFILES).where(_PROFILES.c.key == _canonical(key))


def _canonical(key: ProfileKey) -> str:
    return key.model_dump_json()


def _key(canonical: str) -> ProfileKey | None:
    try:
        return ProfileKey.model_validate_json(canonical)
    except ValidationError:  # of another release; only a hint would come of it
        return None


def _alike(key: ProfileKey, other: ProfileKey) -> int:
    """How likely one key was meant by the other: 0 for not at all."""
    return (key.model == other.model) + (key.task == other.task)
