"""CalibrationRecord: one labelled draft, on disk and in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    StrictBool,
    model_validator,
)

from ..errors import CalibrationError, UnreadableLogprobs
from ..logprobs import SequenceLogprobs, parse_logprobs
from ..signals import measure

_RAW_FIELDS = ("top_logprobs", "token_texts", "sampled_logprobs")
#: The field on disk that says of each position whether the provider marked it as thinking.
MARKS = "marked_thinking"


def _refuse_truth(value: object) -> object:
    if isinstance(value, bool | str):
        kind = "text" if isinstance(value, str) else "true or false"
        raise ValueError(f"a signal is a number, not {kind}")  # noqa: TRY004 (pydantic reads ValueError)
    return value


#: A finite number; true, false and texts, which pydantic would take for numbers, are refused.
SignalValue = Annotated[FiniteFloat, BeforeValidator(_refuse_truth)]

# More than any model writes, and small enough to be added up.
Tokens = Annotated[NonNegativeInt, Field(le=10**12)]
# numpy's and pandas' booleans are labels too; 0, 1 and "yes" could mean anything.
Label = Annotated[StrictBool, BeforeValidator(lambda value: bool(value) if isinstance(value, np.bool_) else value)]


class CalibrationRecord(BaseModel):
    """One labelled observation: a draft's signals or raw logprobs, and whether it was correct.

    On disk the raw logprobs stand as ``top_logprobs`` (positions x alternatives, natural log), with optional
    ``token_texts``, ``sampled_logprobs`` and ``marked_thinking``; in memory they are ``sequence``.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, arbitrary_types_allowed=True)

    id: str | None = Field(default=None, coerce_numbers_to_str=True)
    correct: Label
    tokens: Tokens | None = Field(default=None, description="Completion tokens of the draft.")
    signals: dict[str, SignalValue] = Field(default_factory=dict)
    sequence: SequenceLogprobs | None = Field(default=None, exclude=True, repr=False)
    deeper_correct: Label | None = Field(default=None, description="Whether the deeper branch was correct.")
    deeper_tokens: Tokens | None = Field(default=None, description="Completion tokens of the deeper branch.")

    @model_validator(mode="before")
    @classmethod
    def _read_raw_logprobs(cls, data: Any) -> Any:  # noqa: ANN401 (pydantic hands over whatever came)
        if isinstance(data, Mapping) and data.get("top_logprobs") is not None:
            rest = {name: value for name, value in data.items() if name not in _RAW_FIELDS}
            raw = {name: data[name] for name in _RAW_FIELDS if data.get(name) is not None}
            return {**rest, "sequence": _marked(parse_logprobs(raw), data.get(MARKS))}
        return data

    def value(self, signal: str, top_k: int) -> float:
        """The signal of this draft over ``top_k`` alternatives a position, in the signal's unit.

        Raises:
            CalibrationError: the record has neither this signal nor logprobs, or fewer alternatives.
            SignalError: the signal cannot be computed from these logprobs.
        """
        if signal in self.signals:
            return self.signals[signal]
        if self.sequence is None:
            known = ", ".join(sorted(self.signals)) or "none"
            raise CalibrationError(f"no signal {signal!r} (there: {known}) and no logprobs to compute it from")
        if self.sequence.top_k < top_k:
            raise CalibrationError(
                f"{self.sequence.top_k} alternatives a position, but the key says top_k={top_k}: ask the provider "
                f"for top_logprobs={top_k}, or calibrate on fewer: ProfileKey(top_k={self.sequence.top_k}), or "
                f"--top-k {self.sequence.top_k}"
            )
        return measure(signal, self.sequence.truncated(top_k))


def _marked(sequence: SequenceLogprobs, marks: object) -> SequenceLogprobs:
    if marks is None:
        return sequence
    # parse_logprobs leaves out an end-of-turn token, so there may be one mark more than positions.
    fitting = isinstance(marks, list) and 0 <= len(marks) - len(sequence) <= 1
    if not isinstance(marks, list) or not fitting or not all(isinstance(mark, bool) for mark in marks):
        raise UnreadableLogprobs(f"{MARKS} must be true or false for each of the {len(sequence)} positions")
    return replace(sequence, marked_thinking=np.array(marks[: len(sequence)], dtype=np.bool_))
