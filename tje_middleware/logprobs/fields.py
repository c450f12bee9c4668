"""Reading fields of payloads, which are objects where they come from an SDK and dicts where they come over HTTP."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter, itemgetter
from typing import Any, TypeGuard

from ..errors import TjeError, UnreadableLogprobs

_ATOMS = (str, bytes, int, float, bool, type(None))
_NO_LISTS = (str, bytes, bytearray, memoryview, range)
_FIELD_NAME = re.compile(r"[A-Za-z_][\w.-]{0,39}")


def field(source: object, *names: str) -> object | None:
    """The first of the named fields that is there and not None."""
    if isinstance(source, _ATOMS):
        return None
    for name in names:
        value: object = source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
        if value is not None:
            return value
    return None


def has(source: object, *names: str) -> bool:
    """Whether one of the named fields exists, if only as None."""
    if isinstance(source, _ATOMS):
        return False
    if isinstance(source, Mapping):
        return any(name in source for name in names)
    return any(hasattr(source, name) for name in names)


def getter(example: object, name: str) -> Callable[[Any], Any]:
    """A fast reader of one field for items that are all like the example."""
    return itemgetter(name) if isinstance(example, Mapping) else attrgetter(name)


def is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
    """Whether the value is a list, a tuple or a container of that kind (protobuf's, vLLM's); a string is an atom."""
    return isinstance(value, (list, tuple)) or (isinstance(value, Sequence) and not isinstance(value, _NO_LISTS))


def text_of(value: object) -> str | None:
    """The text of a message's content: a string, or the text parts of a list of content blocks."""
    if isinstance(value, str):
        return value
    if is_sequence(value):
        parts = [part if isinstance(part, str) else field(part, "text") for part in value]
        return "".join(part for part in parts if isinstance(part, str))
    return None


def describe(value: object) -> str:
    """A value's class and size or field names, for an error message; never its contents."""
    name = type(value).__name__
    kind = f"an {name}" if name[0] in "AEIOaeio" else f"a {name}"
    if isinstance(value, Mapping):
        # The keys of {token: logprob} spell the answer, which must not get into a message.
        if value and all(isinstance(item, (int, float)) or has(item, "logprob") for item in value.values()):
            return f"{kind} of {len(value)} numbers"
        return f"{kind} with the keys {_listing(map(str, value))}"
    if is_sequence(value):
        return f"{kind} of {len(value)}" + (f", the first being {describe(value[0])}" if value else "")
    if isinstance(value, _ATOMS):
        return kind
    names = [name for name in getattr(value, "__dict__", {}) if not name.startswith("_")]
    return f"{kind} with the fields {_listing(names)}" if names else kind


def _listing(names: Iterable[str], most: int = 8) -> str:
    # A key that does not look like a field's name may be text of the user.
    shown = [
        name if _FIELD_NAME.fullmatch(name) else "(no name)" for _, name in zip(range(most + 1), names, strict=False)
    ]
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "") if shown else "(none)"


@contextmanager
def reading(payload: object) -> Iterator[None]:
    """Turn any error that a payload's own code raises while it is read into UnreadableLogprobs."""
    try:
        yield
    except TjeError:
        raise
    except Exception as error:
        raise UnreadableLogprobs(f"reading {_safely_described(payload)} failed: {type(error).__name__}") from error


def _safely_described(payload: object) -> str:
    try:
        return describe(payload)
    except Exception:
        return f"a {type(payload).__name__}"
