"""Parsing profiles: what takes longest about reading many again, and is not needed where they are as they were."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from ..profile import CalibrationProfile
from . import _versions


class Parsing:
    """Parses the profiles of rows; one whose text is the same as the last time is taken from memory."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, CalibrationProfile]] = {}

    def profile_of(self, row: Row[Any], shown: str) -> CalibrationProfile:
        """The profile that a row of ``tje_profiles`` holds.

        Args:
            row: The row.
            shown: The database, for an error.

        Raises:
            RegistryDamaged: it cannot be read.
        """
        last = self._last.get(row.key)
        if last is not None and last[0] == row.body:
            return last[1]
        profile = _versions.profile_of(row, shown)
        self._last[row.key] = row.body, profile
        return profile
