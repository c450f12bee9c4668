"""Timing two things in turn, so that a change of the machine's speed meets both."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One figure: seconds of ours and of the reference, and the ratio that is to be held."""

    what: str
    against: str
    seconds: float
    reference: float
    at_most: float | None = None

    @property
    def ratio(self) -> float:
        return self.seconds / self.reference


def best_of(
    ours: Callable[[], object], reference: Callable[[], object], *, rounds: int, repeat: int
) -> tuple[float, float]:
    """Best seconds of a single call of each; ``rounds`` turns of ``repeat`` calls."""
    best = [float("inf")] * 2
    for _ in range(rounds):
        for index, function in enumerate((ours, reference)):
            start = time.perf_counter()
            for _ in range(repeat):
                function()
            best[index] = min(best[index], (time.perf_counter() - start) / repeat)
    return best[0], best[1]


def compared(
    what: str,
    ours: Callable[[], object],
    *,
    against: str,
    reference: Callable[[], object],
    at_most: float | None = None,
    rounds: int = 60,
    repeat: int = 10,
) -> Row:
    ours(), reference()
    return Row(what, against, *best_of(ours, reference, rounds=rounds, repeat=repeat), at_most)
