"""How long decisions are kept."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, exists, select

from ..database import Database
from ..database.schema import DECISIONS, DROPS, FEEDBACK
from ._range import Range

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
