"""What the tables of registry and ledger have in common; each room declares its own in ``tables.py``."""

from __future__ import annotations

from datetime import datetime, timezone

from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    Integer,
    MetaData,
    TypeDecorator,
)

#: The last migration, which makes the tables that this release declares.
HEAD = "0002"
#: Where a database says which migration it is at; not Alembic's own name, which the application around may use.
VERSION_TABLE = "tje_alembic_version"

#: What the name of each of our tables begins with.
PREFIX = "tje_"
METADATA = MetaData()


class UtcDateTime(TypeDecorator[datetime]):
    """A point in time; SQLite keeps none of a zone, so that all are UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To UTC, without its zone where the database has no place for it."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone is no point in time: {value!r}")
        utc = value.astimezone(timezone.utc)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """With the zone again."""
        if value is None:
            return None
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)


# A number that the database counts up by itself; SQLite does so for INTEGER alone.
COUNTED = BigInteger().with_variant(Integer(), "sqlite")
