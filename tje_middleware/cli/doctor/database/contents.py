"""Whether what a registry holds can be read and used, and whether its ledger is whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone

from sqlalchemy import func, select

from ....ledger.tables import DROPS
from ....registry.overviews import KeyOverview, overview
from ....storage import Database
from ..finding import Finding

_RECENT = timedelta(days=7)
_MOST_NAMES = 3


def contents(database: Database, old_after: timedelta) -> Iterator[Finding]:
    """Whether profiles can be read, are active, usable, undisputed and recent; and whether decisions were dropped."""
    keys = overview(database)
    yield _readable(keys)
    if keys:
        yield from _usable(keys, old_after)
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


def _usable(keys: Sequence[KeyOverview], old_after: timedelta) -> Iterator[Finding]:
    now = datetime.now(timezone.utc)
    for name, concerned, wrong, remedy, right in (
        (
            "candidates",
            [one for one in keys if one.active_version is None],
            "none of its versions is active, so gates have no profile",
            "tje registry promote MODEL TASK VERSION",
            "every key has an active version",
        ),
        (
            "verdicts",
            [one for one in keys if one.active and one.active.verdict == "unusable"],
            "unusable, so that every draft goes deeper",
            "tje registry rollback MODEL TASK makes the version before active; or calibrate on more records",
            "every active profile can be gated by",
        ),
        (
            "alarms",
            [one for one in keys if one.alarms],
            f"{sum(one.alarms for one in keys)} that nobody dismissed",
            "tje registry alarms tells them; calibrate on recent records and promote that, or dismiss them",
            "none about an active version",
        ),
        (
            "age",
            [one for one in keys if one.active and now - one.active.created_at > old_after],
            f"calibrated more than {old_after.days} days ago",
            "providers change models behind a name: calibrate on recent records and promote that",
            f"every active profile was calibrated within {old_after.days} days",
        ),
    ):
        if concerned:
            yield Finding(name, "warn", f"{wrong}: {_names(concerned)}", remedy)
        else:
            yield Finding(name, "ok", right)


def _ledger(database: Database) -> Finding:
    since = datetime.now(timezone.utc) - _RECENT
    with database.reading() as read:
        sums = read(select(func.sum(DROPS.c.decisions), func.sum(DROPS.c.refused)).where(DROPS.c.at >= since))[0]
    dropped, refused = (number or 0 for number in sums)
    if not dropped:
        return Finding("ledger", "ok", f"no decision was dropped in the last {_RECENT.days} days")
    causes = (
        (refused, "could not be stored", "what is wrong with them is in the log of the process that made them"),
        (dropped - refused, "found a queue full", "give DecisionLedger a larger capacity or a faster database"),
    )
    why = ", ".join(f"{number:,} {what}" for number, what, _ in causes if number)
    remedy = "; ".join(remedy for number, _, remedy in causes if number)
    return Finding("ledger", "warn", f"{dropped:,} were dropped in the last {_RECENT.days} days: {why}", remedy)


def _names(keys: Sequence[KeyOverview]) -> str:
    rest = len(keys) - _MOST_NAMES
    return "; ".join(one.name for one in keys[:_MOST_NAMES]) + (f"; and {rest} more" if rest > 0 else "")
