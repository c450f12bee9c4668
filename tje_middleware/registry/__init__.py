"""The registry: profiles under their keys, versioned, shared by processes and machines."""

from .alarms import StoredAlarm, store_alarm
from .overviews import Change, KeyOverview, ProfileDiff, StoredKey, overview, stored_keys
from .promotions import Promotion, active_before
from .registry import CalibrationRegistry
from .transfer import ImportedVersion, ImportReport, OtherActive
from .versions import StoredVersion

__all__ = [
    "CalibrationRegistry",
    "Change",
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
    "overview",
    "store_alarm",
    "stored_keys",
]
