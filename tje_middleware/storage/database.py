"""Database: transactions on SQLite or PostgreSQL, with checks of the schema, and errors with a remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Executable, Row
from sqlalchemy.exc import SQLAlchemyError

from .._process import ForkAware, tell_of_forks
from ..errors import RegistryDamaged, RegistryUnavailable
from . import migrating
from .faults import explained, holds_secret
from .postgres import postgres_engine
from .schema import HEAD
from .sqlite import is_set_in_stone, refuse_cut_file, sqlite_engine, stone_engine, write_ahead
from .url import DatabaseUrl

#: Runs a query within one reading; returns no rows where the database is still empty.
Read = Callable[[Executable], Sequence[Row[Any]]]


class Database(ForkAware):
    """A SQLite file or a PostgreSQL server, with the tables of registry and ledger.

    No connection is opened before the first use, and none stays open in a forked child. The tables are made in an
    empty database when it is first written; a database with the tables of another release is refused.

    Example:
        >>> Database("postgresql+psycopg://tje:geheim@db.example/tje")
        Database('postgresql+psycopg://tje:***@db.example/tje')

    Args:
        url: ``sqlite:///relative/path.db``, ``sqlite:////absolute/path.db``, or ``postgresql+psycopg://user@host/name``.

    Raises:
        RegistryError: the URL is malformed, or names a database that is not supported or has no driver installed.
    """

    def __init__(self, url: str) -> None:
        self.url = DatabaseUrl.parse(url)
        self.is_sqlite = self.url.is_sqlite
        self.engine: Engine = sqlite_engine(self.url) if self.is_sqlite else postgres_engine(self.url)
        self._is_at_head = False
        self._was_made = False  # whether this process has seen the tables: if they are gone since, they were lost
        tell_of_forks(self)

    @contextmanager
    def reading(self, *, patience: float | None = None) -> Iterator[Read]:
        """A snapshot of the database for several queries; waits at most ``patience`` seconds for a lock.

        A file that does not exist yet is read as an empty database, and not made.

        Raises:
            RegistryUnavailable: the database cannot be read.
            RegistryDamaged: it is no registry.
            SchemaMismatch: its tables are those of another release.
        """
        with self._explaining():
            if self.lacks_file() and self.url.path.parent.is_dir():
                if self._was_made:
                    raise self._lost()
                yield lambda _query: []
                return
            with self._snapshot() as connection:
                if patience is not None:
                    self._wait_at_most(connection, patience)
                # Another release may have migrated the database since the last reading.
                is_known = self._is_at_head and migrating.is_still_at_head(connection)
                made = is_known or self._require_schema(connection)
                if self._was_made and not made:
                    raise self._lost()
                yield lambda query: connection.execute(query).all() if made else []
                self._look_over(connection)

    @contextmanager
    def writing(self, *, alone: bool = True) -> Iterator[Connection]:
        """A transaction: all of it is stored, or nothing.

        Args:
            alone: Whether to wait until no other transaction with ``alone=True`` is open. It is not needed for rows
                that no other process changes.

        Raises:
            RegistryUnavailable: the database cannot be written (down, read-only, full, locked); nothing has changed.
            RegistryDamaged: it is no registry.
            SchemaMismatch: its tables are those of another release.
        """
        with self._explaining():
            # In this order: of a file that cannot be looked at, SQLite raises the clearer error.
            if not self._is_at_head or (self.is_sqlite and (self.lacks_file() or not self.url.path.stat().st_size)):
                self._make()
            with self._transaction(alone=alone) as connection:
                self._look_over(connection)
                # Checked in every transaction: the tables may have been removed since, and are then made anew, or
                # migrated by another release.
                if not self._require_schema(connection):
                    migrating.upgrade(connection, self.url)
                yield connection

    def lacks_file(self) -> bool:
        """Whether the database is a file that does not exist."""
        try:
            if self.is_sqlite:
                self.url.path.stat()
        except OSError as error:  # of other errors SQLite raises a clearer one
            return isinstance(error, FileNotFoundError)
        return False

    def revision(self) -> str | None:
        """The migration that the database is at; None while it is empty.

        Raises:
            RegistryUnavailable, RegistryDamaged: as :meth:`reading`.
        """
        with self._explaining(), self._snapshot() as connection:
            return migrating.revision_of(connection, self.url)

    def migrate(self) -> tuple[str | None, str]:
        """Migrate the database to this release's schema; returns the migrations before and after.

        Raises:
            RegistryUnavailable, RegistryDamaged: as :meth:`writing`; nothing has changed.
            SchemaMismatch: the database has the schema of a newer release.
        """
        with self._explaining():
            with self._transaction(alone=True) as connection:
                self._look_over(connection)
                before = migrating.revision_of(connection, self.url)
                if before is None and self.is_sqlite:
                    migrating.refuse_another_database(connection, self.url)
                if before is not None and before not in migrating.known_revisions():
                    migrating.require_head(self.url, before)
                migrating.upgrade(connection, self.url)
            if self.is_sqlite:
                write_ahead(self.engine)
        self._is_at_head = self._was_made = True
        return before, HEAD

    def close(self) -> None:
        """Close the connections; the database may be used again afterwards."""
        self.engine.dispose()

    def after_fork_in_child(self) -> None:
        """Forget the parent's sockets without closing them; files are not open during a fork."""
        self.engine.dispose(close=False)

    def __repr__(self) -> str:
        return f"Database({self.url.shown!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.url.anywhere,)

    def _make(self) -> None:
        """Make the tables where there are none; of several processes that start together, one makes them."""
        with self._snapshot() as connection:
            made = self._require_schema(connection)
            self._look_over(connection)
            if made:
                return
        if self.is_sqlite:
            write_ahead(self.engine)
        with self._transaction(alone=True) as connection:
            if not self._require_schema(connection):
                migrating.upgrade(connection, self.url)

    @contextmanager
    def _transaction(self, *, alone: bool) -> Iterator[Connection]:
        if self.is_sqlite:  # it has one writer at a time in any case, and begins every transaction as a writing one
            options: dict[str, Any] = {"tje_write": True}
        else:  # a transaction that waited for the lock must see the rows that were written meanwhile
            options = {"tje_write": alone, "isolation_level": "READ COMMITTED"}
        with self.engine.connect().execution_options(**options) as connection, connection.begin():
            yield connection

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        if not self.is_sqlite:
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            with self.engine.connect().execution_options(**options) as connection, connection.begin():
                yield connection
            return
        alone = is_set_in_stone(self.url.path)
        with (stone_engine(self.url) if alone else self.engine).begin() as connection:
            yield connection

    def _require_schema(self, connection: Connection) -> bool:
        """Whether the database has our tables; those of another release are refused."""
        revision = migrating.revision_of(connection, self.url)
        if revision is not None:
            migrating.require_head(self.url, revision)
        elif self.is_sqlite:
            migrating.refuse_another_database(connection, self.url)
        self._is_at_head = revision is not None
        self._was_made |= self._is_at_head
        return self._is_at_head

    def _look_over(self, connection: Connection) -> None:
        if self.is_sqlite:
            refuse_cut_file(connection, self.url)

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
            told = self._missing(error) or explained(self.url, error)
            if holds_secret(self.url, error):
                raise told from None
            raise told from error
        except OSError as error:
            raise RegistryUnavailable(f"{self.url}: {error}; check its file and folder") from error

    def _missing(self, error: SQLAlchemyError) -> RegistryUnavailable | None:
        """The error for tables that have disappeared; None where the error has another cause."""
        said = str(error).lower()
        if not self._was_made or not ("no such table" in said or "undefinedtable" in said):
            return None
        self._is_at_head = False
        try:
            with self._snapshot() as connection:
                if migrating.revision_of(connection, self.url) is not None:  # one table of several
                    return None
        except (SQLAlchemyError, RegistryDamaged):
            return None
        return self._lost()

    def _lost(self) -> RegistryUnavailable:
        self._is_at_head = False
        return RegistryUnavailable(
            f"{self.url} held profiles and is empty now: it was removed or replaced; "
            f"bring it back, or calibrate and put() anew"
        )
