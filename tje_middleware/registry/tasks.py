"""Work in the background that may hang, and when it is due."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from ..errors import RegistryUnavailable

_FIRST_RETRY_SECONDS = 1.0


class Task:
    """Work that is done again and again, one piece at a time, each on a thread of its own.

    A thread of its own, as a database that hangs must hold nobody up. All but the work is called by one thread.

    Args:
        work: What is to be done; it raises where it failed.
        done: Where it puts itself when a piece is done.
        ring: Called after that.
        longest_retry: How long it rests at most after a failure (seconds).
    """

    def __init__(
        self, work: Callable[[], None], done: SimpleQueue[Task], ring: Callable[[], None], longest_retry: float
    ) -> None:
        #: When the next piece is due (seconds of the monotonic clock); infinite: it is not.
        self.due = math.inf
        #: When the piece at hand was begun; None: there is none.
        self.begun: float | None = None
        #: Why the last piece failed; None: it did not.
        self.error: Exception | None = None
        self.failures = 0
        self._thread: threading.Thread | None = None
        self._work = work
        self._done = done
        self._ring = ring
        self._longest_retry = longest_retry

    def within(self, seconds: float) -> None:
        """Have a piece begun within this time, or as soon as the one at hand is done."""
        self.due = min(self.due, time.monotonic() + seconds)

    def do(self) -> None:
        """Do a piece on the calling thread: where a process ends, none can be started."""
        self._leave_rest()
        self._run()

    def begin(self) -> None:
        """Begin a piece."""
        self._leave_rest()
        thread = threading.Thread(target=self._run, name="tje-registry-work", daemon=True)
        try:
            thread.start()
            self._thread = thread
        except RuntimeError as error:  # out of threads, or the interpreter is going
            self.error = RegistryUnavailable(f"no thread to ask the registry on: {error}")
            self._done.put(self)

    def settle(self) -> None:
        """A piece is done: count it, and where it failed have the next one begun after a rest."""
        self.begun = None
        if self.error is None:
            self.failures = 0
            return
        self.failures += 1
        rest = _FIRST_RETRY_SECONDS * 2 ** min(self.failures - 1, 16)
        self.within(jittered(min(rest, self._longest_retry)))

    def finish(self, within: float) -> None:
        """Wait for the piece at hand, at most so long (seconds)."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(within)

    def _leave_rest(self) -> None:
        self.due = math.inf
        self.begun = time.monotonic()

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:
            self.error = error
        else:
            self.error = None
        self._done.put(self)
        self._ring()


def jittered(seconds: float) -> float:
    """A tenth more or less, so that replicas that started together do not ask together."""
    return seconds * random.uniform(0.9, 1.1)
