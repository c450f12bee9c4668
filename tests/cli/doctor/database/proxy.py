"""A proxy before a PostgreSQL server on 127.0.0.1, which may keep notifications to itself as pgbouncer does."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

from sqlalchemy.engine import make_url
from typing_extensions import Self

_NOTIFICATION = b"A"
_BACKEND_KEY = b"K"


class Proxy:
    """Passes connections on to a port.

    Args:
        port: Of the server.
        keeps_notifications: Whether it hides them and who answers, as a proxy does that pools by transaction.
    """

    def __init__(self, port: int, *, keeps_notifications: bool = False) -> None:
        self._port = port
        self._keeps = keeps_notifications
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def of(self, url: str) -> str:
        """The same database by way of the proxy, unencrypted so that it can look into what it passes on."""
        through = make_url(url).set(port=self._listening.getsockname()[1]).update_query_dict({"sslmode": "disable"})
        return through.render_as_string(hide_password=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listening, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                for one in (client, server):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open += [client, server]
                for work in (self._up, self._down):
                    threading.Thread(target=work, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while some := client.recv(65_536):
                server.sendall(some)
            server.shutdown(socket.SHUT_WR)

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        """Message by message: a letter, the length with itself (4 bytes), and what it says."""
        with contextlib.suppress(OSError), server.makefile("rb") as messages:
            while head := messages.read(5):
                body = messages.read(struct.unpack("!i", head[1:])[0] - 4)
                if self._keeps and head[:1] == _NOTIFICATION:
                    continue
                if self._keeps and head[:1] == _BACKEND_KEY:
                    body = struct.pack("!i", 1) + body[4:]  # a proxy gives every client a number of its own
                client.sendall(head + body)
