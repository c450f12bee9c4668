"""Comparing feedback with a method's promise that at most a share of the accepted drafts is wrong."""

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
# A command waits this long for the comparison of its feedback, which is not tried again.
_SECONDS_OF_LOOK = 5.0
# The probability that an alarm about a promise that is kept is ever raised.
_FALSE_ALARMS = 0.01


@dataclass(frozen=True)
class _Promise:
    key: str  # in words, as decisions have it
    version: int
    limit: float


def check_promises(database: Database, decision_ids: Sequence[str]) -> None:
    """Raise an alarm about each version whose promise is broken, of those that made these decisions.

    There is one alarm for a version, until it is dismissed; after that only later feedback counts. Decisions that are
    not stored yet are ignored.

    Args:
        database: The database of the ledger and the profiles.
        decision_ids: Decisions with new feedback; no more than a batch.

    Raises:
        RegistryError: the database cannot be read or written.
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
    if stored is None:  # the profile is not in this registry, where the alarm would be seen
        return None
    canonical, key = stored
    about = (_A.key == canonical, _A.version == promise.version, _A.kind == "risk")
    dismissed = [row.dismissed_at for row in read(select(_A.dismissed_at).where(*about))]
    if None in dismissed:  # there is an alarm that was not dismissed
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
    """The key of a promise as profiles are stored under it, and the key itself; None where there is none."""
    stored = read(select(PROFILES.c.key).where(PROFILES.c.version == promise.version))
    keys = ((row.key, key_of(row.key)) for row in stored)
    return next(((row, key) for row, key in keys if key is not None and stored_key(str(key)) == promise.key), None)


def tell(database: Database, decision_id: str, *, correct: bool | None, draft_correct: bool | None) -> None:
    """Store feedback, and compare it with promises about drafts; a warning is logged where that is not possible.

    Raises:
        RegistryError: the database cannot be written; the feedback is not stored later either.
        ValueError: there is no feedback, or the id is none.
    """
    said = feedback(decision_id, time.time(), correct=correct, draft_correct=draft_correct)
    own = with_limited_waits(copy.copy(database))
    try:
        if store(own, Batch(feedback=[row_of(said, texts=False)])).refused:
            raise RegistryError(f"{own.url}: the database does not take feedback about {decision_id!r}")
        try:
            with waiting_at_most(_SECONDS_OF_LOOK):
                check_promises(own, [decision_id])
        except RegistryError as error:
            # Nothing is lost: this feedback counts when the next one is compared.
            logger.warning("the feedback is stored, but not yet held against what was promised of drafts: %s", error)
    finally:
        own.close()
