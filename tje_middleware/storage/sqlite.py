"""SQLite: opening, making and checking a file."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, NullPool, create_engine, event

from .._process import OPEN_FILES
from ..errors import RegistryDamaged
from .faults import DAMAGE_REMEDY
from .url import DatabaseUrl

LOCK_TIMEOUT_SECONDS = 30.0


class _ForkSafeConnection(sqlite3.Connection):
    """A connection that is not opened while the process forks; a fork waits until it is closed."""

    _opened: int | None = None

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 (the driver's)
        self._opened = OPEN_FILES.open()
        try:
            super().__init__(*args, **options)
        except BaseException:
            self._tell()
            raise

    def close(self) -> None:
        """Close the connection, as the driver does."""
        super().close()
        self._tell()

    def __del__(self) -> None:
        self._tell()

    def _tell(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            OPEN_FILES.close(opened)


def sqlite_engine(url: DatabaseUrl) -> Engine:
    """An engine for the file that a URL names; it does not open the file yet."""
    # One connection for each transaction: one that stays open would go on reading a file that was replaced since, and
    # must not be shared with a forked child.
    how = {"timeout": LOCK_TIMEOUT_SECONDS, "factory": _ForkSafeConnection}
    engine = create_engine(url.value, poolclass=NullPool, connect_args=how, hide_parameters=True)

    @event.listens_for(engine, "do_connect")
    def _make_private_file(*_how: object) -> None:
        # A new file can be read by its owner alone; SQLite gives the files beside it the same mode.
        with contextlib.suppress(OSError):  # of a file that exists or cannot be made SQLite raises a clearer error
            os.close(os.open(url.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

    @event.listens_for(engine, "connect")
    def _leave_transactions_to_sqlalchemy(connection: object, _record: object) -> None:
        # The driver begins a transaction only before the first write, so two processes could read the same newest
        # version and then both write the next one.
        connection.isolation_level = None  # type: ignore[attr-defined]

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("tje_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def write_ahead(engine: Engine) -> None:
    """Switch the file to a write-ahead log, with which readers need not wait for writers; outside a transaction."""
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    # Here SQLite ignores the timeout and fails at once where another process holds the file.
    while not _writes_ahead(engine) and time.monotonic() < deadline:
        time.sleep(random.uniform(0.005, 0.05))


def _writes_ahead(engine: Engine) -> bool:
    """Switch to a write-ahead log; False where another process holds the file."""
    with engine.connect() as connection:
        raw = connection.connection.dbapi_connection
        assert raw is not None
        try:
            # On a file system that does not support it, SQLite keeps the journal as it is.
            raw.cursor().execute("PRAGMA journal_mode = WAL").close()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            return False
        return True


def is_set_in_stone(path: Path) -> bool:
    """Whether a file is in a read-only folder and nobody is writing it: it is then opened as immutable.

    Otherwise a file with a write-ahead log cannot be read there, as SQLite needs to make a file beside it.
    """
    return path.exists() and not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()


def stone_engine(url: DatabaseUrl) -> Engine:
    """An engine for a file for which :func:`is_set_in_stone` is true."""
    file = f"file:{quote(str(url.path))}?immutable=1"
    return create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(file, uri=True, isolation_level=None, factory=_ForkSafeConnection),
        poolclass=NullPool,
        hide_parameters=True,
    )


def refuse_cut_file(connection: Connection, url: DatabaseUrl) -> None:
    """Refuse a file whose last page is cut off: SQLite would fill the page up with zeros and use it.

    Call it in a transaction, so that no other process is writing. The file must not be opened for this: closing it
    would drop all locks of this process on it (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    page_size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    if url.path.stat().st_size % page_size > 1:  # SQLite takes a file of one byte for an empty one
        raise RegistryDamaged(f"{url}: the end of the file is missing; {DAMAGE_REMEDY}")
