"""Provenance, one active version a key, aliases, alarms, and the ledger of decisions."""

from datetime import datetime, timezone

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0002"
down_revision = "0001"

_COUNTED = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade(op: Operations) -> None:
    """Make the tables; the newest version of each key becomes the active one, as it was before."""
    for column in (
        sa.Column("put_at", _TIME),
        sa.Column("put_by", sa.String),
        sa.Column("source", sa.String),
        sa.Column("library_version", sa.String),
        sa.Column("records_fingerprint", sa.String),
    ):
        op.add_column("tje_profiles", column)
    keys = op.create_table(
        "tje_keys",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("last_version", sa.Integer, nullable=False),
        sa.Column("active_version", sa.Integer),
    )
    promotions = op.create_table(
        "tje_promotions",
        sa.Column("id", _COUNTED, primary_key=True, autoincrement=True),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("from_version", sa.Integer),
        sa.Column("to_version", sa.Integer),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("by", sa.String, nullable=False),
    )
    op.create_index("tje_promotions_by_key", "tje_promotions", ["key", "id"])
    op.create_table(
        "tje_aliases",
        sa.Column("alias", sa.String, primary_key=True),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("by", sa.String, nullable=False),
    )
    op.create_table(
        "tje_alarms",
        sa.Column("id", _COUNTED, primary_key=True, autoincrement=True),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("raised_at", _TIME, nullable=False),
        sa.Column("raised_by", sa.String, nullable=False),
        sa.Column("dismissed_at", _TIME),
        sa.Column("dismissed_by", sa.String),
    )
    op.create_index("tje_alarms_by_key", "tje_alarms", ["key", "version"])
    op.create_table(
        "tje_decisions",
        sa.Column("decision_id", sa.String, primary_key=True),
        sa.Column("decided_at", _TIME, nullable=False),
        sa.Column("recorded_at", _TIME, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("profile_version", sa.Integer),
        sa.Column("signal", sa.String, nullable=False),
        sa.Column("method", sa.String, nullable=False),
        sa.Column("signal_value", sa.Float),
        sa.Column("threshold", sa.Float),
        sa.Column("tokens", sa.Integer),
        sa.Column("route", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("verdict", sa.String),
        sa.Column("stale", sa.Boolean, nullable=False),
        sa.Column("alarm", sa.String),
        sa.Column("aborted", sa.Boolean, nullable=False),
        sa.Column("answered_by", sa.String),
        sa.Column("draft_model", sa.String),
        sa.Column("draft_input_tokens", sa.BigInteger),
        sa.Column("draft_output_tokens", sa.BigInteger),
        sa.Column("deeper_model", sa.String),
        sa.Column("deeper_input_tokens", sa.BigInteger),
        sa.Column("deeper_output_tokens", sa.BigInteger),
        sa.Column("deeper_includes_draft", sa.Boolean, nullable=False),
        sa.Column("usage_partly_known", sa.Boolean, nullable=False),
        sa.Column("tokens_saved", sa.Float),
        sa.Column("saved_by", sa.String),
        sa.Column("risk_limit", sa.Float),
        sa.Column("latency_seconds", sa.Float),
        sa.Column("recorded_by", sa.String, nullable=False),
        sa.Column("detail", sa.Text),
        sa.Column("prompt", sa.Text),
        sa.Column("answer", sa.Text),
    )
    op.create_index("tje_decisions_by_key", "tje_decisions", ["key", "decided_at"])
    op.create_table(
        "tje_feedback",
        sa.Column("decision_id", sa.String, primary_key=True),
        sa.Column("correct", sa.Boolean),
        sa.Column("draft_correct", sa.Boolean),
        sa.Column("given_at", _TIME, nullable=False),
    )
    op.create_table(
        "tje_drops",
        sa.Column("id", _COUNTED, primary_key=True, autoincrement=True),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("recorded_by", sa.String, nullable=False),
        sa.Column("decisions", sa.Integer, nullable=False),
        sa.Column("refused", sa.Integer, nullable=False),
    )
    profiles = sa.table("tje_profiles", sa.column("key", sa.String), sa.column("version", sa.Integer))
    newest = sa.select(profiles.c.key, sa.func.max(profiles.c.version).label("version")).group_by(profiles.c.key)
    now = datetime.now(timezone.utc)
    if op.get_bind().dialect.name == "sqlite":
        now = now.replace(tzinfo=None)  # times are stored in UTC, and SQLite stores no zone
    for key, version in op.get_bind().execute(newest).all():
        op.bulk_insert(keys, [{"key": key, "last_version": version, "active_version": version}])
        first = {"key": key, "from_version": None, "to_version": version, "action": "migrate", "at": now}
        op.bulk_insert(promotions, [{**first, "by": "tje registry migrate"}])
