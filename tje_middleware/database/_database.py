"""One database, opened for each piece of work: transactions, the schema they need, and errors in our words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Executable, Row
from sqlalchemy.exc import SQLAlchemyError

from ..errors import RegistryUnavailable
from . import _migrating
from ._faults import explained, holds_secret
from ._postgres import postgres_engine
from ._sqlite import path_of, refuse_cut_file, sqlite_engine, write_ahead
from ._url import DatabaseUrl
from .schema import HEAD

#: Runs a query within one reading; nothing where the database is still empty.
Read = Callable[[Executable], Sequence[Row[Any]]]


class Database:
    """A SQLite file or a PostgreSQL server, with the tables of ``schema``.

    Nothing is opened before the first use, and nothing stays open in a forked child. An empty database gets the
    tables with the first writing; one with the tables of another release is refused.

    Example:
        >>> Database("postgresql+psycopg://tje:geheim@db.example/tje")
        Database('postgresql+psycopg://tje:***@db.example/tje')

    Args:
        url: ``sqlite:///relative/path.db``, ``sqlite:////absolute/path.db``, or ``postgresql+psycopg://user@host/name``.

    Raises:
        RegistryError: a URL that is none, of a database that is not supported, or whose driver is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = DatabaseUrl.parse(url)
        self.is_sqlite = self.url.is_sqlite
        self.engine: Engine = sqlite_engine(self.url) if self.is_sqlite else postgres_engine(self.url)
        self._given = url
        self._is_at_head = False

    @contextmanager
    def reading(self, *, patience: float | None = None) -> Iterator[Read]:
        """One moment of the database, for several queries; waits at most ``patience`` seconds for a lock.

        Raises:
            RegistryUnavailable: it cannot be asked.
            RegistryDamaged: what it holds is no registry.
            SchemaMismatch: its tables are those of another release.
        """
        with self._explaining(), self._snapshot() as connection:
            if patience is not None:
                self._wait_at_most(connection, patience)
            made = self._require_schema(connection)
            yield lambda query: connection.execute(query).all() if made else []
            self._look_over(connection)

    @contextmanager
    def writing(self, *, alone: bool = True) -> Iterator[Connection]:
        """A transaction: all of it is stored, or nothing.

        Args:
            alone: Whether nobody else who asks for that may write meanwhile. Rows that nobody else changes need not.

        Raises:
            RegistryUnavailable: it cannot be written (down, read-only, full, locked); nothing has changed.
            RegistryDamaged: what it holds is no registry.
            SchemaMismatch: its tables are those of another release.
        """
        with self._explaining():
            if not self._is_at_head:
                self._make()
            # SQLite has one writer at a time in any case, and says so before it is too late.
            engine = self.engine.execution_options(tje_write=alone or self.is_sqlite)
            with engine.begin() as connection:
                self._look_over(connection)
                if not self._require_schema(connection):
                    _migrating.upgrade(connection)
                yield connection

    def revision(self) -> str | None:
        """The migration that the database is at; None while it is empty.

        Raises:
            RegistryUnavailable, RegistryDamaged: as :meth:`reading`.
        """
        with self._explaining(), self._snapshot() as connection:
            return _migrating.revision_of(connection)

    def migrate(self) -> tuple[str | None, str]:
        """Bring it to this release's schema; returns the migrations that it was at and is at now.

        Raises:
            RegistryUnavailable, RegistryDamaged: as :meth:`writing`; nothing has changed.
            SchemaMismatch: a newer release has been here.
        """
        with self._explaining():
            with self.engine.execution_options(tje_write=True).begin() as connection:
                self._look_over(connection)
                before = _migrating.revision_of(connection)
                if before is None and self.is_sqlite:
                    _migrating.refuse_another_database(connection, self.url)
                if before is not None and before not in _migrating.known_revisions():
                    _migrating.require_head(self.url, before)
                _migrating.upgrade(connection)
            if self.is_sqlite:
                write_ahead(self.engine)
        self._is_at_head = True
        return before, HEAD

    def close(self) -> None:
        """Close the connections; it may be used again afterwards."""
        self.engine.dispose()

    def __repr__(self) -> str:
        return f"Database({self.url.shown!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self._given,)

    def _make(self) -> None:
        """Make the file and the tables where there are none, of processes that start together by one."""
        with self.engine.execution_options(tje_write=True).begin() as connection:
            self._look_over(connection)
            if self._require_schema(connection):
                return
            _migrating.upgrade(connection)
        if self.is_sqlite:
            write_ahead(self.engine)

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        # On SQLite every transaction is one.
        options = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self.engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection

    def _require_schema(self, connection: Connection) -> bool:
        """Whether there are tables; of another release they are refused."""
        if self._is_at_head and not self.is_sqlite:
            return True
        revision = _migrating.revision_of(connection)  # again and again of a file: it may have been replaced
        if revision is None:
            if self.is_sqlite:
                _migrating.refuse_another_database(connection, self.url)
            if self._is_at_head:
                raise RegistryUnavailable(
                    f"{self.url} held profiles and is empty now: the file was removed or replaced; "
                    f"bring it back, or calibrate and put() anew"
                )
            return False
        _migrating.require_head(self.url, revision)
        self._is_at_head = True
        return True

    def _look_over(self, connection: Connection) -> None:
        if self.is_sqlite:
            refuse_cut_file(connection, path_of(self.url), self.url)

    def _wait_at_most(self, connection: Connection, seconds: float) -> None:
        milliseconds = int(seconds * 1000)
        if self.is_sqlite:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {milliseconds}")
        else:
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            told = explained(self.url, error)
            if holds_secret(self.url, error):
                raise told from None
            raise told from error
        except OSError as error:
            raise RegistryUnavailable(f"{self.url}: {error}; check its file and folder") from error
