"""What there is to look at in a PostgreSQL server and the way to it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import Engine, text

from ....storage import Database
from ..finding import Check, Finding

if TYPE_CHECKING:
    from psycopg import Connection as Driver

_CLOCK_SECONDS = 5.0
_NOTIFY_SECONDS = 2.0


def on_postgres(database: Database, engine: Engine) -> Iterator[tuple[str, Check]]:
    """The checks of a server, by name."""
    yield "clock", partial(clock, engine)
    yield "notify", partial(notified, database, engine)


def clock(engine: Engine) -> Iterator[Finding]:
    """How far the server's clock is from this machine's, to the accuracy of half a round trip."""
    with engine.connect() as connection:
        query = text("SELECT clock_timestamp()")
        connection.execute(query)  # so that the time of connecting is not taken for a difference
        before = datetime.now(timezone.utc)
        theirs: datetime = connection.execute(query).scalar_one()
        after = datetime.now(timezone.utc)
    ahead = (theirs - (before + (after - before) / 2)).total_seconds()
    found = f"the server's is {abs(ahead):.3f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    is_off = abs(ahead) > _CLOCK_SECONDS
    remedy = "let both follow a time server (NTP): days in the ledger and the ages of profiles and alarms are wrong"
    yield Finding("clock", "warn" if is_off else "ok", found, remedy if is_off else "")


def notified(database: Database, engine: Engine) -> Iterator[Finding]:
    """Whether what one connection tells reaches another that listens, as a promotion must."""
    import psycopg  # noqa: PLC0415 (an extra)

    engine = engine.execution_options(isolation_level="AUTOCOMMIT")
    # A channel of its own: those who listen to the registry's are not disturbed.
    channel = f"tje_doctor_{secrets.token_hex(8)}"
    with engine.connect() as listening, engine.connect() as telling:
        driver: Driver = listening.connection.driver_connection  # type: ignore[assignment]
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
    if heard is not None:
        yield Finding("notify", "ok", f"heard after {seconds * 1000:.2g} ms")
        return
    remedy = (
        "a proxy that pools by transaction (pgbouncer's pool_mode=transaction) does not pass LISTEN on: name the "
        "server itself, or let it pool by session; until then a promotion is seen when refresh_seconds are over"
    )
    yield Finding("notify", "warn", said, remedy)
