"""Files of records: read one record at a time, and written whole or not at all."""

from __future__ import annotations

import gzip
import io
import json
import os
import secrets
import stat
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO, Any

from pydantic import ValidationError

from ..errors import CalibrationError, TjeError
from .form import encoding_fault, fault, from_fields, needing_pyarrow, refuse_empty, to_fields
from .record import CalibrationRecord

Progress = Callable[[int, int], None]
STANDARD_INPUT = "-"
_GZIP, _PARQUET, _BYTE_ORDER_MARK = b"\x1f\x8b", b"PAR1", b"\xef\xbb\xbf"
_BYTES_AT_ONCE = 1 << 18
_BINARY = getattr(os, "O_BINARY", 0)  # Windows would write other line ends
_DAMAGE = (EOFError, zlib.error, OSError)  # what gzip raises of a file that was cut or changed
# As gzip itself has it; Python's own default takes nearly twice as long for one percent.
_GZIP_LEVEL = 6


def read_records(path: str | PathLike[str], *, progress: Progress | None = None) -> Iterator[CalibrationRecord]:
    """Read records lazily, one at a time; of Parquet, one batch at a time.

    The first bytes of the file, not its name, tell its format: JSON Lines in UTF-8, the same gzipped, or Parquet. A
    bad line raises when reading comes to it, after the records before it were yielded: exhaust the iterator before
    you store anything.

    Args:
        path: The file, or ``"-"`` for standard input.
        progress: Called now and then with how much was read and how much there is: in bytes of the file on disk (the
            second number is 0 where it is unknown, as of a pipe), or in rows of Parquet.

    Yields:
        Each record, with its ``sequence`` where the file holds raw logprobs.

    Raises:
        CalibrationError: the file cannot be read or holds no records, or a record is wrong; the message names the
            file, the line or row (from 1) and the reason.
    """
    with _opened(path) as (name, source, total):
        reads = _CountedReads(source, total)
        stream = io.BufferedReader(reads, _BYTES_AT_ONCE)
        with _explaining(name):
            head = stream.peek(len(_PARQUET))
        if head.startswith(_PARQUET):
            if total == 0:
                raise CalibrationError(f"{name}: Parquet is read from a file, not from a stream")
            with needing_pyarrow(name):
                from .parquet import read_parquet  # noqa: PLC0415 (an extra)
            yield from read_parquet(name, progress)
            return
        if progress is not None:
            reads.report_to(progress)
        if head.startswith(_GZIP):
            yield from _json_lines(name, io.BufferedReader(gzip.GzipFile(fileobj=stream), _BYTES_AT_ONCE))
        else:
            yield from _json_lines(name, stream)


def write_records(path: str | PathLike[str], records: Iterable[CalibrationRecord]) -> int:
    """Write records, raw logprobs included, such that ``read_records`` gives them back.

    The file appears once all records are in it; until then, and after any error, the file that was there stays.

    Args:
        path: The file; its ending tells the format: ``.parquet`` Parquet, ``.gz`` gzipped JSON Lines, any other JSON
            Lines.
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
        if error is counted.failure:  # raised by the caller's records, not by writing
            raise
        raise CalibrationError(f"{target} cannot be written: {error.strerror or error}") from error
    return counted.count


@contextmanager
def replaced(path: str | PathLike[str]) -> Iterator[IO[bytes]]:
    """A new file beside ``path`` that takes its place when the block ends well; until then the old one stays.

    Drafts may stand in it: its owner alone can read it, or whoever could read the old one.

    Raises:
        OSError: the file cannot be written.
    """
    target = Path(os.path.realpath(path))  # through a link, so that the link stays
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with os.fdopen(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY | _BINARY, 0o600), "wb") as stream:
            if target.exists() and hasattr(os, "fchmod"):
                os.fchmod(stream.fileno(), target.stat().st_mode & 0o777)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


class _CountedReads(io.RawIOBase):
    """A raw stream over a source that counts the bytes read, and reports them."""

    def __init__(self, source: io.RawIOBase | io.BufferedIOBase, total: int) -> None:
        # From a pipe take what has come; ``readinto`` of a buffered reader would wait for more.
        self._fill = source.readinto1 if isinstance(source, io.BufferedIOBase) else source.readinto
        self._done, self._total = 0, total
        self._progress: Progress | None = None

    def report_to(self, progress: Progress) -> None:
        self._progress = progress
        progress(self._done, self._total)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # never None: nothing here is non-blocking
        count = self._fill(buffer) or 0
        self._done += count
        if count and self._progress is not None:
            self._progress(self._done, self._total)
        return count


@contextmanager
def _opened(path: str | PathLike[str]) -> Iterator[tuple[str, io.RawIOBase | io.BufferedIOBase, int]]:
    """The name for messages, the bytes, and how many there are (0: unknown)."""
    if path == STANDARD_INPUT:
        yield "standard input", sys.stdin.buffer, 0  # type: ignore[misc]
        return
    name = os.fsdecode(path)
    with _explaining(name):
        source = open(name, "rb", buffering=0)  # noqa: PTH123, SIM115
    with source:
        status = os.fstat(source.fileno())
        regular = stat.S_ISREG(status.st_mode)
        if regular and not status.st_size:
            raise CalibrationError(f"{name} is empty")
        yield name, source, status.st_size if regular else 0


@contextmanager
def _explaining(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CalibrationError(f"{name} cannot be read: {error.strerror or error}") from error


def _json_lines(name: str, lines: io.BufferedReader[Any]) -> Iterator[CalibrationRecord]:
    number, found = 0, False
    try:
        if lines.peek(len(_BYTE_ORDER_MARK)).startswith(_BYTE_ORDER_MARK):
            lines.read(len(_BYTE_ORDER_MARK))
        for number, line in enumerate(lines, 1):
            if line.isspace():
                continue
            found = True
            try:
                record = _record(line)
            except (ValidationError, TjeError) as error:
                reason = encoding_fault(line) or fault(error)
                raise CalibrationError(f"{name}, line {number}: {reason}") from error
            yield record
    except _DAMAGE as error:
        # Data is unpacked ahead of the lines, so the damage may lie far behind the last line read.
        place = f" beyond line {number}" if number else ""
        raise CalibrationError(f"{name} is damaged or cut off{place}: {error}") from error
    if not found:
        raise CalibrationError(f"{name} holds no records")


def _record(line: bytes) -> CalibrationRecord:
    if b"\\u" in line:
        # A token may be half of a character beyond 16 bits, which json accepts and pydantic's JSON refuses.
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            return CalibrationRecord.model_validate_json(line)  # pydantic says what is wrong
        return from_fields(fields)
    record = CalibrationRecord.model_validate_json(line)
    refuse_empty(record.signals, record.sequence)
    return record


class _Counted:
    """Iterates over the fields of records and counts them; remembers an OSError that the caller's iterable raised."""

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
