"""Alarms in the database: each is about one version of a key, and holds until somebody dismisses it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from .._process import whoami
from ..calibration.key import ProfileKey
from ..calibration.profile import Alarm
from ..errors import RegistryDamaged, RegistryError
from ..storage import Database, Read
from .aliases import key_behind
from .tables import ALARMS, storable
from .tables import shown as showable
from .versions import canonical_key, changing, key_of, reader, version_row


@dataclass(frozen=True)
class StoredAlarm:
    """An alarm of a registry.

    Attributes:
        key: Of the profile.
        alarm: The alarm.
        dismissed_at: When somebody decided that it holds no more; None: it holds.
        dismissed_by: Who.
    """

    key: ProfileKey
    alarm: Alarm
    dismissed_at: datetime | None = None
    dismissed_by: str | None = None


def store_alarm(database: Database, key: ProfileKey, alarm: Alarm) -> bool:
    """Store an alarm about a version of a key; False where one of its kind holds already, as of another replica.

    Raises:
        RegistryError: it is about no version, or about one that there is not; or the database cannot be written.
    """
    with changing(database) as connection:
        return _store(connection, key, alarm, database.url.shown)


def _store(connection: Connection, key: ProfileKey, alarm: Alarm, shown: str) -> bool:
    if alarm.version is None:
        raise RegistryError("an alarm about a profile that was not stored cannot be stored: it names no version")
    read = reader(connection)
    named = key_behind(read, key)
    for candidate in [key, *([named] if named else [])]:
        if version_row(read, candidate, alarm.version):
            break
    else:
        raise RegistryError(
            f"{shown} has no version {alarm.version} of a profile for {key}: the alarm was not stored"
        )
    about = {"key": canonical_key(candidate), "version": alarm.version, "kind": alarm.kind}
    if read(select(ALARMS.c.id).filter_by(**about, dismissed_at=None).limit(1)):
        return False
    # JSON has no other numbers.
    evidence = {name: number for name, number in alarm.evidence.items() if math.isfinite(number)}
    connection.execute(
        insert(ALARMS).values(
            **about,
            detail=showable(alarm.detail),
            evidence=json.dumps(evidence),
            raised_at=alarm.raised_at,
            raised_by=showable(alarm.raised_by or whoami()),
        )
    )
    return True


def dismiss_alarms(connection: Connection, key: ProfileKey, by: str) -> int:
    """Have the alarms about a key hold no more; returns how many did."""
    holding = update(ALARMS).where(ALARMS.c.key == canonical_key(key), ALARMS.c.dismissed_at.is_(None))
    now = {"dismissed_at": datetime.now(timezone.utc), "dismissed_by": storable("by", by)}
    return connection.execute(holding.values(now)).rowcount


def holding(read: Read, key: ProfileKey, shown: str = "the registry") -> Sequence[Alarm]:
    """The alarms about a key that nobody has dismissed, newest first; RegistryDamaged where one cannot be read."""
    wanted = select(ALARMS).where(ALARMS.c.key == canonical_key(key), ALARMS.c.dismissed_at.is_(None))
    return [alarm_of(row, shown) for row in read(wanted.order_by(ALARMS.c.id.desc()))]


def stored_alarms(
    read: Read, shown: str, key: ProfileKey | None = None, *, dismissed: bool = False
) -> Sequence[StoredAlarm]:
    """As :func:`holding`, of one key or all with the keys, and by choice with those that were dismissed."""
    wanted = select(ALARMS).order_by(ALARMS.c.id.desc())
    if key is not None:
        wanted = wanted.where(ALARMS.c.key == canonical_key(key))
    if not dismissed:
        wanted = wanted.where(ALARMS.c.dismissed_at.is_(None))
    return [
        StoredAlarm(of, alarm_of(row, shown), row.dismissed_at, row.dismissed_by)
        for row in read(wanted)
        if (of := key_of(row.key)) is not None
    ]


def alarm_of(row: Row[Any], shown: str) -> Alarm:
    """The alarm that a row of ``tje_alarms`` holds.

    Raises:
        RegistryDamaged: it cannot be read.
    """
    try:
        evidence = {str(name): float(number) for name, number in json.loads(row.evidence).items()}
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise RegistryDamaged(
            f"{shown} holds an alarm that cannot be read (number {row.id}, about version {row.version} of "
            f"{row.key}): its evidence is damaged ({error}); dismiss the alarms about that key"
        ) from error
    told = {name: getattr(row, name) for name in ("kind", "detail", "version", "raised_at", "raised_by")}
    return Alarm(**told, evidence=evidence)
