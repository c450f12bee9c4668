"""Keys as they are stored, read back."""

from __future__ import annotations

from functools import lru_cache

from pydantic import ValidationError

from ..calibration.key import ProfileKey


@lru_cache(maxsize=4_096)
def key_of(canonical: str) -> ProfileKey | None:
    """The key that is stored so; None for one of another release. Each is read once, however often it is met."""
    try:
        return ProfileKey.model_validate_json(canonical)
    except ValidationError:
        return None
