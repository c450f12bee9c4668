"""Entries as rows in the database; an odd one is dropped, and keeps no other from being written."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from ..database import Database
from ..errors import RegistryError
from ._entries import Decided, Entry, Row, feedback_row
from ._storing import Batch, DropReport, Stored, store

logger = logging.getLogger(__name__)


class MakesRows(Protocol):
    """Makes the row of a decision, for the user, host and process that is named."""

    def __call__(self, entry: Decided, *, recorded_by: str) -> Row: ...


def file(
    database: Database, entries: Sequence[Entry], report: DropReport | None, *, row_of: MakesRows, by: str
) -> Stored:
    """Write entries and a report of drops; what is refused counts the entries that became no row as well.

    Raises:
        RegistryError: the database cannot be written; all of it is to be written again.
    """
    try:
        return _file(database, entries, report, row_of=row_of, by=by)
    except (RegistryError, MemoryError):
        raise
    except Exception as error:  # nothing that is recorded may keep the rest from being written for ever
        # Its kind alone: the text may quote what was asked or answered.
        logger.warning("an error of the ledger's own (%s): its entries are written one by one", type(error).__name__)
    stored = [_file_or_drop(database, entry, row_of=row_of, by=by) for entry in entries]
    return Stored(sum(one.refused for one in stored), [each for one in stored for each in one.feedback])


def _file_or_drop(database: Database, entry: Entry, *, row_of: MakesRows, by: str) -> Stored:
    try:
        return _file(database, [entry], None, row_of=row_of, by=by)
    except (RegistryError, MemoryError):
        raise
    except Exception as error:
        logger.warning("an entry of the ledger cannot be written and is dropped (%s)", type(error).__name__)
        return Stored(1, ())


def _file(
    database: Database, entries: Sequence[Entry], report: DropReport | None, *, row_of: MakesRows, by: str
) -> Stored:
    decisions: list[Row] = []
    feedback: list[Row] = []
    for entry in entries:
        row = _row(entry, row_of, by)
        if row is not None:
            (decisions if isinstance(entry, Decided) else feedback).append(row)
    stored = store(database, Batch(decisions, feedback, report))
    if stored.refused:
        logger.warning("the database refused %d of the ledger's entries, which are dropped", stored.refused)
    return Stored(len(entries) - len(decisions) - len(feedback) + stored.refused, stored.feedback)


def _row(entry: Entry, row_of: MakesRows, by: str) -> Row | None:
    """The row of an entry; None for one that is none."""
    try:
        return row_of(entry, recorded_by=by) if isinstance(entry, Decided) else feedback_row(entry)
    except Exception as error:  # whatever somebody handed over for a decision
        logger.warning("an entry of the ledger is none and is dropped (%s)", type(error).__name__)
        return None
