"""SQLite: how a file is opened, made and looked over."""

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
    """One that is not opened while the process forks, and that a fork waits for to be closed."""

    _opened: int | None = None

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 (the driver's)
        self._opened = OPEN_FILES.open()
        try:
            super().__init__(*args, **options)
        except BaseException:
            self._tell()
            raise

    def close(self) -> None:
        """As the driver's."""
        super().close()
        self._tell()

    def __del__(self) -> None:
        self._tell()

    def _tell(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            OPEN_FILES.close(opened)


def sqlite_engine(url: DatabaseUrl) -> Engine:
    """An engine for the file that a URL names; nothing is opened yet."""
    # A connection a transaction: one kept open would go on reading a file that has since been replaced, and must
    # not be shared with a forked child.
    how = {"timeout": LOCK_TIMEOUT_SECONDS, "factory": _ForkSafeConnection}
    engine = create_engine(url.value, poolclass=NullPool, connect_args=how, hide_parameters=True)

    @event.listens_for(engine, "do_connect")
    def _make_private_file(*_how: object) -> None:
        make_private(url.path)

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


def make_private(path: Path) -> None:
    """Make the file, where there is none, so that its owner alone can read it; SQLite's others follow its mode."""
    with contextlib.suppress(FileExistsError, OSError):  # what is wrong with the folder SQLite says better
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def write_ahead(engine: Engine) -> None:
    """Let readers go on while somebody writes; kept in the file. Outside of a transaction, as SQLite wants it."""
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    # Of several processes that start together SQLite lets none wait here, whatever the timeout.
    while not _writes_ahead(engine) and time.monotonic() < deadline:
        time.sleep(random.uniform(0.005, 0.05))


def _writes_ahead(engine: Engine) -> bool:
    """Ask for it; False where another process has to let go first."""
    with engine.connect() as connection:
        raw = connection.connection.dbapi_connection
        assert raw is not None
        try:
            # A file system that cannot do it stays with the journal that it has.
            raw.cursor().execute("PRAGMA journal_mode = WAL").close()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            return False
        return True


def is_set_in_stone(path: Path) -> bool:
    """Whether nobody is writing the file, and this process could not: it is then read without the help of others.

    What is read ahead of a write-ahead log needs a file beside it, which a read-only folder has no place for.
    """
    return path.exists() and not os.access(path.parent, os.W_OK) and not Path(f"{path}-wal").exists()


def stone_engine(url: DatabaseUrl) -> Engine:
    """An engine for a file of which :func:`is_set_in_stone` holds."""
    file = f"file:{quote(str(url.path))}?immutable=1"
    return create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(file, uri=True, isolation_level=None, factory=_ForkSafeConnection),
        poolclass=NullPool,
        hide_parameters=True,
    )


def refuse_cut_file(connection: Connection, url: DatabaseUrl) -> None:
    """Refuse a file whose last page is cut off: SQLite fills it up with zeros and takes it for whole.

    Called in a transaction, so that nobody else is writing. The file is not opened for this: closing it again
    would drop every lock that this process holds on it (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    page_size = connection.exec_driver_sql("PRAGMA page_size").scalar_one()
    if url.path.stat().st_size % page_size > 1:  # to SQLite, a file of one byte is an empty one
        raise RegistryDamaged(f"{url}: the end of the file is missing; {DAMAGE_REMEDY}")
