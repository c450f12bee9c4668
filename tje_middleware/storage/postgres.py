"""PostgreSQL: connecting to a server."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import ArgumentError

from ..errors import RegistryError
from .sqlite import LOCK_TIMEOUT_SECONDS
from .url import DatabaseUrl

#: The channel on which changes of active versions are notified.
CHANNEL = "tje_registry"
#: The largest number of connections of one engine.
MOST_CONNECTIONS = 10
_KEPT_CONNECTIONS = 2
# With these a host that vanished is noticed within half a minute; settings in the URL replace them.
_DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",
}
# The advisory lock of transactions that write alone; any number that other applications do not use.
_WRITERS_LOCK = 0x746A65  # "tje"


def postgres_engine(url: DatabaseUrl) -> Engine:
    """An engine for the server that a URL names; it does not connect yet.

    Raises:
        RegistryError: psycopg is not installed, or the URL has a setting that the driver does not take.
    """
    query = {**_DEFAULTS, **url.value.query}
    threshold = _prepare_threshold(query.pop("prepare_threshold", "none"), url)
    try:
        engine = create_engine(
            url.value.set(query=query),
            connect_args={"prepare_threshold": threshold},
            pool_size=_KEPT_CONNECTIONS,
            max_overflow=MOST_CONNECTIONS - _KEPT_CONNECTIONS,
            pool_pre_ping=True,
            pool_recycle=1800,
            hide_parameters=True,  # a statement that fails is logged, and its parameters may hold a prompt
        )
    except ArgumentError:  # not chained: it may quote the URL
        raise RegistryError(f"{url} has a setting that the driver does not take: check what follows the ?") from None
    except ImportError as error:
        raise RegistryError(
            f'{url} needs a driver that is not installed: pip install "tje-middleware[postgres]"'
        ) from error

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if connection.get_execution_options().get("tje_write", False):
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS:g}s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _WRITERS_LOCK})

    return engine


def _prepare_threshold(setting: object, url: DatabaseUrl) -> int | None:
    """After how many runs a statement is prepared on the server; None, the default: never.

    A pool that gives each transaction another connection, as pgbouncer does, knows no statement of the last one.
    """
    if setting == "none":
        return None
    if not (isinstance(setting, str) and setting.isdecimal()):
        raise RegistryError(f"{url}: prepare_threshold must be a whole number of runs, or none, not {setting!r}")
    return int(setting)
