"""The registry: profiles under their keys, versioned, shared by processes and machines."""

from ._alarms import StoredAlarm, store_alarm
from ._diff import Change, ProfileDiff
from ._doctor import Finding, examine
from ._importing import ImportedVersion, ImportReport, OtherActive
from ._overview import KeyOverview, StoredKey, overview, stored_keys
from ._promoting import Promotion, active_before
from ._registry import CalibrationRegistry
from ._versions import StoredVersion

__all__ = [
    "CalibrationRegistry",
    "Change",
    "Finding",
    "ImportReport",
    "ImportedVersion",
    "KeyOverview",
    "OtherActive",
    "ProfileDiff",
    "Promotion",
    "StoredAlarm",
    "StoredKey",
    "StoredVersion",
    "active_before",
    "examine",
    "overview",
    "store_alarm",
    "stored_keys",
]
