"""How long what the ledger does in the database waits for others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sqlalchemy import Connection, event
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError

from ..errors import RegistryUnavailable
from ..storage import Database

# Of a thread: another one that sums up meanwhile is not hurried.
_SECONDS: ContextVar[float | None] = ContextVar("tje_ledger_patience", default=None)


@contextmanager
def waiting_at_most(seconds: float | None) -> Iterator[None]:
    """Have no statement to a :func:`hurriable` database wait longer than this; None: as long as that says."""
    before = _SECONDS.set(seconds)
    try:
        yield
    finally:
        _SECONDS.reset(before)


def hurriable(database: Database) -> Database:
    """The database, which :func:`waiting_at_most` holds for from now on."""
    # Before any statement, and so before those with which a transaction takes its locks.
    event.listen(database.engine, "before_cursor_execute", _limit)
    return database


def is_locked(error: RegistryUnavailable) -> bool:
    """Whether it is a SQLite file that somebody else is writing."""
    cause = error.__cause__
    return isinstance(cause, DBAPIError) and "is locked" in str(cause.orig)


def _limit(connection: Connection, cursor: DBAPICursor, statement: str, *_how: object) -> None:
    seconds = _SECONDS.get()
    if seconds is None or statement.startswith("ROLLBACK"):  # of which a failed transaction takes nothing else
        return
    milliseconds = max(1, int(seconds * 1000))  # to PostgreSQL, 0 is for ever
    setting = "PRAGMA busy_timeout" if connection.dialect.name == "sqlite" else "SET LOCAL statement_timeout"
    cursor.execute(f"{setting} = {milliseconds}")
