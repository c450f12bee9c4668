"""The tables as this release reads and writes them; how a database gets there is in ``migrations``."""

from __future__ import annotations

from datetime import datetime, timezone

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    TypeDecorator,
)

#: The last migration, which is the schema below.
HEAD = "0002"
#: Where a database says which migration it is at; not Alembic's own name, which the application around may use.
VERSION_TABLE = "tje_alembic_version"

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
_Counted = BigInteger().with_variant(Integer(), "sqlite")

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
    Column("id", _Counted, primary_key=True, autoincrement=True),
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
    Column("id", _Counted, primary_key=True, autoincrement=True),
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

# One row a decision; its key is in words, as in GateDecision, which no two keys share.
DECISIONS = Table(
    "tje_decisions",
    METADATA,
    Column("decision_id", String, primary_key=True),
    Column("decided_at", UtcDateTime, nullable=False),  # when it was first recorded
    Column("recorded_at", UtcDateTime, nullable=False),  # when that was recorded which counts
    Column("key", String, nullable=False),
    Column("profile_version", Integer),
    Column("signal", String, nullable=False),
    Column("method", String, nullable=False),
    Column("signal_value", Float),
    Column("threshold", Float),
    Column("tokens", Integer),
    Column("route", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("verdict", String),
    Column("stale", Boolean, nullable=False),
    Column("alarm", String),
    Column("aborted", Boolean, nullable=False),
    Column("answered_by", String),
    Column("draft_model", String),
    Column("draft_input_tokens", BigInteger),
    Column("draft_output_tokens", BigInteger),
    Column("deeper_model", String),
    Column("deeper_input_tokens", BigInteger),
    Column("deeper_output_tokens", BigInteger),
    Column("deeper_includes_draft", Boolean, nullable=False),  # always going deeper costs the draft too
    Column("usage_partly_known", Boolean, nullable=False),
    Column("tokens_saved", Float),
    Column("saved_by", String),  # measured, estimated
    Column("risk_limit", Float),  # share of accepted drafts that the method promised may be wrong
    Column("latency_seconds", Float),
    Column("recorded_by", String, nullable=False),  # host and process
    Column("detail", Text),  # this and the next two only where the ledger was told to keep texts
    Column("prompt", Text),
    Column("answer", Text),
    Index("tje_decisions_by_key", "key", "decided_at"),
)

FEEDBACK = Table(
    "tje_feedback",
    METADATA,
    Column("decision_id", String, primary_key=True),
    Column("correct", Boolean),  # of the answer that was delivered
    Column("draft_correct", Boolean),  # of the draft, where that is known and was not the answer
    Column("given_at", UtcDateTime, nullable=False),
)

# Decisions and feedback that were dropped.
DROPS = Table(
    "tje_drops",
    METADATA,
    Column("id", _Counted, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("recorded_by", String, nullable=False),
    Column("decisions", Integer, nullable=False),  # all of them
    Column("refused", Integer, nullable=False, default=0),  # that cannot be stored; for the rest a queue was full
)
