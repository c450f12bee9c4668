"""The registry: profiles under their keys, versioned, shared by processes and machines."""

from ._alarms import StoredAlarm
from ._diff import Change, ProfileDiff
from ._importing import ImportedVersion, ImportReport
from ._promoting import Promotion
from ._registry import CalibrationRegistry
from ._versions import StoredVersion

__all__ = [
    "CalibrationRegistry",
    "Change",
    "ImportReport",
    "ImportedVersion",
    "ProfileDiff",
    "Promotion",
    "StoredAlarm",
    "StoredVersion",
]
