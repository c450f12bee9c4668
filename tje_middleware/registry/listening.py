"""Hearing of changes at once: PostgreSQL's LISTEN, and a sleep that others can end."""

from __future__ import annotations

import contextlib
import selectors
import socket
from typing import Any

from ..errors import RegistryUnavailable
from ..storage import Database
from ..storage.postgres import CHANNEL


class Listening:
    """A connection of its own on which PostgreSQL tells of changes.

    Raises:
        RegistryUnavailable: there is no such connection to be had.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        dialect = database.engine.dialect
        args, options = dialect.create_connect_args(database.engine.url)
        try:
            self._connection: Any = dialect.connect(*args, **options, autocommit=True)
        except dialect.loaded_dbapi.Error as error:
            raise self._lost(error) from None
        try:
            self._connection.execute(f"LISTEN {CHANNEL}")
        except dialect.loaded_dbapi.Error as error:
            self.close()
            raise self._lost(error) from None

    def fileno(self) -> int:
        """The socket to wait on."""
        return int(self._connection.fileno())

    def heard(self) -> bool:
        """Whether something has changed since the last time; never waits.

        Raises:
            RegistryUnavailable: the connection is lost.
        """
        libpq = self._connection.pgconn
        changed = False
        try:
            libpq.consume_input()
            while libpq.notifies() is not None:
                changed = True
        except self._database.engine.dialect.loaded_dbapi.Error as error:
            raise self._lost(error) from None
        return changed

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _lost(self, error: Exception) -> RegistryUnavailable:
        # Not chained anywhere: the driver's words may hold the URL's secrets.
        url = self._database.url
        return RegistryUnavailable(f"{url}: no word of changes: {' '.join(url.scrubbed(str(error)).split())}")


class Sleep:
    """A sleep that ends at a time, when another thread rings, or when a connection has something to tell."""

    def __init__(self) -> None:
        self._ear, self._bell = socket.socketpair()
        self._ear.setblocking(False)
        self._bell.setblocking(False)

    def ring(self) -> None:
        """End the sleep, or the next one; never waits, and takes no lock."""
        with contextlib.suppress(OSError):  # it is full of rings, or nobody sleeps any more
            self._bell.send(b"\0")

    def until(self, seconds: float, also: Listening | None) -> bool:
        """Sleep; returns whether the connection has something to tell."""
        # No epoll, which a forked child would share.
        with getattr(selectors, "PollSelector", selectors.SelectSelector)() as selector:
            selector.register(self._ear, selectors.EVENT_READ)
            if also is not None:
                selector.register(also, selectors.EVENT_READ)
            ready = [key.fileobj for key, _events in selector.select(max(0.0, seconds))]
        with contextlib.suppress(BlockingIOError):
            while self._ear in ready and self._ear.recv(4096):
                pass
        return also is not None and also in ready

    def close(self) -> None:
        """Close its sockets."""
        self._ear.close()
        self._bell.close()
