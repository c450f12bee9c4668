"""Every key of a registry at one moment: what is active, what waits, and what is wrong with it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import select

from ..calibration.key import ProfileKey
from ..calibration.profile import CalibrationProfile
from ..errors import RegistryDamaged
from ..storage import Database, Read
from .tables import ALARMS, KEYS, PROFILES, PROMOTIONS
from .versions import PROVENANCE, StoredVersion, active_rows, key_of, profile_of


@dataclass(frozen=True)
class KeyOverview:
    """One key with its versions.

    Attributes:
        key: None for one that this release cannot read.
        name: The key in words, or as it is stored where it cannot be read.
        active_version: None where there are candidates only.
        active: The active profile; None where there is none or it cannot be read.
        problem: Why the active profile cannot be read; None where it can.
        versions: The numbers of all versions, ascending.
        candidates: Those of versions after the active one that have never been active.
        alarms: How many alarms about the active version nobody has dismissed.
    """

    key: ProfileKey | None
    name: str
    active_version: int | None
    active: CalibrationProfile | None
    problem: str | None
    versions: tuple[int, ...]
    candidates: tuple[int, ...]
    alarms: int


@dataclass(frozen=True)
class StoredKey:
    """One key, without what its profiles say.

    Attributes:
        key: The key.
        active_version: None where there are candidates only.
        versions: The numbers of all versions, ascending.
        candidates: Those of versions after the active one that have never been active.
    """

    key: ProfileKey
    active_version: int | None
    versions: tuple[int, ...]
    candidates: tuple[int, ...]


def stored_keys(database: Database) -> Sequence[StoredKey]:
    """Every key that has a version and can be read; its profiles need not. Raises as :func:`overview`."""
    with database.reading() as read:
        numbers = _numbers(read)
    return [StoredKey(key, *of) for canonical, of in numbers.items() if (key := key_of(canonical)) is not None]


def overview(database: Database) -> Sequence[KeyOverview]:
    """Every key that has a version, ordered by key; one that cannot be read hides no other.

    Raises:
        RegistryUnavailable, RegistryDamaged, SchemaMismatch: the database cannot be read, is no registry, or has the
            tables of another release.
    """
    with database.reading() as read:
        numbers = _numbers(read)
        bodies = {row.key: row for row in active_rows(read)}
        raised = read(select(ALARMS.c.key, ALARMS.c.version).where(ALARMS.c.dismissed_at.is_(None)))
    alarms = Counter((row.key, row.version) for row in raised)
    found = []
    for canonical, (active, versions, candidates) in numbers.items():
        key = key_of(canonical)
        profile, problem = None, None
        if canonical in bodies:
            try:
                profile = profile_of(bodies[canonical], database.url.shown)
            except RegistryDamaged as error:
                problem = str(error)
        found.append(
            KeyOverview(
                key=key,
                name=canonical if key is None else str(key),
                active_version=active,
                active=profile,
                problem=problem,
                versions=versions,
                candidates=candidates,
                alarms=alarms[canonical, active],
            )
        )
    return sorted(found, key=lambda one: one.name)


def _numbers(read: Read) -> Mapping[str, tuple[int | None, tuple[int, ...], tuple[int, ...]]]:
    """Of every key that has a version its active one, all of them, and the candidates."""
    active = {row.key: row.active_version for row in read(select(KEYS.c.key, KEYS.c.active_version))}
    promoted = {(row.key, row.to_version) for row in read(select(PROMOTIONS.c.key, PROMOTIONS.c.to_version))}
    versions: defaultdict[str, list[int]] = defaultdict(list)
    for row in read(select(PROFILES.c.key, PROFILES.c.version).order_by(PROFILES.c.key, PROFILES.c.version)):
        versions[row.key].append(row.version)
    return {
        key: (
            active.get(key),
            tuple(numbers),
            tuple(n for n in numbers if n > (active.get(key) or 0) and (key, n) not in promoted),
        )
        for key, numbers in versions.items()
    }


_STATISTICS = (
    "verdict",
    "verdict_reason",
    "signal",
    "auroc",
    "auroc_interval",
    "cohens_d",
    "n_correct",
    "n_incorrect",
    "mean_correct",
    "mean_incorrect",
    "notes",
)


@dataclass(frozen=True)
class Change:
    """One thing that is another in the second version.

    Attributes:
        name: What; its parts are joined by dots (``thresholds.bayes``, ``settings.alpha``).
        before: In the first version; None: not there.
        after: In the second.
        difference: By how much it went up, of numbers.
        relative: The same as a share of the first, where that is not 0.
    """

    name: str
    before: object
    after: object
    difference: float | None = None
    relative: float | None = None


@dataclass(frozen=True)
class ProfileDiff:
    """What differs between two versions of a key.

    Attributes:
        key: The key.
        before: The first version.
        after: The second.
        changes: What is another, in the order of importance; provenance last.
    """

    key: ProfileKey
    before: int
    after: int
    changes: tuple[Change, ...]

    def as_dict(self) -> dict[str, object]:
        """The same as plain data, fit for JSON."""
        changes = [asdict(change) for change in self.changes]
        return {"key": str(self.key), "before": self.before, "after": self.after, "changes": changes}


def diff_versions(before: StoredVersion, after: StoredVersion) -> ProfileDiff:
    """What differs between two versions of a key."""
    first, second = _facts(before), _facts(after)
    names = list(dict.fromkeys([*first, *second]))
    changes = [
        _change(name, first.get(name), second.get(name)) for name in names if first.get(name) != second.get(name)
    ]
    return ProfileDiff(after.profile.key, before.version, after.version, tuple(changes))


def _facts(stored: StoredVersion) -> Mapping[str, object]:
    profile = stored.profile
    facts: dict[str, object] = {}
    for method, threshold in profile.thresholds.items():
        facts[f"thresholds.{method}"] = threshold.value
        facts[f"thresholds.{method}.reason"] = threshold.reason
        facts[f"thresholds.{method}.interval"] = _plain(threshold.interval)
    facts |= {name: _plain(getattr(profile, name)) for name in _STATISTICS}
    facts["abstain"] = profile.abstain.value if profile.abstain else None
    settings = profile.settings.model_dump(mode="json") if profile.settings else {}
    facts |= {f"settings.{name}": value for name, value in settings.items()}
    return facts | {name: _plain(getattr(stored, name)) for name in PROVENANCE}


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return value.isoformat() if hasattr(value, "isoformat") else value


def _change(name: str, before: object, after: object) -> Change:
    if not isinstance(before, (int, float)) or not isinstance(after, (int, float)):
        return Change(name, before, after)
    difference = after - before
    return Change(name, before, after, difference, difference / abs(before) if before else None)
