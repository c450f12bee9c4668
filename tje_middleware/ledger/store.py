"""Storing entries: a batch may be written twice, and an entry that cannot be stored does not hold up the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timezone
from operator import itemgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, case, event, func, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    NotSupportedError,
    ProgrammingError,
    SQLAlchemyError,
    StatementError,
)
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from ..errors import RegistryError, RegistryUnavailable
from ..storage import Database
from .tables import DECISIONS, DROPS, FEEDBACK, Entry, Keep, Row, table_of, what_is_wrong

logger = logging.getLogger(__name__)

# Errors by which drivers refuse a value, before it is sent or after the server has seen it.
_OF_VALUES = (DataError, IntegrityError, InterfaceError, NotSupportedError, ProgrammingError)
# Classes of PostgreSQL's SQLSTATE for a refused value: data, constraints, types, limits.
_CLASSES_OF_VALUES = ("22", "23", "42", "54")
# States of class 42 that are about the tables: missing rights, tables or columns.
_OF_TABLES = ("42501", "42P01", "42703", "42P10")


@dataclass(frozen=True)
class DropReport:
    """Entries that were dropped, for ``tje_drops``.

    Attributes:
        id: Chosen by the writer, so that a report that is sent again is stored once.
        count: The number of entries.
        refused: The number of those that cannot be stored; for the others the queue was full.
        by: The host and process of the writer.
    """

    id: int
    count: int
    refused: int
    by: str


@dataclass(frozen=True)
class Batch:
    """Rows to write in one transaction; one decision may have several rows, oldest first."""

    decisions: Sequence[Row] = ()
    feedback: Sequence[Row] = ()
    drops: DropReport | None = None

    def rows(self) -> Iterator[tuple[Table, Sequence[Row]]]:
        """The rows by table, for the tables that have any."""
        for table, rows in ((DECISIONS, self.decisions), (FEEDBACK, self.feedback)):
            if rows:
                yield table, rows
        if self.drops is not None:
            yield DROPS, [_drops_row(self.drops)]


@dataclass(frozen=True)
class Stored:
    """The result of storing entries.

    Attributes:
        faults: For each entry that is not stored, what is wrong with it.
        feedback: Ids of the decisions whose feedback was stored.
    """

    faults: Sequence[str]
    feedback: Sequence[str]

    @property
    def refused(self) -> int:
        """The number of entries that are not stored."""
        return len(self.faults)


def store_entries(
    database: Database, entries: Sequence[Entry], report: DropReport | None, *, row_of: Callable[[Entry], Row]
) -> Stored:
    """Write entries, and a report of drops.

    Raises:
        RegistryError: the database cannot be written; entries and report must be written again.
        Exception: likewise, for an error that neither the database nor an entry caused.
    """
    try:
        return _store_entries(database, entries, report, row_of)
    except (RegistryError, MemoryError):
        raise
    except Exception as error:  # one entry must not keep the others from ever being written
        # Only the error's class: its text may quote a prompt or an answer.
        logger.warning("an error of the ledger's own (%s): its entries are written one by one", type(error).__name__)
    # Where even the report cannot be written, no entry is at fault, and none is dropped.
    store(database, Batch(drops=report))
    stored = [_store_one(database, entry, row_of) for entry in entries]
    return Stored(
        [fault for one in stored for fault in one.faults], [each for one in stored for each in one.feedback]
    )


def _store_one(database: Database, entry: Entry, row_of: Callable[[Entry], Row]) -> Stored:
    try:
        return _store_entries(database, [entry], None, row_of)
    except (RegistryError, MemoryError):
        raise
    except Exception as error:
        return Stored([what_is_wrong(entry, error)], ())


def _store_entries(
    database: Database, entries: Sequence[Entry], report: DropReport | None, row_of: Callable[[Entry], Row]
) -> Stored:
    decisions: list[Row] = []
    feedback: list[Row] = []
    faults: list[str] = []
    for entry in entries:
        row = _row_or_fault(entry, row_of)
        if isinstance(row, str):
            faults.append(row)
        else:
            (decisions if table_of(entry) is DECISIONS else feedback).append(row)
    stored = store(database, Batch(decisions, feedback, report))
    return Stored([*faults, *stored.faults], stored.feedback)


def _row_or_fault(entry: Entry, row_of: Callable[[Entry], Row]) -> Row | str:
    try:
        return row_of(entry)
    except Exception as error:  # the object may be no decision at all
        return what_is_wrong(entry, error)


def store(database: Database, batch: Batch) -> Stored:
    """Write a batch, without the rows that the database refuses.

    Raises:
        RegistryError: the database cannot be written; the batch must be written again.
    """
    try:
        with database.writing(alone=False) as connection:
            for table, rows in batch.rows():
                _upsert(connection, database, table, rows)
    except _RefusedRow:
        with database.writing(alone=False) as connection:
            return _store_one_by_one(connection, database, batch)
    return Stored((), [row["decision_id"] for row in batch.feedback])


# The time limit of statements (seconds); it holds for one thread, and not for another that reads a summary meanwhile.
_SECONDS: ContextVar[float | None] = ContextVar("tje_ledger_seconds", default=None)


@contextmanager
def waiting_at_most(seconds: float | None) -> Iterator[None]:
    """Limit how long statements to a database :func:`with_limited_waits` wait in this block; None: no limit."""
    before = _SECONDS.set(seconds)
    try:
        yield
    finally:
        _SECONDS.reset(before)


def with_limited_waits(database: Database) -> Database:
    """The database, with :func:`waiting_at_most` in effect for its statements."""
    # Set before each statement, as the statements by which a transaction takes its locks wait as well.
    event.listen(database.engine, "before_cursor_execute", _limit_wait)
    return database


def _limit_wait(connection: Connection, cursor: DBAPICursor, statement: str, *_how: object) -> None:
    seconds = _SECONDS.get()
    if seconds is None or statement.startswith("ROLLBACK"):  # after a failure only a rollback may be sent
        return
    milliseconds = max(1, int(seconds * 1000))  # for PostgreSQL 0 means no limit
    setting = "PRAGMA busy_timeout" if connection.dialect.name == "sqlite" else "SET LOCAL statement_timeout"
    cursor.execute(f"{setting} = {milliseconds}")


def is_locked(error: RegistryUnavailable) -> bool:
    """Whether a database could not be written because it is a SQLite file that another process is writing."""
    cause = error.__cause__
    return isinstance(cause, DBAPIError) and "is locked" in str(cause.orig)


class _RefusedRow(Exception):  # noqa: N818 (it never leaves this module)
    """The database refused a value of a row."""


def _store_one_by_one(connection: Connection, database: Database, batch: Batch) -> Stored:
    refused: list[str] = []
    feedback: list[str] = []
    for table, rows in batch.rows():
        for row in _in_order(table, rows):
            is_taken = _is_taken(connection, database, table, row)
            if table is DROPS:
                if not is_taken:
                    logger.warning("the database refused the ledger's report of %d dropped entries", row["decisions"])
            elif not is_taken:
                refused.append("an entry that the database refuses")
            elif table is FEEDBACK:
                feedback.append(row["decision_id"])
    return Stored(refused, feedback)


def _drops_row(drops: DropReport) -> Row:
    return {
        "id": drops.id,
        "at": datetime.now(timezone.utc),
        "recorded_by": drops.by,
        "decisions": drops.count,
        "refused": drops.refused,
    }


def _is_taken(connection: Connection, database: Database, table: Table, row: Row) -> bool:
    try:
        with connection.begin_nested():
            _upsert(connection, database, table, [row])
    except _RefusedRow:
        return False
    return True


def _in_order(table: Table, rows: Sequence[Row]) -> Sequence[Row]:
    """Rows sorted by id, as all writers write them, so that no two wait for each other.

    Rows of one decision stay in their order, oldest first.
    """
    (name,) = table.primary_key.columns.keys()
    return sorted(rows, key=itemgetter(name))


def _upsert(connection: Connection, database: Database, table: Table, rows: Sequence[Row]) -> None:
    insert = sqlite.insert(table) if database.is_sqlite else postgresql.insert(table)
    if table is DROPS:  # a report that is sent again is stored once
        upsert = insert.on_conflict_do_nothing()
    else:
        changed = _merged(table, insert.excluded)
        upsert = insert.on_conflict_do_update(index_elements=list(table.primary_key), set_=changed)
    try:
        connection.execute(upsert, _in_order(table, rows))
    except DBAPIError as error:
        if _is_about_a_value(error):
            raise _RefusedRow from error
        raise
    except StatementError as error:  # refused before it was sent
        raise _RefusedRow from error
    except (SQLAlchemyError, MemoryError):
        raise
    except Exception as error:  # a value's own code may raise anything when it is read
        raise _RefusedRow from error


def _is_about_a_value(error: DBAPIError) -> bool:
    """Whether the database refused a value, and would have taken another one."""
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state.startswith(_CLASSES_OF_VALUES) and state not in _OF_TABLES
    return isinstance(error, _OF_VALUES) and not error.connection_invalidated


_Columns = ReadOnlyColumnCollection[str, Any]


def _merged(table: Table, new: _Columns) -> dict[str, ColumnElement[Any]]:
    """The columns of the merged record, from the new and the stored one, as each column's ``keep`` says.

    The new record need not be the later one: it may have been held back by an outage, or by another process.
    """
    stored = table.c
    is_earlier = _is_earlier(new, stored)
    merged: dict[str, ColumnElement[Any]] = {}
    for column in table.columns:
        name, keep = column.name, column.info["keep"]
        if column.primary_key:
            continue
        if keep == "first":
            merged[name] = case((new["decided_at"] < stored["decided_at"], new[name]), else_=stored[name])
        else:
            if_earlier, if_later = _kept(keep, name, stored, new), _kept(keep, name, new, stored)
            merged[name] = case((is_earlier, if_earlier), else_=if_later)
    return merged


def _is_earlier(new: _Columns, stored: _Columns) -> ColumnElement[bool]:
    """Whether the new record is the earlier one."""
    if "given_at" in stored:
        is_earlier: ColumnElement[bool] = new["given_at"] < stored["given_at"]
        return is_earlier
    # A record without ``answered_by`` is earlier than one with it, whatever their times are.
    is_known, was_known = new["answered_by"].is_not(None), stored["answered_by"].is_not(None)
    return or_(
        and_(~is_known, was_known),
        and_(is_known == was_known, new["recorded_at"] < stored["recorded_at"]),
    )


def _kept(keep: Keep, name: str, later: _Columns, earlier: _Columns) -> ColumnElement[Any]:
    """One column of the merged record, from the later and the earlier one."""
    if keep == "known":
        return func.coalesce(later[name], earlier[name])
    if keep == "saved":
        counts = or_(later["saved_by"].is_not(None), func.coalesce(later["answered_by"], "") == "deeper")
        return case((counts, later[name]), else_=earlier[name])
    column: ColumnElement[Any] = later[name]
    return column
