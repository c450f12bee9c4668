"""Records to a file, whole or not at all."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import IO, Any

from .._files import replaced
from ..errors import CalibrationError
from ..record import CalibrationRecord
from .faults import needing_pyarrow
from .form import to_fields

# As gzip itself has it; Python's own default takes nearly twice as long for one percent.
_GZIP_LEVEL = 6


def write_records(path: str | PathLike[str], records: Iterable[CalibrationRecord]) -> int:
    """Write records, raw logprobs included, such that ``read_records`` gives them back.

    The file appears when all records are in it; until then, and after any error, what was there before stays.

    Args:
        path: Its ending decides: ``.parquet`` is Parquet, ``.gz`` gzipped JSON Lines, any other JSON Lines.
        records: Read one at a time; a ``sequence`` without positions is left out.

    Returns:
        How many records were written.

    Raises:
        CalibrationError: there are none, one has neither signals nor logprobs, or the file cannot be written.
    """
    target = Path(path)
    if target.is_dir():
        raise CalibrationError(f"{target} is a folder: name a file")
    counted = _Counted(records)
    try:
        with replaced(target) as stream:
            _write(target, stream, counted)
            if not counted.count:
                raise CalibrationError(f"{target} was not written: there are no records")
    except OSError as error:
        if error is counted.failure:  # what the caller's records raise is not ours to explain
            raise
        raise CalibrationError(f"{target} cannot be written: {error.strerror or error}") from error
    return counted.count


class _Counted:
    """The fields of records, counted as they pass; remembers what the caller's own iterable raised."""

    def __init__(self, records: Iterable[CalibrationRecord]) -> None:
        self._records = records
        self.count = 0
        self.failure: OSError | None = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            for record in self._records:
                self.count += 1
                yield self._fields(record)
        except OSError as error:
            self.failure = error
            raise

    def _fields(self, record: CalibrationRecord) -> dict[str, Any]:
        if not isinstance(record, CalibrationRecord):
            raise CalibrationError(f"record {self.count} is no CalibrationRecord but a {type(record).__name__}")
        try:
            return to_fields(record)
        except CalibrationError as error:
            raise CalibrationError(f"record {self.count}: {error}") from error


def _write(target: Path, stream: IO[bytes], rows: Iterable[dict[str, Any]]) -> None:
    ending = target.suffix.lower()
    if ending == ".parquet":
        with needing_pyarrow(str(target)):
            from .parquet import write_parquet  # noqa: PLC0415 (an extra)
        write_parquet(str(target), stream, rows)
    elif ending == ".gz":
        with gzip.GzipFile("", "wb", _GZIP_LEVEL, stream, mtime=0) as packed:
            _write_json_lines(packed, rows)
    else:
        _write_json_lines(stream, rows)


def _write_json_lines(stream: IO[bytes] | gzip.GzipFile, rows: Iterable[dict[str, Any]]) -> None:
    for fields in rows:
        stream.write(json.dumps(fields, allow_nan=False).encode() + b"\n")
