"""Queries of the ledger's tables: decisions, their sums by key and day, latencies, alarms and drops.

The database computes the sums, so that a ledger is never loaded as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import ValidationError
from sqlalchemy import Column, ColumnElement, Select, String, case, delete, exists, func, or_, select

from ..calibration.key import ProfileKey
from ..registry.tables import ALARMS
from ..storage import Database
from .tables import DECISIONS, DROPS, FEEDBACK, stored_key

_D, _F = DECISIONS.c, FEEDBACK.c

#: Reasons of drafts that were judged; every other reason says why a draft was not judged.
JUDGED = ("confident", "uncertain", "hopeless", "branch_failed", "capped")

went_deeper = _D.answered_by == "deeper"
#: Whether the draft was right, by feedback on the draft, or on the answer where the draft was the answer.
draft_right = case(
    (_F.draft_correct.is_not(None), _F.draft_correct),
    (or_(_D.answered_by == "draft", (_D.answered_by.is_(None)) & (_D.route == "final")), _F.correct),
)


def number_of(holds: ColumnElement[bool]) -> ColumnElement[Any]:
    """The number of rows for which the condition is true; NULL where there are no rows."""
    return func.sum(case((holds, 1), else_=0))


#: The time that one summary covers.
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
        """The query limited to this range; the key is that of a decision."""
        if self.since is not None:
            query = query.where(at >= self.since)
        if self.until is not None:
            query = query.where(at < self.until)
        return query if self.key is None else query.where(DECISIONS.c.key == stored_key(self.key))


@dataclass(frozen=True)
class Unattributed:
    """Numbers of entries without a key.

    Attributes:
        dropped: Decisions and feedback that a full queue had no room for, or that cannot be stored.
        unmatched_feedback: Feedback about decisions that are not stored: not yet, not any more, or with another id.
    """

    dropped: int = 0
    unmatched_feedback: int = 0


def holds(database: Database, decision_id: str) -> bool:
    """Whether a decision is stored."""
    wanted = select(DECISIONS.c.decision_id).where(DECISIONS.c.decision_id == decision_id)
    with database.reading() as read:
        return bool(read(wanted))


def keys_with_decisions(database: Database) -> list[str]:
    """The keys of all decisions, in words."""
    with database.reading() as read:
        return [row.key for row in read(select(DECISIONS.c.key).distinct().order_by(DECISIONS.c.key))]


def unattributed(database: Database, within: Range) -> Unattributed:
    """The numbers of drops and unmatched feedback within a range of time."""
    dropped = within.of(select(func.coalesce(func.sum(DROPS.c.decisions), 0)), DROPS.c.at)
    known = select(DECISIONS.c.decision_id).where(DECISIONS.c.decision_id == FEEDBACK.c.decision_id)
    unmatched = within.of(select(func.count()).select_from(FEEDBACK), FEEDBACK.c.given_at).where(~known.exists())
    with database.reading() as read:
        counts = [int(row[0]) for query in (dropped, unmatched) for row in read(query)]
    return Unattributed(*counts)


# Decisions deleted in one transaction; other processes can write between two of them.
_AT_ONCE = 5_000


def prune(database: Database, before: datetime) -> int:
    """Delete decisions from before a time with their feedback, unmatched feedback, and reports of drops."""
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


class Place(NamedTuple):
    """The key and day of one summary; None: all days together."""

    key: str
    day: date | None


class Group(NamedTuple):
    """Decisions that are equal in the first fields, up to ``risk_limit``; the other fields are sums over them."""

    key: str
    day: date
    route: str
    reason: str
    answered_by: str | None
    draft_model: str | None
    deeper_model: str | None
    saved_by: str | None
    deeper_includes_draft: bool
    risk_limit: float | None
    decisions: int
    stale: int
    aborted: int
    alarmed: int
    partly_known: int
    draft_input_tokens: int
    draft_output_tokens: int
    deeper_input_tokens: int
    deeper_output_tokens: int
    draft_tokens: int  # written by the drafts, as savings count them
    tokens_saved: float
    feedback: int
    right: int  # drafts with feedback that they were right
    wrong: int


def groups(database: Database, within: Range) -> list[Group]:
    """All groups of a range: a few for each key and day."""
    alike = {name: _day_of(_D.decided_at, database) if name == "day" else _D[name] for name in _ALIKE}
    known_fully = _D.draft_output_tokens.is_not(None) & _D.usage_partly_known.is_(False)
    totals = {
        "decisions": func.count(),
        "stale": number_of(_D.stale.is_(True)),
        "aborted": number_of(_D.aborted.is_(True)),
        "alarmed": number_of(_D.alarm.is_not(None)),
        "partly_known": number_of(~known_fully),
        **{name: _sum(_D[name]) for name in _ADDED_UP},
        "draft_tokens": _sum(func.coalesce(_D.draft_output_tokens, _D.tokens)),
        "feedback": func.count(_F.decision_id),
        "right": number_of(draft_right.is_(True)),
        "wrong": number_of(draft_right.is_(False)),
    }
    query = (
        select(*(column.label(name) for name, column in (alike | totals).items()))
        .join_from(DECISIONS, FEEDBACK, _F.decision_id == _D.decision_id, isouter=True)
        .group_by(*alike.values())
    )
    with database.reading() as read:
        return [_group(row._mapping) for row in read(within.of(query))]


_ALIKE = Group._fields[: Group._fields.index("decisions")]
_ADDED_UP = (
    "draft_input_tokens",
    "draft_output_tokens",
    "deeper_input_tokens",
    "deeper_output_tokens",
    "tokens_saved",
)


def _group(row: Mapping[Any, Any]) -> Group:
    # PostgreSQL returns sums of whole numbers as decimals.
    plain: dict[str, Any] = {name: int(value) if isinstance(value, Decimal) else value for name, value in row.items()}
    plain["day"] = date.fromisoformat(row["day"])
    return Group(**plain)


def median_latencies(database: Database, within: Range, per: Per) -> dict[Place, float]:
    """Median latencies (seconds), where any are known."""
    day = _day_of(_D.decided_at, database)
    by = (_D.key, day) if per == "day" else (_D.key,)
    ranked = select(
        _D.key,
        day.label("day"),
        _D.latency_seconds.label("latency"),
        func.row_number().over(partition_by=by, order_by=_D.latency_seconds).label("place"),
        func.count().over(partition_by=by).label("n"),
    ).where(_D.latency_seconds.is_not(None))
    each = within.of(ranked).subquery()
    by_place = (each.c.key, each.c.day) if per == "day" else (each.c.key,)
    # The median is the value in the middle, or the mean of the two in the middle.
    query = (
        select(func.avg(each.c.latency), *by_place)
        .where((2 * each.c.place).between(each.c.n, each.c.n + 2))
        .group_by(*by_place)
    )
    with database.reading() as read:
        return {
            Place(place[0], date.fromisoformat(place[1]) if per == "day" else None): float(latency)
            for latency, *place in map(tuple, read(query))
        }


def alarms_raised(database: Database, within: Range, per: Per) -> dict[Place, int]:
    """The numbers of alarms that were raised."""
    # The key is compared below: alarms are stored under the key itself, and decisions under the key in words.
    query = replace(within, key=None).of(select(ALARMS.c.key, ALARMS.c.raised_at), ALARMS.c.raised_at)
    counts: dict[Place, int] = {}
    with database.reading() as read:
        for row in read(query):
            known = key_of(row.key)
            key = stored_key(row.key if known is None else str(known))
            if within.key is None or key == stored_key(within.key):
                place = Place(key, row.raised_at.date() if per == "day" else None)
                counts[place] = counts.get(place, 0) + 1
    return counts


def _day_of(at: ColumnElement[datetime], database: Database) -> ColumnElement[str]:
    """The day in UTC, as text."""
    if database.is_sqlite:
        return func.substr(at, 1, 10, type_=String)
    return func.to_char(func.timezone("UTC", at), "YYYY-MM-DD", type_=String)


def _sum(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(column), 0)


@lru_cache(maxsize=4_096)
def key_of(canonical: str) -> ProfileKey | None:
    """The key that is stored in this form; None for a form of another release. The newest are cached."""
    try:
        return ProfileKey.model_validate_json(canonical)
    except ValidationError:
        return None
