"""What waits to be written: bounded, and counted so that nothing gets lost unseen."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from itertools import islice

from .tables import Entry


@dataclass(frozen=True)
class LedgerCounts:
    """What became of all that was recorded in this process: recorded = written + dropped + pending.

    Attributes:
        recorded: Decisions and feedback that were handed over.
        written: Those that are in the database.
        dropped: Those that the full queue had no room for, and those that cannot be stored.
        pending: Those that wait, or are just being written.
        refused: Of the dropped ones, those that cannot be stored: that are none, or that the database refuses.
    """

    recorded: int = 0
    written: int = 0
    dropped: int = 0
    pending: int = 0
    refused: int = 0


class BoundedQueue:
    """First in, first out; what it has no room for is dropped: what was taken in is never given up again.

    An entry leaves only once it is known what became of it, so that those that are being written count as well.

    Args:
        capacity: Entries that may wait.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        # Reentrant: what is recorded may come from a finalizer, which runs wherever memory is asked for.
        self.lock = threading.RLock()
        self._left_some = threading.Condition(self.lock)
        self._waiting: deque[Entry] = deque()
        self._recorded = self._written = self._refused = self._overflowed = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, entry: Entry) -> int:
        """Take an entry in; returns how many wait now, or 0 where it was dropped."""
        with self.lock:
            self._recorded += 1
            if len(self._waiting) >= self.capacity:
                self._overflowed += 1
                return 0
            self._waiting.append(entry)
            return len(self._waiting)

    def front(self, most: int) -> list[Entry]:
        """The oldest entries; they stay."""
        with self.lock:
            return list(islice(self._waiting, most))

    def leave(self, *, written: int, refused: int) -> None:
        """The oldest entries leave."""
        with self.lock:
            for _ in range(written + refused):
                self._waiting.popleft()
            self._written += written
            self._refused += refused
            self._left_some.notify_all()

    @property
    def end(self) -> int:
        """How many entries will have left when all that wait now have."""
        with self.lock:
            return self._written + self._refused + len(self._waiting)

    def wait_for(self, end: int, timeout: float) -> bool:
        """Wait until so many entries have left; False where that takes longer (seconds)."""
        with self._left_some:
            return self._left_some.wait_for(lambda: self._written + self._refused >= end, timeout)

    @property
    def counts(self) -> LedgerCounts:
        """At one moment."""
        with self.lock:
            dropped = self._overflowed + self._refused
            return LedgerCounts(self._recorded, self._written, dropped, len(self._waiting), self._refused)
