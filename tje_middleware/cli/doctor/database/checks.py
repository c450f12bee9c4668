"""Whether the database answers, has our schema, and lets itself be read, written and migrated."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from ....errors import TjeError
from ....ledger.tables import DROPS
from ....registry.overviews import KeyOverview, overview
from ....registry.tables import KEYS, PROFILES, PROMOTIONS
from ....storage import HEAD, Database
from ....storage.faults import explained
from ....storage.migrating import known_revisions
from ....storage.schema import METADATA
from ....storage.sqlite import is_set_in_stone, stone_engine
from ..finding import Check, Finding, findings_of
from .postgres import on_postgres
from .sqlite import on_sqlite

if TYPE_CHECKING:
    from ....registry.registry import CalibrationRegistry

# So long the doctor waits for others who write (milliseconds).
_PATIENCE = 3000
_RECENT = timedelta(days=7)
_MOST_NAMES = 3


def examine(of: Database | CalibrationRegistry, *, old_after: timedelta = timedelta(days=90)) -> list[Finding]:
    """Look at a registry's database: whether it answers, its schema, what may be done with it, and what it holds.

    Nothing is changed: what has to be tried by writing is rolled back, and a file that is not there is not made.
    Never raises; what cannot be looked at is a finding.

    Args:
        of: The registry, or its database.
        old_after: From which age on a profile should be calibrated anew.
    """
    database = of if isinstance(of, Database) else of.database
    return findings_of(partial(_checks, database, old_after), partial(_explained, database))


def _checks(database: Database, old_after: timedelta, findings: Sequence[Finding]) -> Iterator[tuple[str, Check]]:
    yield "reachable", partial(reached, database)
    if findings[-1].status == "fail":
        return
    yield "schema", partial(schema_is_ours, database)
    schema = findings[-1]
    if schema.status == "fail" and not schema.remedy:
        return  # it could not be looked at, so it is another application's, or not for this role
    if schema.status == "ok":
        yield "read", partial(tables_read, database)
        yield "write", partial(tables_written, database)
    else:
        yield "migrate", partial(changed, database)
    yield from (on_sqlite if database.is_sqlite else on_postgres)(database, _for_reading(database))
    if schema.status == "ok":
        yield "contents", partial(contents, database, old_after)


def _explained(database: Database, name: str, error: Exception) -> Finding:
    if isinstance(error, SQLAlchemyError):
        error = explained(database.url, error)
    if isinstance(error, TjeError):
        return Finding(name, "fail", str(error))
    said = database.url.scrubbed(f"{type(error).__name__}: {error}")
    remedy = "check its file and folder" if isinstance(error, OSError) else ""
    return Finding(name, "fail", f"{database.url}: {said}", remedy)


def reached(database: Database) -> Iterator[Finding]:
    """Whether it answers; a file that is not there is not made."""
    if database.lacks_file():
        remedy = (
            "check the path and the folder that it is relative to; the first put() or tje registry migrate makes it"
        )
        yield Finding("reachable", "fail", f"{database.url}: there is no such file", remedy)
        return
    # Every role may ask this, and only a database answers it.
    smallest = sa.text("SELECT count(*) FROM sqlite_master" if database.is_sqlite else "SELECT 1")
    with _for_reading(database).connect() as connection:
        connection.execute(smallest)
    yield Finding("reachable", "ok", f"{database.url} answers")


def schema_is_ours(database: Database) -> Iterator[Finding]:
    """Whether the tables are those of this release."""
    revision = database.revision()
    if revision == HEAD:
        yield Finding("schema", "ok", f"revision {HEAD}, which this release needs")
    elif revision is None:
        remedy = "the first put() makes them, or tje registry migrate; or the URL is not the one that is meant"
        with database.reading():  # refuses a file of another application
            yield Finding("schema", "warn", "there are no tables yet", remedy)
    elif revision in known_revisions():
        remedy = "run tje registry migrate once, with every process that uses it stopped or upgraded"
        yield Finding("schema", "fail", f"revision {revision} of an earlier release, this one needs {HEAD}", remedy)
    else:
        remedy = "upgrade tje-middleware to the release that made it"
        words = f"revision {revision} is not known to this release, which needs {HEAD}"
        yield Finding("schema", "fail", words, remedy)


def tables_read(database: Database) -> Iterator[Finding]:
    """Whether every table may be read."""
    with database.reading() as read:
        for table in METADATA.sorted_tables:
            read(sa.select(sa.literal(1)).select_from(table).limit(1))
    yield Finding("read", "ok", f"all {len(METADATA.tables)} tables")


def tables_written(database: Database) -> Iterator[Finding]:
    """Whether every table may be written: in a transaction that is rolled back."""
    with _undone(database) as connection:
        for table in METADATA.sorted_tables:
            some = next(iter(table.primary_key.columns))
            never = sa.literal(1) == sa.literal(0)
            # No row is touched, but the rights to do so are asked for.
            connection.execute(sa.update(table).values({some: some}).where(never))
            connection.execute(sa.delete(table).where(never))
            connection.execute(sa.insert(table).from_select(list(table.columns), sa.select(table).where(never)))
        # Rows, too: only they need a disk with room, and numbers that a sequence gives.
        now, key = datetime.now(timezone.utc), f"doctor {secrets.token_hex(8)}"
        connection.execute(sa.insert(KEYS).values(key=key, last_version=1))
        connection.execute(sa.insert(PROFILES).values(key=key, version=1, body="{}", put_at=now))
        connection.execute(sa.insert(PROMOTIONS).values(key=key, to_version=1, action="put", at=now, by="doctor"))
    yield Finding("write", "ok", f"all {len(METADATA.tables)} tables, tried and rolled back")


def changed(database: Database) -> Iterator[Finding]:
    """Whether this user may migrate: make a table, and change those that there are."""
    with _undone(database) as connection:
        sa.Table(f"tje_doctor_{secrets.token_hex(8)}", sa.MetaData(), sa.Column("id", sa.Integer)).create(connection)
        others = [] if database.is_sqlite else _tables_of_others(connection)
    if others:
        remedy = "run tje registry migrate as their owner, or give this role that one's rights"
        yield Finding("migrate", "fail", f"this role does not own {', '.join(others)}", remedy)
    else:
        yield Finding("migrate", "ok", "this user may make and change tables, tried and rolled back")


def _for_reading(database: Database) -> sa.Engine:
    """The engine that can read: a file in a folder that cannot be written needs one of its own."""
    if database.is_sqlite and is_set_in_stone(database.url.path):
        return stone_engine(database.url)
    return database.engine


@contextmanager
def _undone(database: Database) -> Iterator[sa.Connection]:
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
                connection.execute(sa.text(f"SET LOCAL lock_timeout = {_PATIENCE}"))
            yield connection
        finally:
            transaction.rollback()


def _tables_of_others(connection: sa.Connection) -> list[str]:
    query = sa.text(
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() AND tablename LIKE 'tje\\_%' "
        "AND NOT pg_has_role(tableowner, 'USAGE') ORDER BY tablename"
    )
    return list(connection.execute(query).scalars())


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
        words = f"{len(broken)} of {len(keys)} keys cannot be used by this release: {'; '.join(broken[:_MOST_NAMES])}"
        remedy = "upgrade tje-middleware to the release that put them, or calibrate and put() them anew"
        return Finding("profiles", "fail", words, remedy)
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
        sums = read(
            sa.select(sa.func.sum(DROPS.c.decisions), sa.func.sum(DROPS.c.refused)).where(DROPS.c.at >= since)
        )[0]
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
