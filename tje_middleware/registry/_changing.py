"""A change of what is registered: one transaction, alone, and told to whoever listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, text

from ..database import Database
from ..database._postgres import CHANNEL


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
