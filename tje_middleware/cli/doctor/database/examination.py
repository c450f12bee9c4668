"""The whole examination, from whether the database answers to what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from ....errors import TjeError
from ....storage import Database
from ....storage.faults import explained
from .checks import changed, holdings, reached, round_trips, schema_is_ours, tables_read, tables_written
from .finding import Check, Finding
from .postgres import on_postgres
from .sqlite import on_sqlite

if TYPE_CHECKING:
    from ....registry.registry import CalibrationRegistry


def examine(of: Database | CalibrationRegistry, *, old_after: timedelta = timedelta(days=90)) -> list[Finding]:
    """Look at a registry's database: whether it answers, its schema, what may be done with it, and what it holds.

    Nothing is changed: what has to be tried by writing is rolled back, and a file that is not there is not made.
    Never raises; what cannot be looked at is a finding.

    Args:
        of: The registry, or its database.
        old_after: From which age on a profile should be calibrated anew.
    """
    database = of if isinstance(of, Database) else of.database
    findings = list(_made(database, "reachable", reached))
    if any(finding.status == "fail" for finding in findings):
        return findings
    schema = list(_made(database, "schema", schema_is_ours))
    findings += schema
    if any(finding.status == "fail" and not finding.remedy for finding in schema):
        return findings  # it could not be looked at, so it is another application's, or not for this role
    findings += _made(database, "round trip", round_trips)
    for name, check in _checks(database, old_after, at_head=all(finding.status == "ok" for finding in schema)):
        findings += _made(database, name, check)
    return findings


def _checks(database: Database, old_after: timedelta, *, at_head: bool) -> Iterator[tuple[str, Check]]:
    """What else there is to look at, by the name under which it is told that it cannot be."""
    if at_head:
        yield "read", tables_read
        yield "write", tables_written
    else:
        yield "migrate", changed
    yield from (on_sqlite if database.is_sqlite else on_postgres)()
    if at_head:
        yield "contents", partial(holdings, old_after=old_after)


def _made(database: Database, name: str, check: Check) -> Iterator[Finding]:
    try:
        yield from check(database)
    except TjeError as error:
        yield Finding(name, "fail", str(error))
    except SQLAlchemyError as error:
        yield Finding(name, "fail", str(explained(database.url, error)))
    except OSError as error:
        yield Finding(name, "fail", f"{database.url}: {error}", "check its file and folder")
