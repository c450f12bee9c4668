"""What waits to be written, and the rows that it becomes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import lru_cache
from hashlib import sha256
from math import isfinite
from operator import index
from typing import Any, NamedTuple

from pydantic import ValidationError

from ..calibration.key import ProfileKey
from ..calibration.profile import CalibrationProfile
from ..calls.usage import TokenUsage, counted
from ..gate.decision import GateDecision, Route
from ..gate.savings import savings_of

Row = dict[str, Any]

#: Characters of a decision's id.
LONGEST_ID = 200
# Bytes of a key: PostgreSQL has no place for much more in an index.
_LONGEST_KEY = 2_000
# Above it no count is one; PostgreSQL has no place for more, and SQLite cannot add it up.
_HIGHEST_COUNT = 2**31 - 1


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
    deeper_includes_draft: bool | None = None


class Judged(NamedTuple):
    """Feedback about a decision."""

    decision_id: str
    at: float
    correct: bool | None
    draft_correct: bool | None


Entry = Decided | Judged


def judged(decision_id: str, at: float, *, correct: bool | None, draft_correct: bool | None) -> Judged:
    """Feedback that can be stored.

    Raises:
        ValueError: nothing is said, or of nothing that is an id.
    """
    if correct is None and draft_correct is None:
        raise ValueError("feedback says whether the answer was right: correct=, or of the draft draft_correct=")
    return Judged(_id(decision_id), at, _truth(correct), _truth(draft_correct))


def decision_row(entry: Decided, *, recorded_by: str, texts: bool) -> Row:
    """The row of ``tje_decisions``; anything that is no decision raises what it may."""
    decision = _as_counted(entry.decision)
    includes_draft = bool(entry.deeper_includes_draft)
    saved = savings_of(decision, entry.profile, deeper_includes_draft=includes_draft)
    draft, deeper = decision.draft_usage, decision.deeper_usage
    return {
        "decision_id": _text(_id(entry.decision_id)),
        "decided_at": _time(entry.at),
        "recorded_at": _time(entry.at),
        "key": stored_key(decision.key),
        "profile_version": _count(decision.profile_version),
        "signal": _text(decision.signal),
        "method": _text(decision.method),
        "signal_value": _number(decision.signal_value),
        "threshold": _number(decision.threshold),
        "tokens": _count(decision.tokens),
        "route": _text(decision.route.value),
        "reason": _text(decision.reason),
        "verdict": _text(decision.verdict),
        "stale": bool(decision.stale),
        "alarm": _text(decision.alarm),
        "aborted": bool(decision.aborted),
        "answered_by": _text(decision.answered_by),
        "draft_model": _text(entry.draft_model),
        "draft_input_tokens": _count(draft.input_tokens) if draft else None,
        "draft_output_tokens": _count(draft.output_tokens) if draft else None,
        "deeper_model": _text(entry.deeper_model),
        "deeper_input_tokens": _count(deeper.input_tokens) if deeper else None,
        "deeper_output_tokens": _count(deeper.output_tokens) if deeper else None,
        "deeper_includes_draft": includes_draft,
        "usage_partly_known": (
            _is_partly_known(draft)
            or _is_partly_known(deeper)
            or (deeper is None and decision.answered_by == "deeper")
        ),
        "tokens_saved": _number(saved.tokens),
        "saved_by": saved.by,
        "risk_limit": _number(entry.risk_limit),
        "latency_seconds": _number(entry.latency_seconds),
        "recorded_by": _text(recorded_by),
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


def stored_key(name: str | None) -> str:
    """The name of a key as every database can look it up; of a longer one what stands for it alone."""
    key = _text(name) or ""
    if len(key.encode()) <= _LONGEST_KEY:
        return key
    begin = key.encode()[: _LONGEST_KEY // 2].decode(errors="ignore")
    return f"{begin}... {sha256(key.encode()).hexdigest()}"


def what_is_wrong(entry: Entry, error: Exception) -> str:
    """Of an entry that no row can be made of, or none that can be stored: in words that quote none of its texts."""
    if isinstance(entry, Judged):
        return f"feedback ({type(error).__name__})"
    decision: object = entry.decision
    if not isinstance(decision, GateDecision):
        return f"a decision that is a {type(decision).__name__} and no GateDecision"
    for name, kind in (("route", Route), ("draft_usage", TokenUsage), ("deeper_usage", TokenUsage)):
        given = getattr(decision, name)
        if given is not None and not isinstance(given, kind):
            return f"a decision whose {name} is a {type(given).__name__} and no {kind.__name__}"
    return f"a decision ({type(error).__name__})"


#: Columns of the first record of a decision.
KEPT = ("decision_id", "decided_at")
#: What accepting a draft saved, which is known only while its profile is the active one.
SAVED = ("saved_by", "tokens_saved")
#: Columns that a later record may know nothing of; what an earlier one knew then stays.
FILLED = ("latency_seconds", "risk_limit", "draft_model", "deeper_model", "prompt", "answer")


def merged(rows: Sequence[Row]) -> list[Row]:
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
    kept = {name: earlier[name] for name in KEPT}
    # Where it is known who answered, a record from before that is the earlier one, whenever it comes.
    if row["answered_by"] is None and earlier["answered_by"] is not None:
        row, earlier = earlier, row
    filled = {name: earlier[name] for name in FILLED if row[name] is None}
    if row["saved_by"] is None and row["answered_by"] != "deeper":
        filled |= {name: earlier[name] for name in SAVED}
    return {**row, **filled, **kept}


def merged_feedback(rows: Sequence[Row]) -> list[Row]:
    """Rows of feedback, what was said last of each part of each ``decision_id``; in the order of ids."""
    last: dict[str, Row] = {}
    for row in rows:
        said = {name: value for name, value in row.items() if value is not None}
        last[row["decision_id"]] = {**last.get(row["decision_id"], row), **said}
    return [last[decision_id] for decision_id in sorted(last)]


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def _id(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST_ID:
        said = f"{type(value).__name__}" if not isinstance(value, str) else f"a text of {len(value)} characters"
        raise ValueError(f"the id of a decision is a text of 1 to {LONGEST_ID} characters, not {said}")
    return value


def _count(value: int | None) -> int | None:
    """A plain whole number, as drivers take no other."""
    if value is None:
        return None
    count = index(value)
    if abs(count) > _HIGHEST_COUNT:
        raise OverflowError("a count that no call comes to")
    return count


def _text(value: str | None) -> str | None:
    """A text that every database takes: none of them has a place for lone surrogates, nor PostgreSQL for NUL."""
    if value is None:
        return None
    return str(value).encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _number(value: float | None) -> float | None:
    return None if value is None or not isfinite(value) else float(value)


def _truth(value: bool | None) -> bool | None:
    return None if value is None else bool(value)


def _as_counted(decision: GateDecision) -> GateDecision:
    """The decision with nothing for what nobody counted, as of a client that no framework sees: 0 is a claim."""
    return replace(decision, draft_usage=counted(decision.draft_usage), deeper_usage=counted(decision.deeper_usage))


def _is_partly_known(usage: TokenUsage | None) -> bool:
    return usage is not None and (usage.partly_known > 0 or usage.calls == 0)


@lru_cache(maxsize=4_096)
def key_of(canonical: str) -> ProfileKey | None:
    """The key that is stored so; None for one of another release. Each is read once, however often it is met."""
    try:
        return ProfileKey.model_validate_json(canonical)
    except ValidationError:
        return None
