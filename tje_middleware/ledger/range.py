"""Which decisions are asked about, and what is known of them without their keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

from sqlalchemy import Column, Select, delete, exists, func, select

from ..storage import Database
from .tables import DECISIONS, DROPS, FEEDBACK, stored_key

#: What one summary is of.
Per = Literal["day", "total"]

_Query = TypeVar("_Query", bound=Select[Any])


@dataclass(frozen=True)
class Range:
    """Decisions from ``since`` on and before ``until``, of one key in words; None: no limit."""

    since: datetime | None = None
    until: datetime | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        for time in (self.since, self.until):
            if time is not None and time.tzinfo is None:
                raise ValueError(f"a time without a zone is no point in time: {time!r}")

    def of(self, query: _Query, at: Column[datetime] = DECISIONS.c.decided_at) -> _Query:
        """A query limited to it; the key is that of a decision."""
        if self.since is not None:
            query = query.where(at >= self.since)
        if self.until is not None:
            query = query.where(at < self.until)
        return query if self.key is None else query.where(DECISIONS.c.key == stored_key(self.key))


@dataclass(frozen=True)
class Unattributed:
    """What belongs to no key.

    Attributes:
        dropped: Decisions and feedback that a full queue had no room for, or that cannot be stored.
        unmatched_feedback: Feedback about decisions that are not there: not yet, no more, or under another id.
    """

    dropped: int = 0
    unmatched_feedback: int = 0


def holds(database: Database, decision_id: str) -> bool:
    """Whether a decision is stored."""
    wanted = select(DECISIONS.c.decision_id).where(DECISIONS.c.decision_id == decision_id)
    with database.reading() as read:
        return bool(read(wanted))


def keys_with_decisions(database: Database) -> list[str]:
    """Keys in words."""
    with database.reading() as read:
        return [row.key for row in read(select(DECISIONS.c.key).distinct().order_by(DECISIONS.c.key))]


def unattributed(database: Database, within: Range) -> Unattributed:
    """Of the drops and feedback within a range of time."""
    dropped = within.of(select(func.coalesce(func.sum(DROPS.c.decisions), 0)), DROPS.c.at)
    known = select(DECISIONS.c.decision_id).where(DECISIONS.c.decision_id == FEEDBACK.c.decision_id)
    unmatched = within.of(select(func.count()).select_from(FEEDBACK), FEEDBACK.c.given_at).where(~known.exists())
    with database.reading() as read:
        counts = [int(row[0]) for query in (dropped, unmatched) for row in read(query)]
    return Unattributed(*counts)


# In one transaction: others write between two of them.
_AT_ONCE = 5_000


def prune(database: Database, before: datetime) -> int:
    """Delete decisions from before a time with their feedback, feedback that never met one, and reports of drops."""
    within = Range(until=before)
    deleted = 0
    while chunk := _prune_some(database, within):
        deleted += chunk
    known = exists().where(DECISIONS.c.decision_id == FEEDBACK.c.decision_id)
    with database.writing(alone=False) as connection:
        connection.execute(delete(FEEDBACK).where(FEEDBACK.c.given_at < before, ~known))
        connection.execute(delete(DROPS).where(DROPS.c.at < before))
    return deleted


def _prune_some(database: Database, within: Range) -> int:
    old = within.of(select(DECISIONS.c.decision_id)).limit(_AT_ONCE)
    with database.writing(alone=False) as connection:
        ids = list(connection.execute(old).scalars())
        for table in (FEEDBACK, DECISIONS):
            connection.execute(delete(table).where(table.c.decision_id.in_(ids)))
    return len(ids)
