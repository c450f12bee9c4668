"""Decisions with feedback, as labelled drafts for a calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Select, case, func, select

from ..errors import CalibrationError
from ..registry import alarms
from ..storage import Database
from .queries import JUDGED, Range, draft_right, number_of, went_deeper
from .tables import DECISIONS, FEEDBACK

if TYPE_CHECKING:
    from ..calibration.profile import CalibrationProfile
    from ..calibration.recalibration import LabelledDecision

_D, _F = DECISIONS.c, FEEDBACK.c

# Drafts that an alarm keeps from being accepted are measured as well, and needed to calibrate anew after drift.
_MEASURED = (*JUDGED, "drifted")
# Where more than this share of the rejected drafts was stopped, the others are no fair sample of them.
_MANY_STOPPED = 0.1


@dataclass(frozen=True)
class _Measured:
    """Selects the drafts of a key with a signal; of drafts that were stopped it is a lower bound."""

    within: Range
    of_version: tuple[ColumnElement[bool], ...]

    def of(self, query: Select[Any]) -> Select[Any]:
        return self.within.of(query).where(*self.of_version, _D.reason.in_(_MEASURED), _D.signal_value.is_not(None))


@dataclass(frozen=True)
class _Sides:
    """The numbers of drafts that a threshold accepts and rejects, and of rejected ones that were stopped early."""

    threshold: float
    accepted: int
    rejected: int
    stopped: int


def labelled(database: Database, key: str, version: int | None, since: datetime | None) -> list[LabelledDecision]:
    """The decisions with feedback on the draft, oldest first; without drafts that were stopped early.

    Raises:
        RegistryError: the database cannot be read.
        ValueError: a time without a zone.
    """
    of_version = () if version is None else (_D.profile_version == version,)
    return _labelled(database, _Measured(Range(since, None, key), of_version))


def recalibrated(database: Database, profile: CalibrationProfile, since: datetime | None) -> CalibrationProfile:
    """Recalibrate a profile from the feedback on its decisions; see ``recalibration``.

    Raises:
        CalibrationError: that version decided no draft by a threshold, there is not enough feedback, or too many
            drafts were stopped before their end.
        RegistryError: the database cannot be read.
        ValueError: a time without a zone.
    """
    from ..calibration.recalibration import recalibrate  # noqa: PLC0415

    drifted = _drifted_at(database, profile) if since is None else None
    since = since or drifted
    measured = _Measured(Range(since, None, str(profile.key)), (_D.profile_version == profile.version,))
    sides = _decided(database, measured)
    if sides is None:
        raise CalibrationError(
            f"the ledger has no decisions by version {profile.version} of {profile.key}{_words(since, drifted)}: "
            f"nothing to learn from"
        )
    if sides.stopped > _MANY_STOPPED * sides.rejected:
        raise CalibrationError(
            f"{sides.stopped} of {sides.rejected} rejected drafts were stopped before their end: their signals are "
            f'not known, and the others do not stand for them. Let a gate with mode="hold" or "annotate" run for a '
            f"while, grade its drafts, and recalibrate from what was decided since (since=)"
        )
    found = recalibrate(
        profile,
        _labelled(database, measured),
        threshold=sides.threshold,
        share_accepted=sides.accepted / (sides.accepted + sides.rejected),
    )
    return found.model_copy(update={"notes": (*found.notes, *_notes(sides, since, drifted))})


def _labelled(database: Database, measured: _Measured) -> list[LabelledDecision]:
    from ..calibration.recalibration import LabelledDecision  # noqa: PLC0415 (a ledger need not calibrate)

    columns = select(
        _D.signal_value,
        draft_right.label("correct"),
        _D.draft_output_tokens,
        case((went_deeper, _F.correct)).label("deeper_correct"),
        case((went_deeper, _D.deeper_output_tokens)).label("deeper_tokens"),
    ).join(FEEDBACK, _F.decision_id == _D.decision_id)
    query = measured.of(columns).where(draft_right.is_not(None), _D.aborted.is_(False))
    with database.reading() as read:
        return [
            LabelledDecision(
                signal_value=row.signal_value,
                correct=row.correct,
                tokens=row.draft_output_tokens,
                deeper_correct=row.deeper_correct,
                deeper_tokens=row.deeper_tokens,
            )
            for row in read(query.order_by(_D.decided_at, _D.decision_id))
        ]


def _drifted_at(database: Database, profile: CalibrationProfile) -> datetime | None:
    """When the drift alarm about this version was raised, from which on drafts differ; None: none that holds."""
    with database.reading() as read:
        holding = alarms.holding(read, profile.key, database.url.shown)
    raised = [alarm.raised_at for alarm in holding if alarm.kind == "drift" and alarm.version == profile.version]
    return max(raised, default=None)


def _decided(database: Database, measured: _Measured) -> _Sides | None:
    """The numbers by the threshold that most drafts were decided by; None where no draft was."""
    thresholds = (
        measured.of(select(_D.threshold, func.count()))
        .where(_D.threshold.is_not(None))
        .group_by(_D.threshold)
        .order_by(func.count().desc(), _D.threshold)
        .limit(1)
    )
    with database.reading() as read:
        found = read(thresholds)
        if not found:
            return None
        threshold = float(found[0].threshold)
        is_accepted = (_D.signal_value <= threshold) & _D.aborted.is_(False)
        counts = read(measured.of(select(number_of(is_accepted), number_of(_D.aborted), func.count())))[0]
    accepted, stopped, every = (int(count) for count in counts)
    return _Sides(threshold, accepted, every - accepted, stopped)


def _notes(sides: _Sides, since: datetime | None, drifted: datetime | None) -> Sequence[str]:
    notes = []
    if since is not None:
        notes.append(f"only drafts that were decided{_words(since, drifted)}")
    if sides.stopped:
        notes.append(
            f"{sides.stopped} of {sides.rejected} rejected drafts were stopped before their end: the others stand "
            f"for them"
        )
    return notes


def _words(since: datetime | None, drifted: datetime | None) -> str:
    if since is None:
        return ""
    return f" since {since:%Y-%m-%d %H:%M %Z}" + ("" if drifted is None else ", when a drift alarm was raised")
