"""Which version is active: promoted, rolled back, and written down each time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, select

from ..calibration.key import ProfileKey
from ..errors import RegistryError, StalePromotion
from ..storage import Read
from .lookup import counted, no_profile, no_version
from .tables import ALARMS, PROFILES, PROMOTIONS
from .versions import (
    canonical_key,
    held_numbers,
    hold_numbers,
    log_promotion,
    profile_of,
    reader,
    version_numbers,
    version_row,
)


@dataclass(frozen=True)
class Promotion:
    """One change of the active version.

    Attributes:
        from_version: What was active before; None: nothing.
        to_version: What is since; None: nothing.
        action: ``put``, ``promote``, ``rollback``, ``import``, ``delete`` or ``migrate``.
        at: When.
        by: Who.
    """

    from_version: int | None
    to_version: int | None
    action: str
    at: datetime
    by: str


def promote_version(
    connection: Connection, key: ProfileKey, version: int, *, replacing: int | None, by: str, shown: str
) -> None:
    """Make a version the active one; raises as ``CalibrationRegistry.promote``, and where it cannot be read."""
    there = _versions(connection, key, shown)
    if version not in there:
        raise no_version(key, version, there, shown)
    _activate(connection, key, version, "promote", replacing=replacing, by=by, shown=shown)


def roll_back(connection: Connection, key: ProfileKey, *, replacing: int | None, by: str, shown: str) -> int:
    """Make the version active that was so before the active one; returns it. A second one goes one further back.

    Raises as ``CalibrationRegistry.rollback``, and where the version cannot be read.
    """
    there = _versions(connection, key, shown)
    _, now_active = held_numbers(connection, canonical_key(key))
    before = active_before(promotion_log(reader(connection), key), now_active, there)
    if before is None:
        _refuse_stale(key, now_active, replacing, shown)
        first = (
            "no version was active" if now_active is None else f"nothing is further back than version {now_active}"
        )
        raise RegistryError(
            f"{shown} has nothing to go back to for {key}: {first}; it has {counted(there)}: promote one"
        )
    _activate(connection, key, before, "rollback", replacing=replacing, by=by, shown=shown)
    return before


def active_before(log: Sequence[Promotion], now_active: int | None, there: Collection[int]) -> int | None:
    """The version to go back to: of those that are there, the one that was active before this one was promoted.

    One that was rolled back is none of them.
    """
    before = [version for version in _undoable(log) if version in there]
    while before and before[-1] == now_active:
        before.pop()
    return before[-1] if before else None


def remove_versions(connection: Connection, key: ProfileKey, by: str) -> int:
    """Remove all versions of a key with the alarms about them; returns how many versions there were."""
    canonical = canonical_key(key)
    removed = connection.execute(delete(PROFILES).where(PROFILES.c.key == canonical)).rowcount
    if removed:
        connection.execute(delete(ALARMS).where(ALARMS.c.key == canonical))
        last, before = held_numbers(connection, canonical)
        hold_numbers(connection, canonical, last=last, active=None)
        log_promotion(connection, canonical, before, None, "delete", by)
    return removed


def promotion_log(read: Read, key: ProfileKey) -> Sequence[Promotion]:
    """What was active when, oldest first."""
    wanted = select(PROMOTIONS).where(PROMOTIONS.c.key == canonical_key(key)).order_by(PROMOTIONS.c.id)
    return [Promotion(row.from_version, row.to_version, row.action, row.at, row.by) for row in read(wanted)]


def _versions(connection: Connection, key: ProfileKey, shown: str) -> Sequence[int]:
    """The versions of a key that has some."""
    read = reader(connection)
    if there := version_numbers(read, key):
        return there
    raise no_profile(read, key, shown)


def _activate(
    connection: Connection, key: ProfileKey, version: int, action: str, *, replacing: int | None, by: str, shown: str
) -> None:
    canonical = canonical_key(key)
    last, before = held_numbers(connection, canonical)
    _refuse_stale(key, before, replacing, shown)
    row = version_row(reader(connection), key, version)
    assert row is not None
    profile_of(row, shown)  # what cannot be read would leave every gate without a profile
    if version != before:
        hold_numbers(connection, canonical, last=last, active=version)
        log_promotion(connection, canonical, before, version, action, by)


def _refuse_stale(key: ProfileKey, now_active: int | None, replacing: int | None, shown: str) -> None:
    if replacing is not None and replacing != (now_active or 0):
        raise StalePromotion(
            f"{shown}: version {replacing} of {key} was to be replaced, and "
            f"{f'version {now_active} is' if now_active else 'none is'} active: look again, then decide anew"
        )


def _undoable(log: Sequence[Promotion]) -> list[int]:
    """The versions that were active, in the order in which rolling back goes along them from the end."""
    versions: list[int] = []
    for one in log:
        if one.action == "rollback":
            while versions and versions[-1] != one.to_version:
                versions.pop()
        elif one.to_version is not None and one.to_version not in versions[-1:]:
            versions.append(one.to_version)
    return versions
