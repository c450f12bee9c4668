"""Entries as rows in the database; an odd one is dropped, and keeps no other from being written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import RegistryError
from ..storage import Database
from .store import Batch, DropReport, store
from .tables import Entry, Row, SettledDecision, what_is_wrong

logger = logging.getLogger(__name__)


#: Makes the row of an entry.
RowOf = Callable[[Entry], Row]


@dataclass(frozen=True)
class Filed:
    """What became of entries.

    Attributes:
        faults: Of each that cannot be stored, what is wrong with it.
        feedback: Ids of decisions whose feedback was written.
    """

    faults: Sequence[str]
    feedback: Sequence[str]


def file(database: Database, entries: Sequence[Entry], report: DropReport | None, *, row_of: RowOf) -> Filed:
    """Write entries and a report of drops.

    Raises:
        RegistryError: the database cannot be written; all of it is to be written again.
        Exception: likewise, by an error that is none of the database and of no entry.
    """
    try:
        return _file(database, entries, report, row_of=row_of)
    except (RegistryError, MemoryError):
        raise
    except Exception as error:  # nothing that is recorded may keep the rest from being written for ever
        # Its kind alone: the text may quote what was asked or answered.
        logger.warning("an error of the ledger's own (%s): its entries are written one by one", type(error).__name__)
    # What keeps this from being written is the fault of no entry, and costs none.
    store(database, Batch(drops=report))
    filed = [_file_one(database, entry, row_of=row_of) for entry in entries]
    return Filed([fault for one in filed for fault in one.faults], [each for one in filed for each in one.feedback])


def _file_one(database: Database, entry: Entry, *, row_of: RowOf) -> Filed:
    try:
        return _file(database, [entry], None, row_of=row_of)
    except (RegistryError, MemoryError):
        raise
    except Exception as error:
        return Filed([what_is_wrong(entry, error)], ())


def _file(database: Database, entries: Sequence[Entry], report: DropReport | None, *, row_of: RowOf) -> Filed:
    decisions: list[Row] = []
    feedback: list[Row] = []
    faults: list[str] = []
    for entry in entries:
        row = _row_or_fault(entry, row_of)
        if isinstance(row, str):
            faults.append(row)
        else:
            (decisions if isinstance(entry, SettledDecision) else feedback).append(row)
    stored = store(database, Batch(decisions, feedback, report))
    return Filed([*faults, *["an entry that the database refuses"] * stored.refused], stored.feedback)


def _row_or_fault(entry: Entry, row_of: RowOf) -> Row | str:
    try:
        return row_of(entry)
    except Exception as error:  # whatever somebody handed over for a decision
        return what_is_wrong(entry, error)
