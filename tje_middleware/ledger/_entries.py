"""What waits to be written, and the rows that it becomes."""

from __future__ import annotations

from datetime import datetime, timezone
from math import isfinite
from typing import Any, NamedTuple

from ..decision import GateDecision
from ..profile import CalibrationProfile
from ..savings import savings_of
from ..usage import TokenUsage

Row = dict[str, Any]


class Decided(NamedTuple):
    """A decision, kept as it came: rows are made off the hot path."""

    decision_id: str
    at: float  # seconds since the epoch
    decision: GateDecision
    profile: CalibrationProfile | None
    latency_seconds: float | None
    draft_model: str | None
    deeper_model: str | None
    prompt: str | None
    answer: str | None
    risk_limit: float | None = None


class Judged(NamedTuple):
    """Feedback about a decision."""

    decision_id: str
    at: float
    correct: bool | None
    draft_correct: bool | None


Entry = Decided | Judged


def decision_row(entry: Decided, *, recorded_by: str, deeper_includes_draft: bool, texts: bool) -> Row:
    """The row of ``tje_decisions``; anything that is no decision raises what it may."""
    decision, profile = entry.decision, entry.profile
    saved = savings_of(decision, profile, deeper_includes_draft=deeper_includes_draft)
    draft, deeper = decision.draft_usage, decision.deeper_usage
    return {
        "decision_id": _text(entry.decision_id),
        "decided_at": _time(entry.at),
        "key": _text(decision.key) or "",
        "profile_version": decision.profile_version,
        "signal": _text(decision.signal),
        "method": _text(decision.method),
        "signal_value": _number(decision.signal_value),
        "threshold": _number(decision.threshold),
        "tokens": decision.tokens,
        "route": decision.route.value,
        "reason": _text(decision.reason),
        "verdict": _text(decision.verdict),
        "stale": bool(decision.stale),
        "alarm": _text(decision.alarm),
        "aborted": bool(decision.aborted),
        "answered_by": _text(decision.answered_by),
        "draft_model": _text(entry.draft_model),
        "draft_input_tokens": draft.input_tokens if draft else None,
        "draft_output_tokens": draft.output_tokens if draft else None,
        "deeper_model": _text(entry.deeper_model),
        "deeper_input_tokens": deeper.input_tokens if deeper else None,
        "deeper_output_tokens": deeper.output_tokens if deeper else None,
        "usage_partly_known": _is_partly_known(draft) or _is_partly_known(deeper),
        "tokens_saved": _number(saved.tokens),
        "saved_by": saved.by,
        "risk_limit": _number(entry.risk_limit),
        "latency_seconds": _number(entry.latency_seconds),
        "recorded_by": recorded_by,
        "detail": _text(decision.detail) if texts else None,
        "prompt": _text(entry.prompt) if texts else None,
        "answer": _text(entry.answer) if texts else None,
    }


def feedback_row(entry: Judged) -> Row:
    """The row of ``tje_feedback``."""
    return {
        "decision_id": _text(entry.decision_id),
        "correct": _truth(entry.correct),
        "draft_correct": _truth(entry.draft_correct),
        "given_at": _time(entry.at),
    }


#: Columns of the first record of a decision.
KEPT = ("decision_id", "decided_at")
#: Columns that a later record may know nothing of; what an earlier one knew then stays.
FILLED = ("latency_seconds", "risk_limit", "draft_model", "deeper_model", "prompt", "answer")


def merged(rows: list[Row]) -> list[Row]:
    """Rows of decisions, those of one ``decision_id`` as one; in the order of ids.

    All writers go through ids in one order, so that no two wait for each other.
    """
    found: dict[str, Row] = {}
    for row in rows:
        earlier = found.get(row["decision_id"])
        found[row["decision_id"]] = row if earlier is None else _later(earlier, row)
    return [found[decision_id] for decision_id in sorted(found)]


def _later(earlier: Row, row: Row) -> Row:
    """The later record of a decision counts, with what it does not know from the earlier one."""
    filled = {name: earlier[name] for name in FILLED if row[name] is None}
    # What accepting a draft saved is known only while its profile is the active one.
    if row["saved_by"] is None and row["answered_by"] != "deeper":
        filled |= {name: earlier[name] for name in ("saved_by", "tokens_saved")}
    return {**row, **filled, **{name: earlier[name] for name in KEPT}}


def merged_feedback(rows: list[Row]) -> list[Row]:
    """Rows of feedback, what was said last of each part of each ``decision_id``; in the order of ids."""
    last: dict[str, Row] = {}
    for row in rows:
        said = {name: value for name, value in row.items() if value is not None}
        last[row["decision_id"]] = {**last.get(row["decision_id"], row), **said}
    return [last[decision_id] for decision_id in sorted(last)]


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def _text(value: str | None) -> str | None:
    """A text that every database takes: none of them has a place for lone surrogates, nor PostgreSQL for NUL."""
    if value is None:
        return None
    return str(value).encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _number(value: float | None) -> float | None:
    return None if value is None or not isfinite(value) else float(value)


def _truth(value: bool | None) -> bool | None:
    return None if value is None else bool(value)


def _is_partly_known(usage: TokenUsage | None) -> bool:
    return usage is not None and usage.partly_known > 0
