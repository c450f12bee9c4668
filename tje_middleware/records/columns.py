"""Records as columns: what calibration and evaluation compute with."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationError, SignalError, TjeError
from ..logprobs.arrays import BoolArray, FloatArray
from ..signals import AUTO, RESERVED, candidates
from .record import CalibrationRecord

# Larger values are refused: their squares would leave the range of floats.
_LARGEST_VALUE = 1e50
_NOTHING = "there are no records to calibrate from; 5 to 10 labelled drafts are a beginning"


@dataclass(frozen=True, eq=False)
class Observations:
    """n labelled drafts as columns; their logprobs are read once and not kept.

    Attributes:
        correct: (n,) whether the draft was right.
        signals: Of each signal, its (n,) finite values, in its unit.
        tokens: (n,) completion tokens of the drafts; None unless every record says so.
        deeper_correct: (n,) whether the deeper branch was right; None unless every record says so.
        deeper_tokens: (n,) completion tokens of the deeper branch; None unless every record says so.
        ids: (n,) the records' ids, None where a record has none.
        skipped: The reason by signal, for each signal that some record lacks.
        partial: How many records have an outcome, by outcome, for those that only some have.
    """

    correct: BoolArray
    signals: Mapping[str, FloatArray]
    tokens: FloatArray | None = None
    deeper_correct: BoolArray | None = None
    deeper_tokens: FloatArray | None = None
    ids: tuple[str | None, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    partial: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.correct)

    @classmethod
    def of(
        cls,
        records: Iterable[CalibrationRecord] | Observations,
        signal: str,
        top_k: int,
        candidates: Sequence[str] | None = None,
    ) -> Observations:
        """Read records for a key's signal, or for every candidate where that is ``"auto"``; columns are left as is.

        Raises:
            CalibrationError: no records, or one that lacks the signal or is no record, named by its place and
                id; for ``"auto"`` as :meth:`read_all`.
        """
        if isinstance(records, Observations):
            return records
        if signal == AUTO:
            return cls.read_all(records, top_k, candidates)
        if candidates is not None:
            raise CalibrationError(f'candidates are what signal="auto" chooses from, and the signal is {signal!r}')
        reading = _Reading(top_k)
        for place, record in enumerate(records):
            reading.add(place, record, [signal])
            for reason in reading.skipped.values():
                raise CalibrationError(reason)
        return reading.done()

    @classmethod
    def read_all(
        cls, records: Iterable[CalibrationRecord], top_k: int, candidates: Sequence[str] | None = None
    ) -> Observations:
        """Read records for every candidate that all of them have.

        Args:
            records: Labelled drafts.
            top_k: Alternatives a position that signals are taken over.
            candidates: Names of signals; unless given, those that the first record brings, and those built in or
                registered where it holds logprobs.

        Raises:
            CalibrationError: no records, no candidate that all of them have, or one that is no record.
        """
        if isinstance(candidates, str):
            raise CalibrationError(f"candidates are a list of names, not the text {candidates!r}")
        reading = _Reading(top_k)
        names = None if candidates is None else list(dict.fromkeys(candidates))
        for place, record in enumerate(records):
            _require_record(place, record)
            if names is None:
                names = _candidates(record)
                known = {*names}
            reading.add(place, record, names)
            if candidates is None and not record.signals.keys() <= known:
                for name in record.signals.keys() - known:
                    reading.skipped.setdefault(name, f"record 0 has no signal {name!r}")
        found = reading.done()
        if not found.signals:
            reasons = "; ".join(list(dict.fromkeys(found.skipped.values()))[:3])
            raise CalibrationError(f"there is no signal that all records have ({reasons or 'no candidates'})")
        return found

    def require_finite(self) -> None:
        """Refuse columns without records, and signals with values that are not finite or too large to compute with.

        Raises:
            CalibrationError: there are no records, or a signal has such a value.
        """
        if not len(self):
            raise CalibrationError(_NOTHING)
        for name, column in self.signals.items():
            if not (np.abs(column) <= _LARGEST_VALUE).all():
                raise CalibrationError(f"some values of {name} are not finite, or beyond {_LARGEST_VALUE:g}")

    def take(self, places: NDArray[np.int64] | BoolArray) -> Observations:
        """Some of the records, by their places or a mask."""
        chosen = np.arange(len(self))[places]
        return replace(
            self,
            correct=self.correct[chosen],
            signals={name: column[chosen] for name, column in self.signals.items()},
            tokens=None if self.tokens is None else self.tokens[chosen],
            deeper_correct=None if self.deeper_correct is None else self.deeper_correct[chosen],
            deeper_tokens=None if self.deeper_tokens is None else self.deeper_tokens[chosen],
            ids=tuple(self.ids[place] for place in chosen) if self.ids else (),
            partial={},  # it counts the records of the whole set
        )

    def with_signal(self, name: str, values: FloatArray) -> Observations:
        """The same records with one more signal, by its (n,) values."""
        return replace(self, signals={**self.signals, name: values})


class _Reading:
    """Builds columns record by record, in eight bytes a number."""

    def __init__(self, top_k: int) -> None:
        self._top_k = top_k
        self._signals: dict[str, array[float]] = {}
        self._correct = array("b")
        self._ids: list[str | None] = []
        self._outcomes = {name: array("d") for name in ("tokens", "deeper_correct", "deeper_tokens")}
        self.skipped: dict[str, str] = {}

    def add(self, place: int, record: CalibrationRecord, names: Sequence[str]) -> None:
        """Read one record; a signal that it lacks is not read from later records."""
        _require_record(place, record)
        if record.sequence is not None and record.sequence.top_k > self._top_k:
            # Truncated once, and not again by each signal.
            record = record.model_copy(update={"sequence": record.sequence.truncated(self._top_k)})
        for name in names:
            if name in self.skipped:
                continue
            try:
                value = record.value(name, self._top_k)
                if not abs(value) <= _LARGEST_VALUE:
                    raise SignalError(f"{name} is {value}, not finite or beyond {_LARGEST_VALUE:g}")
            except TjeError as error:
                who = f"record {place}" + (f" ({record.id})" if record.id is not None else "")
                self.skipped[name] = f"{who}: {error}"
                self._signals.pop(name, None)
            else:
                self._signals.setdefault(name, array("d")).append(value)
        self._correct.append(record.correct)
        self._ids.append(record.id)
        tokens = len(record.sequence) if record.tokens is None and record.sequence is not None else record.tokens
        outcomes = (tokens, record.deeper_correct, record.deeper_tokens)
        for column, outcome in zip(self._outcomes.values(), outcomes, strict=True):
            if outcome is not None:
                column.append(outcome)

    def done(self) -> Observations:
        """The columns of all records that were read.

        Raises:
            CalibrationError: no record was read.
        """
        n = len(self._correct)
        if not n:
            raise CalibrationError(_NOTHING)
        outcomes = {name: np.array(column) if len(column) == n else None for name, column in self._outcomes.items()}
        deeper_correct = outcomes["deeper_correct"]
        return Observations(
            correct=np.array(self._correct, dtype=np.bool_),
            signals={name: np.array(column) for name, column in self._signals.items()},
            tokens=outcomes["tokens"],
            deeper_correct=None if deeper_correct is None else deeper_correct > 0,
            deeper_tokens=outcomes["deeper_tokens"],
            ids=tuple(self._ids) if any(name is not None for name in self._ids) else (),
            skipped=self.skipped,
            partial={name: len(column) for name, column in self._outcomes.items() if 0 < len(column) < n},
        )


def _require_record(place: int, record: object) -> None:
    if not isinstance(record, CalibrationRecord):
        kind = type(record).__name__
        raise CalibrationError(f"record {place} is a {kind}: CalibrationRecord.model_validate() reads a mapping")


def _candidates(record: CalibrationRecord) -> list[str]:
    reserved = [name for name in RESERVED if name in record.signals]
    if reserved:
        raise CalibrationError(f"the records bring a signal named {reserved[0]!r}, a name with a meaning of its own")
    computed = [name for name in candidates() if record.sequence is not None or name in record.signals]
    return list(dict.fromkeys((*computed, *record.signals)))
