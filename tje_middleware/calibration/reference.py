"""The distribution of a signal over the records of a calibration, with which live drafts are compared."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveInt, model_validator

from ..logprobs.arrays import BoolArray, FloatArray, IntArray

#: The most values that a reference keeps.
MOST_VALUES = 512
_LARGEST = float(np.finfo(np.float32).max)

_Count = Annotated[PositiveInt, Field(le=10**12)]
_Tokens = Annotated[float, Field(ge=0, le=1e12)]


def rounded(value: float) -> float:
    """A signal's value as references keep it: in single precision, about seven digits.

    Live values are compared after the same rounding, which keeps their order, so that it changes no test.
    """
    return float(np.float32(min(max(value, -_LARGEST), _LARGEST)))


class ReferenceDistribution(BaseModel):
    """Order statistics of a signal over n records, stored in the profile.

    It keeps all distinct values where there are at most 512, else 512 that are spread evenly over the ranks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    n: _Count = Field(description="Records.")
    values: tuple[FiniteFloat, ...] = Field(
        min_length=1, max_length=MOST_VALUES, description="Distinct and ascending, in the signal's unit."
    )
    ranks: tuple[_Count, ...] = Field(description="Of each value, how many records are not above it.")
    ties: tuple[_Count, ...] = Field(
        default=(), description="Of each value, how many records share it; empty: all since the value before."
    )
    deeper_tokens: tuple[_Tokens | None, ...] | None = Field(
        default=None,
        description="Of each value, mean tokens of the deeper branch over the records since the value before.",
    )
    draft_tokens: _Tokens | None = Field(default=None, description="Mean completion tokens of the drafts.")

    @model_validator(mode="after")
    def _fits_together(self) -> ReferenceDistribution:
        columns = (self.ranks, self.ties or self.ranks, self.deeper_tokens or self.ranks)
        if any(len(column) != len(self.values) for column in columns):
            raise ValueError("a reference has one rank, count of ties and of tokens for each value")
        kept = [rounded(value) for value in self.values]
        if any(b <= a for column in (kept, self.ranks) for a, b in pairwise(column)):
            raise ValueError("values and ranks of a reference ascend")
        if self.ranks[-1] != self.n:
            raise ValueError(f"the last rank of a reference is the number of its records, {self.n}")
        if any(tied > since for tied, since in zip(self.ties, self._since_the_last(), strict=False)):
            raise ValueError("more records share a value of the reference than its ranks leave room for")
        if self.ties and self.ties[0] != self.ranks[0]:
            raise ValueError("no record of a reference is below its first value")
        return self

    @property
    def tied(self) -> tuple[int, ...]:
        """Of each value, how many records share it."""
        return self.ties or self._since_the_last()

    def share_up_to(self, threshold: float) -> float:
        """The share of records up to the largest kept value that the threshold accepts."""
        accepted = [rank for value, rank in zip(self.values, self.ranks, strict=True) if _within(value, threshold)]
        return accepted[-1] / self.n if accepted else 0.0

    def expected_deeper_tokens(self, threshold: float) -> float | None:
        """Mean tokens of the deeper branch over the records that the threshold accepts.

        Where no accepted record has that number, the mean is over all records that have it; None where none has.
        """
        if self.deeper_tokens is None:
            return None
        told = [
            (value, tokens, since)
            for value, tokens, since in zip(self.values, self.deeper_tokens, self._since_the_last(), strict=True)
            if tokens is not None
        ]
        chosen = [each for each in told if _within(each[0], threshold)] or told
        weight = sum(since for _, _, since in chosen)
        return sum(tokens * since for _, tokens, since in chosen) / weight if chosen else None

    def _since_the_last(self) -> tuple[int, ...]:
        return tuple(b - a for a, b in pairwise((0, *self.ranks)))


def reference_of(
    signal: FloatArray, *, tokens: FloatArray | None = None, deeper_tokens: FloatArray | None = None
) -> ReferenceDistribution:
    """The reference of n >= 1 records.

    Args:
        signal: (n,) finite values.
        tokens: (n,) completion tokens of the drafts; None where unknown.
        deeper_tokens: (n,) of the deeper branch, NaN where unknown; None where all are.
    """
    order = np.argsort(signal, kind="stable")
    kept = np.clip(signal[order], -_LARGEST, _LARGEST).astype(np.float32)
    # The last record of each run of equal values: its place is the value's rank.
    ends = np.flatnonzero(np.append(kept[1:] != kept[:-1], True)) + 1
    chosen = np.arange(len(ends))
    if len(ends) > MOST_VALUES:
        evenly = np.linspace(1, len(kept), MOST_VALUES).round()
        chosen = np.unique(np.searchsorted(ends, evenly))
    ranks = ends[chosen]
    ties = np.diff(ends, prepend=0)[chosen]
    return ReferenceDistribution(
        n=len(kept),
        # The shortest text that single precision reads back.
        values=tuple(float(str(value)) for value in kept[ranks - 1]),
        ranks=tuple(ranks.tolist()),
        ties=tuple(ties.tolist()) if len(chosen) < len(ends) else (),
        deeper_tokens=None if deeper_tokens is None else _means_between(deeper_tokens[order], ranks),
        draft_tokens=None if tokens is None else round(float(np.mean(tokens)), 1),
    )


def fingerprint(signal: FloatArray, correct: BoolArray, *outcomes: FloatArray | BoolArray | None) -> str:
    """SHA-256 (hexadecimal) of records: the same for the same records in any order.

    Args:
        signal: (n,) the signal's values.
        correct: (n,) the labels.
        outcomes: (n,) further columns, each None where there is none.
    """
    columns = [None if each is None else each.astype("<f8") + 0.0 for each in (signal, correct, *outcomes)]
    order = np.lexsort([each for each in columns if each is not None])
    digest = hashlib.sha256(str([each is not None for each in columns]).encode())
    for each in columns:
        if each is not None:
            digest.update(each[order].tobytes())
    return digest.hexdigest()


def _within(value: float, threshold: float) -> bool:
    return rounded(value) <= rounded(threshold)


def _means_between(tokens: FloatArray, ranks: IntArray) -> tuple[float | None, ...] | None:
    """Mean tokens of the records between two ranks; NaN tokens are left out."""
    starts = np.append(0, ranks[:-1])
    told = np.isfinite(tokens)
    counts = np.add.reduceat(told, starts, dtype=np.int64)
    totals = np.add.reduceat(np.where(told, tokens, 0.0), starts)
    if not counts.any():
        return None
    return tuple(
        round(total / count, 1) if count else None
        for total, count in zip(totals.tolist(), counts.tolist(), strict=True)
    )
