"""Parts that the tables of registry and ledger share; each room declares its own tables in ``tables.py``."""

from __future__ import annotations

from datetime import datetime, timezone

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, MetaData, TypeDecorator

#: The last migration, which makes the tables that this release declares.
HEAD = "0002"
#: The table with the migration that a database is at; Alembic's own name may be used by the user's application.
VERSION_TABLE = "tje_alembic_version"

#: The prefix of the names of our tables.
PREFIX = "tje_"
METADATA = MetaData()


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time, stored in UTC, as SQLite stores no time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The time in UTC, for SQLite without its zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone is no point in time: {value!r}")
        utc = value.astimezone(timezone.utc)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """The time in UTC, with its zone."""
        if value is None:
            return None
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)


# The type of a number that the database counts up by itself, which SQLite does for INTEGER only.
COUNTED = BigInteger().with_variant(Integer(), "sqlite")
