"""What there is to look at in what a registry holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone

from sqlalchemy import func, literal, select

from ...database import Database
from ...database.schema import DECISIONS, DROPS
from .._overview import KeyOverview, overview
from ._finding import Finding

# So many decisions are counted; more are not worth the time.
_MOST_DECISIONS = 1_000_000
_RECENT = timedelta(days=7)
_MOST_NAMES = 3


def holdings(database: Database, *, old_after: timedelta) -> Iterator[Finding]:
    """Whether profiles can be read, are active, usable, undisputed and recent; and whether the ledger is whole."""
    keys = overview(database)
    yield _readable(keys)
    yield from _waiting(keys)
    yield from _unusable(keys)
    yield from _disputed(keys)
    yield from _old(keys, old_after)
    yield _ledger(database)


def _readable(keys: Sequence[KeyOverview]) -> Finding:
    broken = [one.problem or f"its key cannot be read: {one.name}" for one in keys if one.problem or one.key is None]
    if broken:
        return Finding(
            "profiles",
            "fail",
            f"{len(broken)} of {len(keys)} keys cannot be used by this release: {'; '.join(broken[:_MOST_NAMES])}",
            "upgrade tje-middleware to the release that put them, or calibrate and put() them anew",
        )
    if not keys:
        return Finding("profiles", "ok", "none yet", "tje calibrate --registry URL stores one")
    versions = sum(len(one.versions) for one in keys)
    active = sum(one.active is not None for one in keys)
    return Finding("profiles", "ok", f"{active} active, all can be read; {versions} versions of {len(keys)} keys")


def _waiting(keys: Sequence[KeyOverview]) -> Iterator[Finding]:
    if never := [one for one in keys if one.active_version is None]:
        yield Finding(
            "candidates",
            "warn",
            f"none of its versions is active, so gates have no profile: {_names(never)}",
            "tje registry promote MODEL TASK VERSION",
        )
    elif waiting := [one for one in keys if one.candidates]:
        yield Finding("candidates", "ok", f"waiting to be promoted or left: {_names(waiting)}")


def _unusable(keys: Sequence[KeyOverview]) -> Iterator[Finding]:
    active = [one for one in keys if one.active is not None]
    if unusable := [one for one in active if one.active is not None and one.active.verdict == "unusable"]:
        yield Finding(
            "verdicts",
            "warn",
            f"unusable, so that every draft goes deeper: {_names(unusable)}",
            "tje registry rollback MODEL TASK makes the version before active; or calibrate on more records",
        )
    elif active:
        yield Finding("verdicts", "ok", "every active profile can be gated by")


def _disputed(keys: Sequence[KeyOverview]) -> Iterator[Finding]:
    if disputed := [one for one in keys if one.alarms]:
        yield Finding(
            "alarms",
            "warn",
            f"{sum(one.alarms for one in disputed)} that nobody dismissed: {_names(disputed)}",
            "tje registry alarms tells them; calibrate on recent records and promote that, or dismiss them",
        )
    else:
        yield Finding("alarms", "ok", "none about an active version")


def _old(keys: Sequence[KeyOverview], old_after: timedelta) -> Iterator[Finding]:
    now = datetime.now(timezone.utc)
    active = [one for one in keys if one.active is not None]
    old = [one for one in active if one.active is not None and now - one.active.created_at > old_after]
    if old:
        yield Finding(
            "age",
            "warn",
            f"calibrated more than {old_after.days} days ago: {_names(old)}",
            "providers change models behind a name: calibrate on recent records and promote that",
        )
    elif active:
        yield Finding("age", "ok", f"every active profile was calibrated within {old_after.days} days")


def _ledger(database: Database) -> Finding:
    some = select(literal(1)).select_from(DECISIONS).limit(_MOST_DECISIONS + 1).subquery()
    since = datetime.now(timezone.utc) - _RECENT
    with database.reading() as read:
        decisions = read(select(func.count()).select_from(some))[0][0]
        sums = select(func.sum(DROPS.c.decisions), func.sum(DROPS.c.refused)).where(DROPS.c.at >= since)
        dropped, refused = (number or 0 for number in read(sums)[0])
    size = f"more than {_MOST_DECISIONS:,}" if decisions > _MOST_DECISIONS else f"{decisions:,}"
    if dropped:
        causes = (
            (refused, "could not be stored", "what is wrong with them is in the log of the process that made them"),
            (dropped - refused, "found a queue full", "give DecisionLedger a larger capacity or a faster database"),
        )
        why = ", ".join(f"{number:,} {what}" for number, what, _ in causes if number)
        remedy = "; ".join(remedy for number, _, remedy in causes if number)
        found = f"{size} decisions; {dropped:,} were dropped in the last {_RECENT.days} days: {why}"
        return Finding("ledger", "warn", found, remedy)
    return Finding("ledger", "ok", f"{size} decisions, none dropped in the last {_RECENT.days} days")


def _names(keys: Sequence[KeyOverview]) -> str:
    rest = len(keys) - _MOST_NAMES
    return "; ".join(one.name for one in keys[:_MOST_NAMES]) + (f"; and {rest} more" if rest > 0 else "")
