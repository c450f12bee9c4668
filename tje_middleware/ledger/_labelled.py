"""Decisions with feedback, as a calibration needs them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import case, func, or_, select

from ..database import Database
from ..database.schema import DECISIONS, FEEDBACK
from ..errors import CalibrationError

if TYPE_CHECKING:
    from ..profile import CalibrationProfile
    from ..recalibration import LabelledDecision

_D, _F = DECISIONS.c, FEEDBACK.c

#: Reasons of a draft that was looked at; every other says why it could not be, or was not to be.
JUDGED = ("confident", "uncertain", "hopeless", "branch_failed", "capped")

went_deeper = _D.answered_by == "deeper"
#: Whether the draft was right: somebody said so, or it was the answer.
draft_right = case(
    (_F.draft_correct.is_not(None), _F.draft_correct),
    (or_(_D.answered_by == "draft", (_D.answered_by.is_(None)) & (_D.route == "final")), _F.correct),
)


def labelled(database: Database, key: str, version: int | None) -> list[LabelledDecision]:
    """Those whose draft was judged right or wrong, oldest first; of a stopped draft the signal is not known."""
    from ..recalibration import LabelledDecision  # noqa: PLC0415 (a ledger need not calibrate)

    query = (
        select(
            _D.signal_value,
            draft_right.label("correct"),
            _D.draft_output_tokens,
            case((went_deeper, _F.correct)).label("deeper_correct"),
            case((went_deeper, _D.deeper_output_tokens)).label("deeper_tokens"),
        )
        .join(FEEDBACK, _F.decision_id == _D.decision_id)
        .where(_D.key == key, _D.signal_value.is_not(None), draft_right.is_not(None), _D.aborted.is_(False))
        .order_by(_D.decided_at, _D.decision_id)
    )
    if version is not None:
        query = query.where(_D.profile_version == version)
    with database.reading() as read:
        return [
            LabelledDecision(
                signal_value=row.signal_value,
                correct=row.correct,
                tokens=row.draft_output_tokens,
                deeper_correct=row.deeper_correct,
                deeper_tokens=row.deeper_tokens,
            )
            for row in read(query)
        ]


def recalibrated(database: Database, profile: CalibrationProfile) -> CalibrationProfile:
    """What the feedback on the decisions of one version gives; see ``recalibration``.

    Raises:
        CalibrationError: that version decided nothing by a threshold, or there is not enough feedback.
        RegistryError: the database cannot be read.
    """
    from ..recalibration import recalibrate  # noqa: PLC0415

    key, version = str(profile.key), profile.version
    threshold, share = _decided(database, key, version)
    return recalibrate(profile, labelled(database, key, version), threshold=threshold, share_accepted=share)


def _decided(database: Database, key: str, version: int | None) -> tuple[float, float]:
    """The threshold by which most drafts of a version were judged, and the share of all that it accepts."""
    judged = (_D.key == key, _D.profile_version == version, _D.reason.in_(JUDGED), _D.signal_value.is_not(None))
    thresholds = (
        select(_D.threshold, func.count())
        .where(*judged, _D.threshold.is_not(None))
        .group_by(_D.threshold)
        .order_by(func.count().desc(), _D.threshold)
        .limit(1)
    )
    with database.reading() as read:
        found = read(thresholds)
        if not found:
            raise CalibrationError(
                f"the ledger has no decisions by version {version} of {key}: nothing to learn from"
            )
        threshold = float(found[0].threshold)
        accepted = func.sum(case((_D.signal_value <= threshold, 1), else_=0))
        counts = read(select(accepted.label("accepted"), func.count().label("judged")).where(*judged))[0]
    return threshold, int(counts.accepted) / int(counts.judged)
