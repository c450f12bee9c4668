"""Feedback held against what a method promised: that at most a share of the accepted drafts is wrong."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select

from .._process import whoami
from ..calibration.key import ProfileKey
from ..calibration.profile import Alarm
from ..errors import RegistryError
from ..registry import store_alarm
from ..registry.tables import ALARMS, PROFILES
from ..storage import Database, Read
from .queries import draft_right, key_of, number_of
from .store import Batch, store, waiting_at_most, with_limited_waits
from .tables import DECISIONS, FEEDBACK, feedback, row_of, stored_key

logger = logging.getLogger(__name__)

_D, _F, _A = DECISIONS.c, FEEDBACK.c, ALARMS.c
# A command waits for the look this long; nobody tries again afterwards.
_SECONDS_OF_LOOK = 5.0
# The probability that an alarm is ever raised about a promise that is kept.
_FALSE_ALARMS = 0.01


@dataclass(frozen=True)
class _Promise:
    key: str  # in words, as decisions have it
    version: int
    limit: float


def check_promises(database: Database, decision_ids: Sequence[str]) -> None:
    """Raise an alarm about each version whose promise these decisions' feedback shows to be broken.

    One a version, until it is dismissed; then only what is said later counts. Only decisions that are there already
    are looked at.

    Args:
        database: Where the ledger is, and the profiles.
        decision_ids: Decisions about which feedback has come; no more than a batch.

    Raises:
        RegistryError: the database cannot be asked or written.
    """
    with database.reading() as read:
        found = [_broken(read, promise) for promise in _promises(read, decision_ids)]
    for key, alarm in filter(None, found):
        if store_alarm(database, key, alarm):
            logger.warning("an alarm was raised about version %s of %s: %s", alarm.version, key, alarm.detail)


def _promises(read: Read, decision_ids: Sequence[str]) -> list[_Promise]:
    promised = (_D.reason == "confident", _D.profile_version.is_not(None), _D.risk_limit.is_not(None))
    made = select(_D.key, _D.profile_version, _D.risk_limit).distinct()
    rows = read(made.where(_D.decision_id.in_(decision_ids), *promised))
    return [_Promise(row.key, row.profile_version, row.risk_limit) for row in rows]


def _broken(read: Read, promise: _Promise) -> tuple[ProfileKey, Alarm] | None:
    from ..gate.drift import risk_alarm  # noqa: PLC0415 (scipy: not before there is feedback)

    stored = _stored_key(read, promise)
    if stored is None:  # not of this registry: nobody would see it
        return None
    canonical, key = stored
    about = (_A.key == canonical, _A.version == promise.version, _A.kind == "risk")
    dismissed = [row.dismissed_at for row in read(select(_A.dismissed_at).where(*about))]
    if None in dismissed:  # one holds
        return None
    graded = (
        select(number_of(draft_right.is_(False)), number_of(draft_right.is_(True)))
        .join_from(DECISIONS, FEEDBACK, _F.decision_id == _D.decision_id)
        .where(_D.key == promise.key, _D.profile_version == promise.version, _D.risk_limit == promise.limit)
        .where(_D.reason == "confident")
    )
    if dismissed:
        graded = graded.where(_F.given_at > max(dismissed))
    wrong, right = (int(count or 0) for count in read(graded)[0])
    alarm = risk_alarm(wrong, right, promise.limit, _FALSE_ALARMS)
    return None if alarm is None else (key, replace(alarm, version=promise.version, raised_by=whoami()))


def _stored_key(read: Read, promise: _Promise) -> tuple[str, ProfileKey] | None:
    """The key that a decision names in words, as it is stored."""
    stored = read(select(PROFILES.c.key).where(PROFILES.c.version == promise.version))
    keys = ((row.key, key_of(row.key)) for row in stored)
    return next(((row, key) for row, key in keys if key is not None and stored_key(str(key)) == promise.key), None)


def tell(database: Database, decision_id: str, *, correct: bool | None, draft_correct: bool | None) -> None:
    """Store feedback, and hold it against what was promised of drafts; a warning tells where that is not possible.

    Raises:
        RegistryError: the database cannot be written; nothing is tried again.
        ValueError: nothing is said, or of nothing that is an id.
    """
    said = feedback(decision_id, time.time(), correct=correct, draft_correct=draft_correct)
    own = with_limited_waits(copy.copy(database))
    try:
        if store(own, Batch(feedback=[row_of(said, texts=False)])).refused:
            raise RegistryError(f"{own.url}: the database does not take feedback about {decision_id!r}")
        _look(own, decision_id)
    finally:
        own.close()


def _look(database: Database, decision_id: str) -> None:
    try:
        with waiting_at_most(_SECONDS_OF_LOOK):
            check_promises(database, [decision_id])
    except RegistryError as error:
        # Nothing is lost: the next feedback is looked at together with this one.
        logger.warning("the feedback is stored, but not yet held against what was promised of drafts: %s", error)
