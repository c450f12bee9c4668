"""Checks of a set of labelled records: what is refused, and what is odd about it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from ..errors import CalibrationError
from .columns import Observations

# With fewer records of a class than this, their standing together may be chance.
_LEAST_OF_A_CLASS = 5
# Above this share repeated records are no coincidence.
_MANY_REPEATED = 0.05
_LOPSIDED = 0.02
# So many values of a column are looked at to find the one with the most distinct values.
_ENOUGH_TO_TELL = 1_000


def refuse_repeated_ids(observations: Observations) -> None:
    """Refuse records that share an id: intervals and guarantees would count one draft twice.

    Raises:
        CalibrationError: the message names the first such id and its places.
    """
    first: dict[str, int] = {}
    for place, name in enumerate(observations.ids):
        if name is None:
            continue
        if name in first:
            raise CalibrationError(
                f"records {first[name]} and {place} have the same id {name!r}: every record counts as one "
                f"independent draft, so remove one, or give drafts of one question ids of their own"
            )
        first[name] = place


def oddities(observations: Observations) -> tuple[str, ...]:
    """Sentences about what a person should look at; empty where nothing is odd."""
    return tuple(_oddities(observations))


def _oddities(observations: Observations) -> Iterator[str]:
    n, right = len(observations), int(observations.correct.sum())
    for outcome, count in observations.partial.items():
        yield f"{outcome} is recorded for {count} of {n} records; it is used only where all have it"
    if 0 < min(right, n - right) <= _LOPSIDED * n:
        rare = "right" if right < n - right else "wrong"
        yield f"only {min(right, n - right)} of {n} drafts are {rare}: is the grading what it should be?"
    repeated = _repeated(observations)
    if repeated > _MANY_REPEATED * n:
        yield (
            f"{repeated} of {n} records repeat another one's signals to the last digit: intervals and guarantees "
            f"take every record for an independent draft"
        )
    if min(right, n - right) >= _LEAST_OF_A_CLASS and np.count_nonzero(np.diff(observations.correct)) == 1:
        yield "all right drafts stand together, and all wrong ones: do they come from one source?"
    leak = _leaking_ids(observations)
    if leak:
        yield leak


def _repeated(observations: Observations) -> int:
    """How many records equal an earlier one in every signal; 0 where the signals are too coarse to tell."""
    columns = [column for column in observations.signals.values() if np.ptp(column) > 0]
    if not any((column != np.round(column, 3)).any() for column in columns):
        return 0
    # Only records that share the finest column's value can be equal.
    finest = max(columns, key=lambda column: len(np.unique(column[:_ENOUGH_TO_TELL])))
    rows = np.stack(columns, axis=1)[np.argsort(finest, kind="stable")]
    shared = np.diff(np.sort(finest)) == 0
    together = rows[np.concatenate([[False], shared]) | np.concatenate([shared, [False]])]
    return len(together) - len(np.unique(together, axis=0))


def _leaking_ids(observations: Observations) -> str | None:
    """A sentence about ids whose letters tell the label, as right and wrong drafts may be of two sources; or None."""
    labels: dict[str, set[bool]] = defaultdict(set)
    counts: dict[str, int] = defaultdict(int)
    for name, correct in zip(observations.ids, observations.correct.tolist(), strict=False):
        stem = re.sub(r"\d+", "", name or "")
        labels[stem].add(correct)
        counts[stem] += 1
    telling = all(len(seen) == 1 for seen in labels.values()) and min(counts.values(), default=0) >= 2
    if not telling or len({correct for seen in labels.values() for correct in seen}) < 2:
        return None
    stems = sorted(labels)[:2]
    return f"ids tell the label ({', '.join(map(repr, stems))} ...): are right and wrong drafts of one source?"
