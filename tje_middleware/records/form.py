"""The form of a record on disk: fields by name, raw logprobs as plain lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import CalibrationError
from ..logprobs import SequenceLogprobs
from ..logprobs.sequence import ZERO_PROBABILITY
from ..record import MARKS, CalibrationRecord


def to_fields(record: CalibrationRecord) -> dict[str, Any]:
    """What stands on disk for this record; fields that say nothing are left out.

    Raises:
        CalibrationError: the record has neither signals nor logprobs, so that it could not be read back.
    """
    sequence = record.sequence if record.sequence is not None and len(record.sequence) else None
    refuse_empty(record.signals, sequence)
    fields = record.model_dump(exclude_defaults=True)
    return fields if sequence is None else {**fields, **_logprob_fields(sequence)}


def from_fields(fields: object) -> CalibrationRecord:
    """The record that these fields describe.

    Raises:
        pydantic.ValidationError: a field is missing or wrong.
        TjeError: there are neither signals nor logprobs, or the marks of thinking are no marks.
    """
    record = CalibrationRecord.model_validate(fields)
    refuse_empty(record.signals, record.sequence)
    return record


def refuse_empty(signals: Mapping[str, float], sequence: SequenceLogprobs | None) -> None:
    """Refuse a record that nothing can be calibrated from."""
    if not signals and sequence is None:
        raise CalibrationError("neither signals nor logprobs (top_logprobs) are there: one of them is needed")


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
    """Probabilities of zero as providers write them, for JSON has no infinity."""
    return np.where(logprobs == -np.inf, ZERO_PROBABILITY, logprobs)
