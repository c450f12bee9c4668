"""The tables of the registry."""

from __future__ import annotations

from sqlalchemy import Column, Index, Integer, PrimaryKeyConstraint, String, Table, Text

from ..storage.schema import COUNTED, METADATA, UtcDateTime

# One row a version, never changed. The key is its canonical JSON, so that a key's optional parts take part in
# uniqueness.
PROFILES = Table(
    "tje_profiles",
    METADATA,
    Column("key", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("put_at", UtcDateTime),  # NULL in rows of before migration 0002, as are the next four
    Column("put_by", String),
    Column("source", String),
    Column("library_version", String),
    Column("records_fingerprint", String),
    PrimaryKeyConstraint("key", "version"),
)

# One row a key: which version is active, and the last number given, so that no number is given twice.
KEYS = Table(
    "tje_keys",
    METADATA,
    Column("key", String, primary_key=True),
    Column("last_version", Integer, nullable=False),
    Column("active_version", Integer),  # NULL: candidates only
)

# What was active when; a rollback goes back along it.
PROMOTIONS = Table(
    "tje_promotions",
    METADATA,
    Column("id", COUNTED, primary_key=True, autoincrement=True),
    Column("key", String, nullable=False),
    Column("from_version", Integer),
    Column("to_version", Integer),
    Column("action", String, nullable=False),  # put, promote, rollback, import, delete, migrate
    Column("at", UtcDateTime, nullable=False),
    Column("by", String, nullable=False),
    Index("tje_promotions_by_key", "key", "id"),
)

ALIASES = Table(
    "tje_aliases",
    METADATA,
    Column("alias", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("by", String, nullable=False),
)

# An alarm about one version of a key holds until it is dismissed or another version is promoted.
ALARMS = Table(
    "tje_alarms",
    METADATA,
    Column("id", COUNTED, primary_key=True, autoincrement=True),
    Column("key", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("kind", String, nullable=False),  # drift, risk
    Column("detail", Text, nullable=False),
    Column("evidence", Text, nullable=False),  # JSON, numbers only
    Column("raised_at", UtcDateTime, nullable=False),
    Column("raised_by", String, nullable=False),
    Column("dismissed_at", UtcDateTime),
    Column("dismissed_by", String),
    Index("tje_alarms_by_key", "key", "version"),
)
