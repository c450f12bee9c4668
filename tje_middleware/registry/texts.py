"""Texts that a registry may keep: every database can store them, and no terminal that shows them obeys them."""

from __future__ import annotations

import re

from ..calibration.key import ProfileKey
from ..errors import RegistryError

# PostgreSQL's indexes take no more than about 2,700 bytes of a text.
_MOST_BYTES = 2000
# Characters that are not written but do something: control characters, ends of lines, and those that turn the
# direction of what follows.
_ACTING = "\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
ACTING = re.compile(rf"[\x00-\x1f{_ACTING}]")
# The same in JSON as pydantic writes it, where texts may have line breaks and tabs.
_ACTING_IN_JSON = re.compile(rf"[{_ACTING}]|(?<!\\)(?:\\\\)*\\(?:[bfr]|u00[01])")


def storable(what: str, value: str) -> str:
    """A name that every database can keep, and find again.

    Raises:
        RegistryError: it is empty, too long, or has characters that cannot be stored or shown.
    """
    if not value:
        raise RegistryError(f"{what} is empty")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise RegistryError(f"{what} is no text that can be stored: {value!r}") from None
    if ACTING.search(value):
        raise RegistryError(f"{what} has a control character: {value!r}")
    if size > _MOST_BYTES:
        raise RegistryError(
            f"{what} has {size:,} bytes, and at most {_MOST_BYTES:,} can be looked up: shorten it ({value[:40]!r}...)"
        )
    return value


def storable_key(key: ProfileKey) -> str:
    """A key as the database knows it.

    Raises:
        RegistryError: one of its names, or all of it, is none that can be stored.
    """
    storable("the model's name", key.model)
    storable("the task's name", key.task)
    storable("the signal's name", key.signal)
    if key.prompt_fingerprint:
        storable("the prompt's fingerprint", key.prompt_fingerprint)
    return storable("the key", key.model_dump_json())


def acts(document: str) -> bool:
    """Whether a text in a JSON document of pydantic's would be obeyed by a terminal."""
    return _ACTING_IN_JSON.search(document) is not None


def shown(text: str) -> str:
    """A text of somebody else's as it may be shown."""
    return ACTING.sub(" ", text)
