"""Options that are given as one of a few words."""

from __future__ import annotations


def require_one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuse an option that does not exist.

    Raises:
        ValueError: the message names those that do.
    """
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
