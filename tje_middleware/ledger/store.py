"""Entries into the database: a batch may be written twice, and an odd entry keeps no other from being written."""

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

# What drivers say of a value, before it is sent or once the server has seen it.
_OF_VALUES = (DataError, IntegrityError, InterfaceError, NotSupportedError, ProgrammingError)
# The same of PostgreSQL, by the class of its SQLSTATE: data, constraints, types, limits.
_CLASSES_OF_VALUES = ("22", "23", "42", "54")
# Of class 42, but about the tables: rights, and what is not there (any more).
_OF_TABLES = ("42501", "42P01", "42703", "42P10")


@dataclass(frozen=True)
class DropReport:
    """Entries that were dropped, for ``tje_drops``.

    Attributes:
        id: Chosen by whoever reports, so that a report that is sent again is the same report.
        count: How many.
        refused: Of these, those that cannot be stored; for the rest a queue was full.
        by: Host and process.
    """

    id: int
    count: int
    refused: int
    by: str


@dataclass(frozen=True)
class Batch:
    """What is written in one transaction; of one decision there may be several rows, oldest first."""

    decisions: Sequence[Row] = ()
    feedback: Sequence[Row] = ()
    drops: DropReport | None = None

    def rows(self) -> Iterator[tuple[Table, Sequence[Row]]]:
        """All of it, by table; those that are written into at all."""
        for table, rows in ((DECISIONS, self.decisions), (FEEDBACK, self.feedback)):
            if rows:
                yield table, rows
        if self.drops is not None:
            yield DROPS, [_drops_row(self.drops)]


@dataclass(frozen=True)
class Stored:
    """What became of entries, or of the rows that they are.

    Attributes:
        faults: Of each that is not stored, what is wrong with it.
        feedback: Ids of decisions whose feedback was written.
    """

    faults: Sequence[str]
    feedback: Sequence[str]

    @property
    def refused(self) -> int:
        """How many are not stored."""
        return len(self.faults)


def store_entries(
    database: Database, entries: Sequence[Entry], report: DropReport | None, *, row_of: Callable[[Entry], Row]
) -> Stored:
    """Write entries, and a report of drops.

    Raises:
        RegistryError: the database cannot be written; all of it is to be written again.
        Exception: likewise, by an error that is none of the database and of no entry.
    """
    try:
        return _store_entries(database, entries, report, row_of)
    except (RegistryError, MemoryError):
        raise
    except Exception as error:  # nothing that is recorded may keep the rest from being written for ever
        # Its kind alone: the text may quote what was asked or answered.
        logger.warning("an error of the ledger's own (%s): its entries are written one by one", type(error).__name__)
    # Where even this cannot be written, the fault is in no entry, and none is given up for it.
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
    except Exception as error:  # whatever somebody handed over for a decision
        return what_is_wrong(entry, error)


def store(database: Database, batch: Batch) -> Stored:
    """Write a batch: all of it, but for rows that the database refuses.

    Raises:
        RegistryError: the database cannot be written; the batch is to be written again.
    """
    try:
        with database.writing(alone=False) as connection:
            for table, rows in batch.rows():
                _upsert(connection, database, table, rows)
    except _RefusedRow:
        with database.writing(alone=False) as connection:
            return _store_one_by_one(connection, database, batch)
    return Stored((), [row["decision_id"] for row in batch.feedback])


# How many seconds a statement waits at most; of a thread, so that another one that sums up meanwhile is not hurried.
_SECONDS: ContextVar[float | None] = ContextVar("tje_ledger_seconds", default=None)


@contextmanager
def waiting_at_most(seconds: float | None) -> Iterator[None]:
    """Have no statement to a database :func:`with_limited_waits` wait longer than this; None: as long as it does."""
    before = _SECONDS.set(seconds)
    try:
        yield
    finally:
        _SECONDS.reset(before)


def with_limited_waits(database: Database) -> Database:
    """The database, for which :func:`waiting_at_most` holds from now on."""
    # Before any statement, as those with which a transaction takes its locks wait as well.
    event.listen(database.engine, "before_cursor_execute", _limit_wait)
    return database


def _limit_wait(connection: Connection, cursor: DBAPICursor, statement: str, *_how: object) -> None:
    seconds = _SECONDS.get()
    if seconds is None or statement.startswith("ROLLBACK"):  # a failed transaction takes nothing else before it
        return
    milliseconds = max(1, int(seconds * 1000))  # to PostgreSQL, 0 is for ever
    setting = "PRAGMA busy_timeout" if connection.dialect.name == "sqlite" else "SET LOCAL statement_timeout"
    cursor.execute(f"{setting} = {milliseconds}")


def is_locked(error: RegistryUnavailable) -> bool:
    """Whether a database could not be written because it is a SQLite file that somebody else is writing."""
    cause = error.__cause__
    return isinstance(cause, DBAPIError) and "is locked" in str(cause.orig)


class _RefusedRow(Exception):  # noqa: N818 (it is no fault of the database, and never leaves this module)
    """A row holds something that the database does not take."""


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
    """Rows in the order in which all writers go through them, so that no two wait for each other.

    Those of one decision stay oldest first.
    """
    (name,) = table.primary_key.columns.keys()
    return sorted(rows, key=itemgetter(name))


def _upsert(connection: Connection, database: Database, table: Table, rows: Sequence[Row]) -> None:
    insert = sqlite.insert(table) if database.is_sqlite else postgresql.insert(table)
    if table is DROPS:  # a report that is sent again is the same report
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
    except SQLAlchemyError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # whatever a value does to whoever reads it
        raise _RefusedRow from error


def _is_about_a_value(error: DBAPIError) -> bool:
    """Whether the database refused what was to be written, and would have taken something else."""
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state.startswith(_CLASSES_OF_VALUES) and state not in _OF_TABLES
    return isinstance(error, _OF_VALUES) and not error.connection_invalidated


_Columns = ReadOnlyColumnCollection[str, Any]


def _merged(table: Table, new: _Columns) -> dict[str, ColumnElement[Any]]:
    """What a new record changes of the one that is stored, as the columns' ``keep`` says.

    The new one need not be the later one: another process, or an outage, may have held it back.
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
    # Where it is known who answered, a record that does not know it is the earlier one, whenever it was made.
    is_known, was_known = new["answered_by"].is_not(None), stored["answered_by"].is_not(None)
    return or_(
        and_(~is_known, was_known),
        and_(is_known == was_known, new["recorded_at"] < stored["recorded_at"]),
    )


def _kept(keep: Keep, name: str, later: _Columns, earlier: _Columns) -> ColumnElement[Any]:
    """One column of two records, of which it is known which one is the later."""
    if keep == "known":
        return func.coalesce(later[name], earlier[name])
    if keep == "saved":
        counts = or_(later["saved_by"].is_not(None), func.coalesce(later["answered_by"], "") == "deeper")
        return case((counts, later[name]), else_=earlier[name])
    column: ColumnElement[Any] = later[name]
    return column
