"""A record as plain fields, as files hold it: raw logprobs are lists of numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from pydantic import ValidationError

from ..errors import CalibrationError, TjeError
from ..logprobs import SequenceLogprobs
from ..logprobs.sequence import ZERO_PROBABILITY
from .record import MARKS, CalibrationRecord

_PLACE = re.compile(r" at line \d+ column (\d+)$")
_LONGEST = 20
_NO_JSON_NUMBERS = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def to_fields(record: CalibrationRecord) -> dict[str, Any]:
    """The record's fields as they are written; fields at their defaults are left out.

    Raises:
        CalibrationError: the record has neither signals nor logprobs, and could not be read back.
    """
    sequence = record.sequence if record.sequence is not None and len(record.sequence) else None
    refuse_empty(record.signals, sequence)
    fields = record.model_dump(exclude_defaults=True)
    return fields if sequence is None else {**fields, **_logprob_fields(sequence)}


def from_fields(fields: object) -> CalibrationRecord:
    """The record that these fields describe.

    Raises:
        pydantic.ValidationError: a field is missing or wrong.
        TjeError: there are neither signals nor logprobs, or ``marked_thinking`` is not one truth value a position.
    """
    record = CalibrationRecord.model_validate(fields)
    refuse_empty(record.signals, record.sequence)
    return record


def refuse_empty(signals: Mapping[str, float], sequence: SequenceLogprobs | None) -> None:
    """Refuse a record that nothing can be calibrated from."""
    if not signals and sequence is None:
        raise CalibrationError("neither signals nor logprobs (top_logprobs) are there: one of them is needed")


def fault(error: ValidationError | TjeError) -> str:
    """The first thing wrong, as "field: reason", and how many more there are."""
    if not isinstance(error, ValidationError):
        return str(error)
    first, *others = error.errors(include_url=False)
    more = f" (and {len(others)} more)" if others else ""
    return _reason(first) + more


def encoding_fault(line: bytes) -> str | None:
    """Why the bytes of a line are not UTF-8; None where they are."""
    if line.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "not UTF-8 but UTF-16: save the file as UTF-8"
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8: the byte 0x{line[error.start]:02x} at column {error.start + 1}"
    return None


def _logprob_fields(sequence: SequenceLogprobs) -> dict[str, Any]:
    top = sequence.top_logprobs
    ends = top.shape[1] - np.argmax(top[:, ::-1] > -np.inf, axis=1)
    # One position is written in full, so that reading finds as many alternatives as there were.
    ends[0] = top.shape[1]
    rows = _finite(top).tolist()
    fields: dict[str, Any] = {"top_logprobs": [row[:end] for row, end in zip(rows, ends.tolist(), strict=True)]}
    if sequence.tokens is not None:
        fields["token_texts"] = list(sequence.tokens)
    if sequence.sampled_logprobs is not None:
        fields["sampled_logprobs"] = _finite(sequence.sampled_logprobs).tolist()
    if sequence.marked_thinking is not None:
        fields[MARKS] = sequence.marked_thinking.tolist()
    return fields


def _finite(logprobs: np.typing.NDArray[np.float64]) -> np.typing.NDArray[np.float64]:
    """Logprobs with -9999.0 in place of -inf, as JSON has no infinity; providers write zero probabilities so."""
    return np.where(logprobs == -np.inf, ZERO_PROBABILITY, logprobs)


@contextmanager
def needing_pyarrow(name: str) -> Iterator[None]:
    """Say what to install where pyarrow is missing."""
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
    # Of "Input should be a valid number, unable to parse ..." only "a valid number" is shown.
    needed = error["msg"].removeprefix("Input should be ").partition(",")[0]
    needed = "true or false" if kind.startswith("bool") else needed.replace("a valid dictionary", "an object")
    return f"{name}: must be {needed}, not {_shown(error['input'])}"


def _no_json(reason: str) -> str:
    if reason.startswith("EOF"):
        what = _PLACE.sub("", reason).removeprefix("EOF ")
        return f"not JSON: the line ends {what} (a record stands on one line)"
    return _PLACE.sub(r" at column \1", f"not JSON: {reason}")


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
