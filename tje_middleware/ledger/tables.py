"""The tables of the ledger."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, String, Table, Text

from ..storage.schema import COUNTED, METADATA, UtcDateTime

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
    Column("id", COUNTED, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("recorded_by", String, nullable=False),
    Column("decisions", Integer, nullable=False),  # all of them
    Column("refused", Integer, nullable=False, default=0),  # that cannot be stored; for the rest a queue was full
)
