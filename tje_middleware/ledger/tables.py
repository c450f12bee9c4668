"""The tables of the ledger. Each column is declared once, with the source of its value and how records are merged.

The row of a decision (:func:`row_of`) and the merging of two records (``store.py``) follow from the columns: a new
column is one line here, and its migration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from hashlib import sha256
from math import isfinite
from operator import index
from typing import Any, Literal, NamedTuple

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, String, Table, Text
from sqlalchemy.types import TypeEngine

from ..calls.usage import TokenUsage, counted
from ..gate.decision import GateDecision, Route, Savings, savings_of
from ..gate.settlement import DecisionFacts
from ..storage.schema import COUNTED, METADATA, UtcDateTime

Row = dict[str, Any]
#: The one of two records of a decision that a column is taken from. ``first``: the one that was recorded first.
#: ``later``: the later one. ``known``: the later one, or the earlier one where the later one has no value. ``saved``:
#: likewise, except that the estimate of the earlier record is dropped where the draft went deeper after all.
Keep = Literal["first", "later", "known", "saved"]
_Kind = type[TypeEngine[Any]] | TypeEngine[Any]

#: The most characters of a decision's id.
LONGEST_ID = 200
# The most bytes of a key: PostgreSQL cannot index much longer ones.
_LONGEST_KEY = 2_000
# The largest count: PostgreSQL's integers end here, and SQLite cannot add larger ones up. No real count is above it.
_HIGHEST_COUNT = 2**31 - 1


@dataclass(eq=False)  # not frozen: making a frozen one would take longer than the rest of recording
class SettledDecision:
    """A decision with further facts that waits to be written; its row is made by the writer's thread.

    Attributes:
        decision: The gate's decision.
        facts: Further facts.
        decision_id: The decision's id, or a new one where it has none.
        at: When it was recorded (seconds since the epoch).
        recorded_by: User, host and process.
    """

    decision: GateDecision
    facts: DecisionFacts
    decision_id: str
    at: float
    recorded_by: str

    @property
    def draft_usage(self) -> TokenUsage | None:
        """Tokens that the draft spent; None where they were not counted."""
        return counted(self.decision.draft_usage)

    @property
    def deeper_usage(self) -> TokenUsage | None:
        """Tokens that the deeper branch spent; None where it did not run or they were not counted."""
        return counted(self.decision.deeper_usage)

    @property
    def usage_partly_known(self) -> bool:
        """Whether there was a call of which not all tokens are known."""
        deeper = self.deeper_usage
        is_uncounted = deeper is None and self.decision.answered_by == "deeper"
        return is_uncounted or _is_partly_known(self.draft_usage) or _is_partly_known(deeper)

    @property
    def deeper_includes_draft(self) -> bool:
        """Whether always going deeper costs the draft as well."""
        return bool(self.facts.get("deeper_includes_draft"))

    @cached_property
    def savings(self) -> Savings:
        """Tokens saved against always going deeper."""
        # With the usages above, in which tokens that were not counted are unknown and not 0.
        decision = replace(self.decision, draft_usage=self.draft_usage, deeper_usage=self.deeper_usage)
        profile = self.facts.get("profile")
        return savings_of(decision, profile, deeper_includes_draft=self.deeper_includes_draft)


class Feedback(NamedTuple):
    """Feedback on a decision."""

    decision_id: str
    at: float
    correct: bool | None
    draft_correct: bool | None


Entry = SettledDecision | Feedback


def decision_column(
    name: str,
    kind: _Kind,
    of: Callable[[SettledDecision], object],
    keep: Keep = "later",
    *,
    is_text: bool = False,
    **options: Any,  # noqa: ANN401 (the column's)
) -> Column[Any]:
    """A column of decisions.

    Args:
        name: The column's name.
        kind: Its type, by which values are converted, see :func:`_plain`.
        of: Returns its value.
        keep: The one of two records of a decision that it is taken from.
        is_text: Whether it may quote users' texts, and is kept only by a ledger with ``texts=True``.
        **options: Options of Column.
    """
    return Column(name, kind, info={"of": of, "keep": keep, "is_text": is_text}, **options)


def feedback_column(
    name: str,
    kind: _Kind,
    of: Callable[[Feedback], object],
    keep: Keep = "later",
    **options: Any,  # noqa: ANN401 (the column's)
) -> Column[Any]:
    """A column of feedback; arguments as of :func:`decision_column`."""
    return Column(name, kind, info={"of": of, "keep": keep, "is_text": False}, **options)


# One row for each decision; its key is in words, as in GateDecision. No two keys have the same words.
DECISIONS = Table(
    "tje_decisions",
    METADATA,
    decision_column("decision_id", String, lambda it: as_id(it.decision_id), "first", primary_key=True),
    decision_column("decided_at", UtcDateTime, lambda it: it.at, "first", nullable=False),
    decision_column("recorded_at", UtcDateTime, lambda it: it.at, nullable=False),  # of the later record
    decision_column("key", String, lambda it: stored_key(it.decision.key), nullable=False),
    decision_column("profile_version", Integer, lambda it: it.decision.profile_version),
    decision_column("signal", String, lambda it: it.decision.signal, nullable=False),
    decision_column("method", String, lambda it: it.decision.method, nullable=False),
    decision_column("signal_value", Float, lambda it: it.decision.signal_value),
    decision_column("threshold", Float, lambda it: it.decision.threshold),
    decision_column("tokens", Integer, lambda it: it.decision.tokens),
    decision_column("route", String, lambda it: it.decision.route.value, nullable=False),
    decision_column("reason", String, lambda it: it.decision.reason, nullable=False),
    decision_column("verdict", String, lambda it: it.decision.verdict),
    decision_column("stale", Boolean, lambda it: bool(it.decision.stale), nullable=False),
    decision_column("alarm", String, lambda it: it.decision.alarm),
    decision_column("aborted", Boolean, lambda it: bool(it.decision.aborted), nullable=False),
    decision_column("answered_by", String, lambda it: it.decision.answered_by),
    decision_column("draft_model", String, lambda it: it.facts.get("draft_model"), "known"),
    decision_column("draft_input_tokens", BigInteger, lambda it: it.draft_usage and it.draft_usage.input_tokens),
    decision_column("draft_output_tokens", BigInteger, lambda it: it.draft_usage and it.draft_usage.output_tokens),
    decision_column("deeper_model", String, lambda it: it.facts.get("deeper_model"), "known"),
    decision_column("deeper_input_tokens", BigInteger, lambda it: it.deeper_usage and it.deeper_usage.input_tokens),
    decision_column("deeper_output_tokens", BigInteger, lambda it: it.deeper_usage and it.deeper_usage.output_tokens),
    decision_column("deeper_includes_draft", Boolean, lambda it: it.deeper_includes_draft, nullable=False),
    decision_column("usage_partly_known", Boolean, lambda it: it.usage_partly_known, nullable=False),
    decision_column("tokens_saved", Float, lambda it: it.savings.tokens, "saved"),
    decision_column("saved_by", String, lambda it: it.savings.by, "saved"),
    decision_column("risk_limit", Float, lambda it: it.facts.get("risk_limit"), "known"),
    decision_column("latency_seconds", Float, lambda it: it.facts.get("latency_seconds"), "known"),
    decision_column("recorded_by", String, lambda it: it.recorded_by, nullable=False),
    decision_column("detail", Text, lambda it: it.decision.detail, is_text=True),
    decision_column("prompt", Text, lambda it: it.facts.get("prompt"), "known", is_text=True),
    decision_column("answer", Text, lambda it: it.facts.get("answer"), "known", is_text=True),
    Index("tje_decisions_by_key", "key", "decided_at"),
)

FEEDBACK = Table(
    "tje_feedback",
    METADATA,
    feedback_column("decision_id", String, lambda it: it.decision_id, "first", primary_key=True),
    feedback_column("correct", Boolean, lambda it: it.correct, "known"),  # the answer that was delivered
    feedback_column("draft_correct", Boolean, lambda it: it.draft_correct, "known"),
    feedback_column("given_at", UtcDateTime, lambda it: it.at, nullable=False),
)

# Decisions and feedback that were dropped.
DROPS = Table(
    "tje_drops",
    METADATA,
    Column("id", COUNTED, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("recorded_by", String, nullable=False),
    Column("decisions", Integer, nullable=False),
    Column("refused", Integer, nullable=False, default=0),  # those of them that cannot be stored
)


def table_of(entry: Entry) -> Table:
    """The table of an entry."""
    return DECISIONS if isinstance(entry, SettledDecision) else FEEDBACK


def row_of(entry: Entry, *, texts: bool) -> Row:
    """The row of an entry.

    Args:
        entry: A decision, or feedback about one.
        texts: Whether to keep columns that may quote users.

    Raises:
        Exception: any error of an object that was recorded as a decision and is none.
    """
    return {
        column.name: _plain(column, None if column.info["is_text"] and not texts else column.info["of"](entry))
        for column in table_of(entry).columns
    }


def feedback(decision_id: str, at: float, *, correct: bool | None, draft_correct: bool | None) -> Feedback:
    """Feedback that can be stored.

    Raises:
        ValueError: there is no feedback, or the id is none.
    """
    if correct is None and draft_correct is None:
        raise ValueError("feedback says whether the answer was right: correct=, or of the draft draft_correct=")
    return Feedback(
        as_id(decision_id),
        at,
        None if correct is None else bool(correct),
        None if draft_correct is None else bool(draft_correct),
    )


def as_id(value: object) -> str:
    """The value, if it is the id of a decision.

    Raises:
        ValueError: it is no id.
    """
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST_ID:
        said = f"{type(value).__name__}" if not isinstance(value, str) else f"a text of {len(value)} characters"
        raise ValueError(f"the id of a decision is a text of 1 to {LONGEST_ID} characters, not {said}")
    return value


def stored_key(name: str | None) -> str:
    """The words of a key in a form that every database can index; long ones are cut, and get a hash."""
    key = _text(name or "")
    if len(key.encode()) <= _LONGEST_KEY:
        return key
    begin = key.encode()[: _LONGEST_KEY // 2].decode(errors="ignore")
    return f"{begin}... {sha256(key.encode()).hexdigest()}"


def what_is_wrong(entry: Entry, error: Exception) -> str:
    """Why an entry cannot be stored, without quoting its texts."""
    if isinstance(entry, Feedback):
        return f"feedback ({type(error).__name__})"
    decision: object = entry.decision
    if not isinstance(decision, GateDecision):
        return f"a decision that is a {type(decision).__name__} and no GateDecision"
    for name, kind in (("route", Route), ("draft_usage", TokenUsage), ("deeper_usage", TokenUsage)):
        given = getattr(decision, name)
        if given is not None and not isinstance(given, kind):
            return f"a decision whose {name} is a {type(given).__name__} and no {kind.__name__}"
    return f"a decision ({type(error).__name__})"


def _plain(column: Column[Any], value: Any) -> object:  # noqa: ANN401 (whatever was handed over)
    """A value converted by the type of its column, so that every database takes it."""
    if value is None:
        return None
    kind = column.type
    if isinstance(kind, String):  # Text, too
        return _text(value)
    if isinstance(kind, Integer):  # BigInteger, too
        return _count(value)
    if isinstance(kind, Float):
        return float(value) if isfinite(value) else None
    if isinstance(kind, UtcDateTime):
        return datetime.fromtimestamp(value, timezone.utc)
    return value


def _text(value: object) -> str:
    """A text without lone surrogates, which no database takes, and without NUL, which PostgreSQL does not take."""
    return str(value).encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _count(value: Any) -> int:  # noqa: ANN401 (of NumPy, too)
    """A whole number as an int, which drivers require."""
    count = index(value)
    if abs(count) > _HIGHEST_COUNT:
        raise OverflowError("a count that no call comes to")
    return count


def _is_partly_known(usage: TokenUsage | None) -> bool:
    return usage is not None and (usage.partly_known > 0 or usage.calls == 0)
