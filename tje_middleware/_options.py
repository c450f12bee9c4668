"""Options that are given as one of a few words."""

from __future__ import annotations


def require_one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    """Refuse an option that does not exist.

    Raises:
        ValueError: the message names those that do.
    """
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {described(value)}")


def described(value: object) -> str:
    """What was given in the place of something else, for an error: models print their keys, and errors are logged.

    Example:
        >>> described("gpt-4o"), described(print), described({"api_key": "secret"})
        ("'gpt-4o'", 'print', 'a dict')
    """
    if value is None or isinstance(value, (str, int, float, bool)):
        return repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else f"a {type(value).__name__}"
