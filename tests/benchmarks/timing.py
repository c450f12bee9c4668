"""Timing two things in turn, so that a change of the machine's speed meets both."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


class NotMeasuredError(Exception):
    """What ran is not what a row claims to time, so that it has no figure."""


@dataclass(frozen=True)
class Row:
    """One figure and what it is held against.

    Attributes:
        what: What was measured.
        against: What the reference is.
        value: The figure of ours, in ``unit``.
        reference: The figure of the reference, in the same unit.
        at_most: The ratio to hold; None: there is none.
        unit: ``seconds``, or what was counted.
    """

    what: str
    against: str
    value: float
    reference: float
    at_most: float | None = None
    unit: str = "seconds"

    @property
    def ratio(self) -> float:
        return self.value / self.reference


@dataclass(frozen=True)
class Timing:
    """How rows are timed.

    Attributes:
        short: Few repetitions: enough to see that a row can be measured, too few for its figure.
    """

    short: bool = False

    def best_of(
        self,
        ours: Callable[[], object],
        reference: Callable[[], object],
        *,
        rounds: int,
        repeat: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> tuple[float, float]:
        """Best seconds of a single call of each; ``rounds`` turns of ``repeat`` calls."""
        if self.short:
            rounds, repeat = min(rounds, 2), 1
        best = [float("inf")] * 2
        for _ in range(rounds):
            for index, function in enumerate((ours, reference)):
                start = clock()
                for _ in range(repeat):
                    function()
                best[index] = min(best[index], (clock() - start) / repeat)
        return best[0], best[1]

    def compared(
        self,
        what: str,
        ours: Callable[[], object],
        *,
        against: str,
        reference: Callable[[], object],
        at_most: float | None = None,
        rounds: int = 60,
        repeat: int = 10,
        clock: Callable[[], float] = time.perf_counter,
    ) -> Row:
        """Both once to warm them, then timed; cold in the short form."""
        if not self.short:
            ours(), reference()
        return Row(
            what, against, *self.best_of(ours, reference, rounds=rounds, repeat=repeat, clock=clock), at_most=at_most
        )
