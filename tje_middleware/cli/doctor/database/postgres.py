"""What there is to look at in a PostgreSQL server and the way to it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from ....storage import Database
from ....storage.postgres import MOST_CONNECTIONS
from .finding import Check, Finding

if TYPE_CHECKING:
    from psycopg import Connection as Driver

# The oldest major release that its makers still mended in 2025.
_OLDEST = 13
_CLOCK_SECONDS = 5.0
_NOTIFY_SECONDS = 2.0
# What one process of ours may take: the pools of its registry and of its ledger, and the one that listens.
_CONNECTIONS_A_PROCESS = 2 * MOST_CONNECTIONS + 1


def on_postgres() -> Iterator[tuple[str, Check]]:
    """The checks of a server, by name."""
    yield "server", server
    yield "encryption", encrypted
    yield "clock", clock
    yield "notify", notified
    yield "connections", headroom
    yield "transactions", transactions


def server(database: Database) -> Iterator[Finding]:
    """Which release it is, and whether it is a copy that cannot be written."""
    with database.engine.connect() as connection:
        release = str(connection.execute(text("SHOW server_version")).scalar_one())
        major = int(connection.execute(text("SHOW server_version_num")).scalar_one()) // 10_000
        is_standby = connection.execute(text("SELECT pg_is_in_recovery()")).scalar_one()
    found = f"PostgreSQL {release}"
    if is_standby:
        yield Finding("server", "fail", f"{found}, a standby that can only be read", "name the primary in the URL")
    elif major < _OLDEST:
        yield Finding("server", "warn", f"{found}, which is no longer maintained", f"upgrade to {_OLDEST} or later")
    else:
        yield Finding("server", "ok", found)


def encrypted(database: Database) -> Iterator[Finding]:
    """Whether what goes over a network cannot be read there."""
    with database.engine.connect() as connection:
        driver = _driver(connection)
        host, uses_tls = driver.info.host, bool(driver.pgconn.ssl_in_use)
    if uses_tls:
        yield Finding("encryption", "ok", "TLS is on")
    elif is_local(host):
        yield Finding("encryption", "ok", "none, and none needed: the server is on this machine")
    else:
        yield Finding(
            "encryption",
            "warn",
            f"none on the way to {host}: profiles and decisions can be read, and changed, on the way",
            "switch TLS on in the server and add sslmode=verify-full to the URL",
        )


def is_local(host: str) -> bool:
    """Whether a server's host is this machine: a socket's folder, or a loopback address."""
    return not host or host.startswith(("/", "@", "127.")) or host in ("localhost", "::1")


def clock(database: Database) -> Iterator[Finding]:
    """How far the server's clock is from this machine's, to the accuracy of half a round trip."""
    with database.engine.connect() as connection:
        query = text("SELECT clock_timestamp()")
        connection.execute(query)  # so that the time of connecting is not taken for a difference
        before = datetime.now(timezone.utc)
        theirs: datetime = connection.execute(query).scalar_one()
        after = datetime.now(timezone.utc)
    ahead = (theirs - (before + (after - before) / 2)).total_seconds()
    found = f"the server's is {abs(ahead):.3f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    if abs(ahead) <= _CLOCK_SECONDS:
        yield Finding("clock", "ok", found)
    else:
        yield Finding(
            "clock",
            "warn",
            found,
            "let both follow a time server (NTP): days in the ledger and the ages of profiles and alarms are wrong",
        )


def notified(database: Database) -> Iterator[Finding]:
    """Whether what one connection tells reaches another that listens, as a promotion must."""
    import psycopg  # noqa: PLC0415 (an extra)

    engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
    # A channel of its own: those who listen to the registry's are not disturbed.
    channel = f"tje_doctor_{secrets.token_hex(8)}"
    with engine.connect() as listening, engine.connect() as telling:
        driver = _driver(listening)
        answered_by = listening.execute(text("SELECT pg_backend_pid()")).scalar_one()
        is_behind_proxy = answered_by != driver.pgconn.backend_pid
        try:
            driver.execute(f"LISTEN {channel}".encode())
            began = time.perf_counter()
            telling.execute(text("SELECT pg_notify(:channel, 'doctor')"), {"channel": channel})
            heard = next(driver.notifies(timeout=_NOTIFY_SECONDS, stop_after=1), None)
            seconds = time.perf_counter() - began
        except psycopg.Error as error:
            said, heard, seconds = database.url.scrubbed(" ".join(str(error).split())), None, 0.0
        else:
            said = f"nothing was heard within {_NOTIFY_SECONDS:g} s"
        finally:
            listening.invalidate()  # a pool's next user should not be listening
    behind = "; a proxy is between here and the server" if is_behind_proxy else ""
    if heard is not None:
        yield Finding("notify", "ok", f"heard after {seconds * 1000:.2g} ms{behind}")
        return
    yield Finding(
        "notify",
        "warn",
        f"{said}{behind}",
        "a proxy that pools by transaction (pgbouncer's pool_mode=transaction) does not pass LISTEN on: name the "
        "server itself, or let it pool by session; until then a promotion is seen when refresh_seconds are over",
    )


def headroom(database: Database) -> Iterator[Finding]:
    """How many connections the server has left."""
    query = text(
        "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int, "
        "(SELECT sum(numbackends)::int FROM pg_stat_database)"
    )
    with database.engine.connect() as connection:
        allowed, used = connection.execute(query).one()
    left = allowed - used
    found = f"{used} of {allowed} are used"
    if left > _CONNECTIONS_A_PROCESS:
        yield Finding("connections", "ok", found)
    else:
        yield Finding(
            "connections",
            "warn",
            f"{found}; a process with a registry and a ledger takes up to {_CONNECTIONS_A_PROCESS}",
            "raise max_connections, or put a proxy that pools by session in front",
        )


def transactions(database: Database) -> Iterator[Finding]:
    """Whether they may write, as far as this role does not ask for anything else."""
    with database.engine.connect() as connection:
        is_read_only = connection.execute(text("SHOW default_transaction_read_only")).scalar_one() == "on"
    if is_read_only:
        yield Finding(
            "transactions",
            "warn",
            "those of this role are read-only by default",
            "ALTER ROLE ... SET default_transaction_read_only = off, or name another role",
        )
    else:
        yield Finding("transactions", "ok", "may write")


def _driver(connection: Connection) -> Driver:
    driver: Driver = connection.connection.driver_connection  # type: ignore[assignment]
    return driver
