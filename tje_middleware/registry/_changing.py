"""A change of what is registered: one transaction, alone, and told to whoever listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from ..database import Database
from ..database._postgres import CHANNEL
from ..errors import RegistryError

# PostgreSQL's indexes take no more than about 2,700 bytes of a text.
_MOST_BYTES = 2000


@contextmanager
def changing(database: Database) -> Iterator[Connection]:
    """A transaction in which nobody else changes anything; on PostgreSQL its commit reaches every listener.

    Raises:
        RegistryUnavailable, RegistryDamaged, SchemaMismatch: as ``Database.writing``; nothing has changed.
    """
    with database.writing() as connection:
        yield connection
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})


def storable(what: str, value: str) -> str:
    """A text that every database can keep, and find again.

    Raises:
        RegistryError: it is empty, too long, or has characters that cannot be stored.
    """
    if not value:
        raise RegistryError(f"{what} is empty")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise RegistryError(f"{what} is no text that can be stored: {value!r}") from None
    if "\0" in value:
        raise RegistryError(f"{what} has a zero character, which databases do not store: {value!r}")
    if size > _MOST_BYTES:
        raise RegistryError(
            f"{what} has {size:,} bytes, and at most {_MOST_BYTES:,} can be looked up: shorten it ({value[:40]!r}...)"
        )
    return value
