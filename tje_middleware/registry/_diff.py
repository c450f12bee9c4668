"""What differs between two versions of a key, as far as a person decides by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ..keys import ProfileKey
from ..profile import CalibrationProfile
from ._versions import StoredVersion

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
_PROVENANCE = ("put_at", "put_by", "source", "library_version", "records_fingerprint")


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


def diff(before: StoredVersion, after: StoredVersion) -> ProfileDiff:
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
    facts |= _settings(profile)
    return facts | {name: _plain(getattr(stored, name)) for name in _PROVENANCE}


def _settings(profile: CalibrationProfile) -> dict[str, object]:
    settings = profile.settings.model_dump(mode="json") if profile.settings else {}
    return {f"settings.{name}": value for name, value in settings.items()}


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return value.isoformat() if hasattr(value, "isoformat") else value


def _change(name: str, before: object, after: object) -> Change:
    if not isinstance(before, (int, float)) or not isinstance(after, (int, float)):
        return Change(name, before, after)
    difference = after - before
    return Change(name, before, after, difference, difference / abs(before) if before else None)
