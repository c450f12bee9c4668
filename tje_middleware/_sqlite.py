"""SQLite under the registry: how it is opened, and what its errors mean."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from .errors import RegistryDamaged, RegistryError, RegistryUnavailable

_LOCK_TIMEOUT_SECONDS = 30.0


def sqlite_engine(url: str) -> Engine:
    """An engine for the SQLite file that a registry's URL names; nothing is opened yet.

    Raises:
        RegistryError: a URL that is none, or of a database that this release does not support.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:
        shown = _PASSWORD.sub("://***@", str(url))
        raise RegistryError(f"{shown!r} is no registry URL; a file is sqlite:///path/to/tje.db") from error
    if parsed.drivername not in {"sqlite", "sqlite+pysqlite"}:
        raise RegistryError(
            f"this release keeps registries in SQLite files (sqlite:///path/to/tje.db), not in {parsed.drivername!r}"
        )
    if not parsed.database or parsed.database.startswith((":memory:", "file:")):
        raise RegistryError(
            f"{url!r} names no file by its path, and a registry in memory is shared with nobody; "
            f"a file is sqlite:///path/to/tje.db"
        )
    # A connection a transaction: one kept open would go on reading a file that has since been replaced, and must
    # not be shared with a forked child.
    engine = create_engine(parsed, poolclass=NullPool, connect_args={"timeout": _LOCK_TIMEOUT_SECONDS})

    @event.listens_for(engine, "connect")
    def _leave_transactions_to_sqlalchemy(connection: object, _record: object) -> None:
        # The driver begins transactions late and only before writes, so two processes could read the same
        # newest version and both go on to write.
        connection.isolation_level = None  # type: ignore[attr-defined]

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("tje_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def refuse_cut_file(connection: Connection, path: Path, url: str) -> None:
    """Refuse a file whose last page is cut off: SQLite fills it up with zeros and takes it for whole.

    Called in a transaction, so that nobody else is writing. The file is not opened for this: closing it again
    would drop every lock that this process holds on it (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    page_size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    if path.stat().st_size % page_size > 1:  # to SQLite, a file of one byte is an empty one
        raise RegistryDamaged(f"{url}: the end of the file is missing; {_DAMAGE_REMEDY}")


_PASSWORD = re.compile(r"://[^/]*@")

_DAMAGE_REMEDY = "the file is damaged or not a registry: move it away and calibrate anew, or restore a copy"

# What SQLite says, and what a user can do about it; in the order in which they are looked for.
_REMEDIES: tuple[tuple[tuple[str, ...], type[RegistryError], str], ...] = (
    (
        ("not a database", "malformed", "no such column", "no column named", "encrypted", "could not decode"),
        RegistryDamaged,
        _DAMAGE_REMEDY,
    ),
    (
        ("readonly", "read-only"),
        RegistryUnavailable,
        "it cannot be written: check the rights of the file and its folder",
    ),
    (("unable to open",), RegistryUnavailable, "check that its folder exists and may be read and written"),
    (("full", "disk i/o"), RegistryUnavailable, "the disk may be full: make room; what was stored before is intact"),
    (("locked", "busy"), RegistryUnavailable, "another process holds it: try again, or stop that process"),
)


def explained(url: str, error: SQLAlchemyError) -> RegistryError:
    """What went wrong in the words of this library, with a remedy."""
    said = str(error.orig if isinstance(error, DBAPIError) else error)
    for signs, kind, remedy in _REMEDIES:
        if any(sign in said.lower() for sign in signs):
            return kind(f"{url}: {said}; {remedy}")
    return RegistryUnavailable(f"{url}: {said}")
