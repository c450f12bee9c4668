"""One batch into the database, so that writing it twice is writing it once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, case, func, or_
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, StatementError

from ..database import Database
from ..database.schema import DECISIONS, DROPS, FEEDBACK
from ._entries import FILLED, KEPT, Row


@dataclass(frozen=True)
class DropReport:
    """Entries that were dropped, for ``tje_drops``.

    Attributes:
        id: Chosen by whoever reports, so that a report that is sent again is the same report.
        count: How many.
        by: Host and process.
    """

    id: int
    count: int
    by: str


@dataclass(frozen=True)
class Batch:
    """What is written in one transaction."""

    decisions: Sequence[Row] = ()
    feedback: Sequence[Row] = ()
    drops: DropReport | None = None


def store(database: Database, batch: Batch) -> frozenset[str]:
    """Write a batch: all of it, but for rows that the database refuses.

    Returns:
        The ``decision_id`` of each row that was refused.

    Raises:
        RegistryError: the database cannot be written; the batch is to be written again.
    """
    try:
        with database.writing(alone=False) as connection:
            _write(connection, database, batch)
    except _RefusedRow:
        with database.writing(alone=False) as connection:
            return _write_one_by_one(connection, database, batch)
    return frozenset()


class _RefusedRow(Exception):  # noqa: N818 (it is no fault of the database, and never leaves this module)
    """A row holds something that the database does not take."""


def _write(connection: Connection, database: Database, batch: Batch) -> None:
    if batch.decisions:
        _upsert(connection, database, DECISIONS, batch.decisions)
    if batch.feedback:
        _upsert(connection, database, FEEDBACK, batch.feedback)
    if batch.drops is not None:
        row = {"id": batch.drops.id, "decisions": batch.drops.count, "recorded_by": batch.drops.by}
        _upsert(connection, database, DROPS, [{**row, "at": datetime.now(timezone.utc)}])


def _write_one_by_one(connection: Connection, database: Database, batch: Batch) -> frozenset[str]:
    refused: set[str] = set()
    for table, rows in ((DECISIONS, batch.decisions), (FEEDBACK, batch.feedback)):
        refused |= {row["decision_id"] for row in rows if not _is_taken(connection, database, table, row)}
    _write(connection, database, Batch(drops=batch.drops))
    return frozenset(refused)


def _is_taken(connection: Connection, database: Database, table: Table, row: Row) -> bool:
    try:
        with connection.begin_nested():
            _upsert(connection, database, table, [row])
    except _RefusedRow:
        return False
    return True


def _upsert(connection: Connection, database: Database, table: Table, rows: Sequence[Row]) -> None:
    insert = sqlite.insert(table) if database.is_sqlite else postgresql.insert(table)
    new = insert.excluded
    if table is DECISIONS:
        changed: dict[str, ColumnElement[Any]] = {
            column.name: new[column.name] for column in table.columns if column.name not in KEPT
        }
        changed |= {name: func.coalesce(new[name], table.c[name]) for name in FILLED}
        is_known = or_(new["saved_by"].is_not(None), func.coalesce(new["answered_by"], "") == "deeper")
        changed |= {name: case((is_known, new[name]), else_=table.c[name]) for name in ("saved_by", "tokens_saved")}
    elif table is FEEDBACK:  # of the answer and of the draft somebody may speak one after the other
        changed = {name: func.coalesce(new[name], table.c[name]) for name in ("correct", "draft_correct")}
        changed["given_at"] = new["given_at"]
    else:
        changed = {"decisions": new["decisions"]}
    upsert = insert.on_conflict_do_update(index_elements=list(table.primary_key), set_=changed)
    try:
        connection.execute(upsert, list(rows))
    except (DataError, IntegrityError) as error:
        raise _RefusedRow from error
    except DBAPIError:
        raise
    except (StatementError, OverflowError, ValueError, TypeError) as error:  # refused before it was sent
        raise _RefusedRow from error
