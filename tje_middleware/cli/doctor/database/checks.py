"""Whether the database answers, has our schema, and lets itself be read, written and migrated."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from statistics import median

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    TextClause,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    update,
)

from ....ledger.tables import DECISIONS, DROPS
from ....registry.overviews import KeyOverview, overview
from ....registry.tables import KEYS, PROFILES, PROMOTIONS
from ....storage import HEAD, Database
from ....storage.migrating import known_revisions
from ....storage.schema import METADATA
from ....storage.sqlite import is_set_in_stone, stone_engine
from .finding import Finding

_ROUND_TRIPS = 9
# A decision waits for no database; but a process's first look-up does, and every put.
_SLOW_SECONDS = 0.1
# So long the doctor waits for others who write (milliseconds).
_PATIENCE = 3000


def reached(database: Database) -> Iterator[Finding]:
    """Whether it answers; a file that is not there is not made."""
    if database.lacks_file():
        yield Finding(
            "reachable",
            "fail",
            f"{database.url}: there is no such file",
            "check the path and the folder that it is relative to; the first put() or tje registry migrate makes it",
        )
        return
    with for_reading(database).connect() as connection:
        connection.execute(_smallest(database))
    yield Finding("reachable", "ok", f"{database.url} answers")


def round_trips(database: Database) -> Iterator[Finding]:
    """How long the smallest query takes."""
    question = _smallest(database)
    seconds = []
    with for_reading(database).connect() as connection:
        connection.execute(question)  # the first one pays for the connection
        for _ in range(_ROUND_TRIPS):
            began = time.perf_counter()
            connection.execute(question).all()
            seconds.append(time.perf_counter() - began)
    middle = median(seconds)
    found = f"{middle * 1000:.2g} ms, median of {_ROUND_TRIPS} (slowest {max(seconds) * 1000:.2g} ms)"
    if middle < _SLOW_SECONDS:
        yield Finding("round trip", "ok", found)
    else:
        yield Finding(
            "round trip",
            "warn",
            found,
            "decisions do not wait for it once a profile is known, but a process's first look-up does: "
            "bring the database nearer",
        )


def schema_is_ours(database: Database) -> Iterator[Finding]:
    """Whether the tables are those of this release."""
    revision = database.revision()
    if revision == HEAD:
        yield Finding("schema", "ok", f"revision {HEAD}, which this release needs")
    elif revision is None:
        with database.reading():  # refuses a file of another application
            yield Finding(
                "schema",
                "warn",
                "there are no tables yet",
                "the first put() makes them, or tje registry migrate; or the URL is not the one that is meant",
            )
    elif revision in known_revisions():
        yield Finding(
            "schema",
            "fail",
            f"revision {revision} of an earlier release, this one needs {HEAD}",
            "run tje registry migrate once, with every process that uses it stopped or upgraded",
        )
    else:
        yield Finding(
            "schema",
            "fail",
            f"revision {revision} is not known to this release, which needs {HEAD}",
            "upgrade tje-middleware to the release that made it",
        )


def tables_read(database: Database) -> Iterator[Finding]:
    """Whether every table may be read."""
    with database.reading() as read:
        for table in METADATA.sorted_tables:
            read(select(literal(1)).select_from(table).limit(1))
    yield Finding("read", "ok", f"all {len(METADATA.tables)} tables")


def tables_written(database: Database) -> Iterator[Finding]:
    """Whether every table may be written: in a transaction that is rolled back."""
    with _undone(database) as connection:
        for table in METADATA.sorted_tables:
            some = next(iter(table.primary_key.columns))
            never = literal(1) == literal(0)
            # No row is touched, but the rights to do so are asked for.
            connection.execute(update(table).values({some: some}).where(never))
            connection.execute(delete(table).where(never))
            connection.execute(insert(table).from_select(list(table.columns), select(table).where(never)))
        # Rows, too: only they need a disk with room, and numbers that a sequence gives.
        now, key = datetime.now(timezone.utc), f"doctor {secrets.token_hex(8)}"
        connection.execute(insert(KEYS).values(key=key, last_version=1))
        connection.execute(insert(PROFILES).values(key=key, version=1, body="{}", put_at=now))
        connection.execute(insert(PROMOTIONS).values(key=key, to_version=1, action="put", at=now, by="doctor"))
    yield Finding("write", "ok", f"all {len(METADATA.tables)} tables, tried and rolled back")


def changed(database: Database) -> Iterator[Finding]:
    """Whether this user may migrate: make a table, and change those that there are."""
    with _undone(database) as connection:
        Table(f"tje_doctor_{secrets.token_hex(8)}", MetaData(), Column("id", Integer)).create(connection)
        others = [] if database.is_sqlite else _tables_of_others(connection)
    if others:
        yield Finding(
            "migrate",
            "fail",
            f"this role does not own {', '.join(others)}",
            "run tje registry migrate as their owner, or give this role that one's rights",
        )
    else:
        yield Finding("migrate", "ok", "this user may make and change tables, tried and rolled back")


def _smallest(database: Database) -> TextClause:
    """A query that every role may ask, and that only a database answers."""
    return text("SELECT count(*) FROM sqlite_master" if database.is_sqlite else "SELECT 1")


def for_reading(database: Database) -> Engine:
    """The engine that can read: a file in a folder that cannot be written needs one of its own."""
    if database.is_sqlite and is_set_in_stone(database.url.path):
        return stone_engine(database.url)
    return database.engine


@contextmanager
def _undone(database: Database) -> Iterator[Connection]:
    """A transaction of which nothing is kept, and that waits for others only briefly."""
    # On PostgreSQL without the writers' lock: nobody should have to wait for the doctor.
    with database.engine.execution_options(tje_write=database.is_sqlite).connect() as connection:
        if database.is_sqlite:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            raw.cursor().execute(f"PRAGMA busy_timeout = {_PATIENCE}").close()
        transaction = connection.begin()
        try:
            if not database.is_sqlite:
                connection.execute(text(f"SET LOCAL lock_timeout = {_PATIENCE}"))
            yield connection
        finally:
            transaction.rollback()


def _tables_of_others(connection: Connection) -> list[str]:
    query = text(
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename LIKE 'tje\\_%' "
        "AND NOT pg_has_role(tableowner, 'USAGE') ORDER BY tablename"
    )
    return list(connection.execute(query).scalars())


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
