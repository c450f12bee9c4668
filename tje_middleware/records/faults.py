"""What is wrong with a record, in words of the person who wrote its line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from ..errors import CalibrationError, TjeError

_PLACE = re.compile(r" at line \d+ column (\d+)$")
_LONGEST = 20
_NO_JSON_NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def fault(error: ValidationError | TjeError) -> str:
    """The first thing wrong, as "field: reason", and how many more there are."""
    if not isinstance(error, ValidationError):
        return str(error)
    first, *others = error.errors(include_url=False)
    more = f" (and {len(others)} more)" if others else ""
    return _reason(first) + more


def encoding_fault(line: bytes) -> str | None:
    """What is wrong with the bytes of a line before anything is read in them; None when they are UTF-8."""
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "not UTF-8 but UTF-16: save the file as UTF-8"
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8: the byte 0x{line[error.start]:02x} at column {error.start + 1}"
    return None


@contextmanager
def needing_pyarrow(name: str) -> Iterator[None]:
    """Say what to install where the import of the Parquet half fails."""
    try:
        yield
    except ImportError as error:
        raise CalibrationError(f'{name} is Parquet, which needs: pip install "tje-middleware[parquet]"') from error


def _reason(error: Mapping[str, Any]) -> str:
    kind, name = error["type"], ".".join(map(str, error["loc"]))
    if kind == "json_invalid":
        return _no_json(str(error["ctx"]["error"]))
    if kind == "value_error":
        return f"{name or 'logprobs'}: {error['ctx']['error']}"
    if kind == "missing":
        return f"{name}: missing"
    if not name:
        return f"not an object but {_shown(error['input'])}"
    needed = "true or false" if kind.startswith("bool") else _needed(error["msg"])
    return f"{name}: must be {needed}, not {_shown(error['input'])}"


def _no_json(reason: str) -> str:
    if reason.startswith("EOF"):
        what = _PLACE.sub("", reason).removeprefix("EOF ")
        return f"not JSON: the line ends {what} (a record stands on one line)"
    return _PLACE.sub(r" at column \1", f"not JSON: {reason}")


def _needed(message: str) -> str:
    """Pydantic's "Input should be a valid number, unable to parse ..." without what the user need not know."""
    return message.removeprefix("Input should be ").partition(",")[0].replace("a valid dictionary", "an object")


def _shown(value: object) -> str:
    if isinstance(value, float) and str(value) in _NO_JSON_NUMBERS:
        return _NO_JSON_NUMBERS[str(value)]
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False) if len(value) <= _LONGEST else "a text"
    if value is None or isinstance(value, (bool, int, float)):
        return json.dumps(value)
    return (
        "an object" if isinstance(value, Mapping) else "a list" if isinstance(value, (list, tuple)) else "unreadable"
    )
