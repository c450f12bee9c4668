"""Records as rows of a Parquet table; needs pyarrow, and is imported only where such a file is read or written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from pydantic import ValidationError

from ..errors import CalibrationError, TjeError
from .form import fault, from_fields
from .record import MARKS, CalibrationRecord

_SIGNALS = "signals"
_ROWS_AT_ONCE, _RAW_ROWS_AT_ONCE = 8192, 64
# A batch is written once its rows and their positions come to this many.
_WEIGHT_AT_ONCE = 20_000
_PAGE_BYTES = 1 << 20
_NAMED = 8
_SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "correct": pa.bool_(),
        "tokens": pa.int64(),
        _SIGNALS: pa.map_(pa.string(), pa.float64()),
        "top_logprobs": pa.list_(pa.list_(pa.float64())),
        "token_texts": pa.list_(pa.string()),
        "sampled_logprobs": pa.list_(pa.float64()),
        MARKS: pa.list_(pa.bool_()),
        "deeper_correct": pa.bool_(),
        "deeper_tokens": pa.int64(),
    }
)


def read_parquet(path: str, progress: Callable[[int, int], None] | None) -> Iterator[CalibrationRecord]:
    """Read a table's records; ``read_records`` documents the arguments and errors."""
    row = 0
    try:
        # With a buffer size pyarrow reads a column page by page, and not whole.
        with pq.ParquetFile(path, buffer_size=_PAGE_BYTES, page_checksum_verification=True) as table:
            names = [name for name in table.schema_arrow.names if name in _SCHEMA.names or _is_signal(name)]
            if "correct" not in names:
                there = ", ".join(table.schema_arrow.names[:_NAMED])
                raise CalibrationError(f"{path} has no column correct (the first columns: {there})")
            at_once = _RAW_ROWS_AT_ONCE if "top_logprobs" in names else _ROWS_AT_ONCE
            for batch in table.iter_batches(at_once, columns=names):
                for fields in _rows(batch):
                    row += 1
                    yield _record(fields, f"{path}, row {row}")
                if progress is not None:
                    progress(row, table.metadata.num_rows)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0]
        place = f" beyond row {row}" if row else ""
        raise CalibrationError(f"{path} is damaged or cut off{place}: {reason}") from error
    if not row:
        raise CalibrationError(f"{path} holds no records: the table has no rows")


def write_parquet(path: str, stream: IO[bytes], rows: Iterable[dict[str, Any]]) -> None:
    """Write the fields of records as a table; signals are a map, so that records may have different ones.

    Raises:
        CalibrationError: a value has no place in a table.
    """
    with pq.ParquetWriter(stream, _SCHEMA, write_page_checksum=True) as writer:
        for batch in _batches(rows):
            try:
                table = pa.RecordBatch.from_pylist(batch, schema=_SCHEMA)
            except (pa.ArrowException, ArithmeticError, UnicodeError) as error:
                raise CalibrationError(f"{path}: a record has no place in a table: {error}") from error
            writer.write_batch(table)


def _is_signal(column: str) -> bool:
    return column == _SIGNALS or column.startswith(f"{_SIGNALS}.")


def _record(fields: dict[str, Any], place: str) -> CalibrationRecord:
    try:
        return from_fields(fields)
    except (ValidationError, TjeError) as error:
        raise CalibrationError(f"{place}: {fault(error)}") from error


def _rows(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """The fields of each row, without those that are null."""
    names = batch.schema.names
    columns = [
        _logprob_rows(column) if name == "top_logprobs" else column.to_pylist()
        for name, column in zip(names, batch.columns, strict=True)
    ]
    for values in zip(*columns, strict=True):
        fields: dict[str, Any] = {}
        signals: dict[str, Any] = {}
        for name, value in zip(names, values, strict=True):
            if value is None:
                continue
            if name == _SIGNALS:
                _add_signals(fields, signals, value)
            elif _is_signal(name):
                signals[name.removeprefix(f"{_SIGNALS}.")] = value
            else:
                fields[name] = value
        yield {_SIGNALS: signals, **fields}


def _add_signals(fields: dict[str, Any], signals: dict[str, Any], value: object) -> None:
    """Add a row's signals: pyarrow gives a dict for a struct, with nulls for missing signals, and pairs for a map."""
    try:
        signals |= {name: number for name, number in dict(value).items() if number is not None}  # type: ignore[call-overload]
    except (TypeError, ValueError):
        fields[_SIGNALS] = value  # neither of them: validating the record names the fault


def _logprob_rows(column: pa.Array) -> Iterator[object]:
    """Each row's logprobs, as an array (T, K) where all positions have K: lists would take 20 times as long."""
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        yield from column.to_pylist()
        return
    for row in column:
        positions = row.values
        yield None if positions is None else _matrix(positions)


def _matrix(positions: pa.Array) -> object:
    kind = positions.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or positions.null_count:
        return positions.to_pylist()
    numbers = positions.flatten()
    widths = positions.value_lengths().unique()
    if len(widths) != 1 or not len(numbers) or numbers.null_count or not pa.types.is_floating(numbers.type):
        return positions.to_pylist()
    return numbers.to_numpy(zero_copy_only=False).reshape(len(positions), -1)


def _batches(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    weight = 0
    for row in rows:
        batch.append({**row, _SIGNALS: list(row.get(_SIGNALS, {}).items())})
        weight += 1 + len(row.get("top_logprobs", ()))
        if weight >= _WEIGHT_AT_ONCE:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch
