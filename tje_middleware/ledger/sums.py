"""What the database adds up, so that a ledger of any size is never loaded."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, String, func, select

from ..registry.tables import ALARMS
from ..storage import Database
from .keys import key_of
from .labels import draft_right, number_of
from .range import Per, Range
from .tables import DECISIONS, FEEDBACK, stored_key

_D, _F = DECISIONS.c, FEEDBACK.c


class Place(NamedTuple):
    """What one summary is about; no day: all of them together."""

    key: str
    day: date | None


class Group(NamedTuple):
    """Decisions of one key and day that are alike in what they are counted by; sums are over the group."""

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
    right: int  # drafts
    wrong: int


def groups(database: Database, within: Range) -> list[Group]:
    """All groups of a range: a few for each key and day."""
    day = _day_of(_D.decided_at, database)
    alike = {"key": _D.key, "day": day} | {name: _D[name] for name in _ALIKE}
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


_ALIKE = (
    "route",
    "reason",
    "answered_by",
    "draft_model",
    "deeper_model",
    "saved_by",
    "deeper_includes_draft",
    "risk_limit",
)
_ADDED_UP = (
    "draft_input_tokens",
    "draft_output_tokens",
    "deeper_input_tokens",
    "deeper_output_tokens",
    "tokens_saved",
)


def _group(row: Mapping[Any, Any]) -> Group:
    # PostgreSQL adds whole numbers up as decimals.
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
    # The one in the middle, or the two.
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
    """How many alarms were raised."""
    query = select(ALARMS.c.key, ALARMS.c.raised_at)
    if within.since is not None:
        query = query.where(ALARMS.c.raised_at >= within.since)
    if within.until is not None:
        query = query.where(ALARMS.c.raised_at < within.until)
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
