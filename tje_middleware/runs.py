"""Which run of a framework was started in which, while they run."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import islice
from typing import TypeVar

#: What a framework names a run by: a UUID, a string.
RunId = Hashable
Kept = TypeVar("Kept")

# Runs and calls that are never said to have ended must not pile up; far more than ever are open at once.
MOST_OPEN = 10_000


class Runs:
    """Which runs a run was started in, while it runs: of those, some may be over before it."""

    def __init__(self) -> None:
        self._above: dict[RunId, tuple[RunId, ...]] = {}

    def __len__(self) -> int:
        return len(self._above)

    def enter(self, run_id: RunId, parent_run_id: RunId | None) -> None:
        """A run has started in another, or by itself."""
        self.enter_below(run_id, self.up_from(parent_run_id))

    def enter_below(self, run_id: RunId, above: tuple[RunId, ...]) -> None:
        """A run has started in others, innermost first."""
        self._above[run_id] = above
        drop_oldest(self._above, MOST_OPEN)

    def leave(self, run_id: RunId) -> None:
        """It has ended."""
        self._above.pop(run_id, None)

    def up_from(self, run_id: RunId | None) -> tuple[RunId, ...]:
        """The run and all above it, innermost first."""
        if run_id is None:
            return ()
        # Users may give runs ids of their own, even one that is its own parent's.
        return (run_id, *(each for each in self._above.get(run_id, ()) if each != run_id))


def drop_oldest(kept: dict[RunId, Kept], most: int) -> int:
    """Let go of the oldest entries; returns how many."""
    oldest = list(islice(kept, max(len(kept) - most, 0)))
    for run_id in oldest:
        del kept[run_id]
    return len(oldest)
