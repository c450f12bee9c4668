"""The thread that writes what was recorded: in batches, off the hot path, and until the database has it."""

from __future__ import annotations

import contextlib
import copy
import logging
import queue
import random
import threading
import time

from .. import _process
from .._process import ForkAware, tell_of_forks, whoami
from ..errors import RegistryError, RegistryUnavailable
from ..storage import Database
from .filing import RowOf, file
from .looking import Look, Looking
from .patience import hurriable, is_locked, waiting_at_most
from .queue import BoundedQueue
from .store import DropReport
from .tables import Entry
from .warnings import Warnings, entries_in_words, waiting

logger = logging.getLogger(__name__)

#: Entries in one transaction.
BATCH = 500
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 15.0
# A file that another process writes is waited for so long, and bit by bit: a process that forks must find it closed.
_SECONDS_OF_LOCK = 30.0
_SECONDS_AT_A_TIME = 0.25
_SECONDS_BETWEEN = 0.02

_SOON, _NOW = False, True


class Writer(ForkAware):
    """Empties a queue into the database, on a thread that starts with the first entry.

    It does not know the ledger that it writes for: one that is forgotten can be collected, and the thread ends with
    the last entry.

    Args:
        database: Where to; its connections are nobody else's.
        capacity: Entries that may wait.
        flush_seconds: How long an entry waits for others to be written with it (seconds).
        row_of: Makes the row of an entry.
        after_feedback: Called after feedback was written, with the ids of its decisions.
    """

    def __init__(
        self,
        database: Database,
        *,
        capacity: int,
        flush_seconds: float,
        row_of: RowOf,
        after_feedback: Look,
    ) -> None:
        self.database = hurriable(database)
        self.flush_seconds = flush_seconds
        self._row_of = row_of
        self._after_feedback = after_feedback
        self._begin(capacity)
        _process.tell_of_exit(self)
        tell_of_forks(self)

    def _begin(self, capacity: int) -> None:
        """As it is in a new process."""
        self.queue = BoundedQueue(capacity)
        self._hurries_at = min(BATCH, max(1, capacity // 2))
        self.problem: str | None = None
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()  # may be put to wherever finalizers run
        self._writing = threading.Lock()
        self._is_held_up = False
        self._thread: threading.Thread | None = None
        self._ending = False
        self._reported_drops = self._reported_refused = 0
        self._report: DropReport | None = None
        self._warnings = Warnings(logger)
        self._warned_drops = 0
        self.by = whoami()
        self._looking = Looking(self._after_feedback)

    def put(self, entry: Entry) -> None:
        """Have an entry written, soon; where there is no room it is dropped and counted."""
        length = self.queue.put(entry)
        if length == self._hurries_at:
            self._wake.put(_NOW)
        elif length == 1:
            self._wake.put(_SOON)
        if self._thread is None:
            self._start()

    def flush(self, timeout: float) -> bool:
        """Write now what waits; whether all of it has left the queue within ``timeout`` seconds."""
        until = time.monotonic() + timeout
        end = self.queue.end
        if len(self.queue):
            if self._thread is None and not self._start():
                return self._write_all(until)
            self._wake.put(_NOW)
            if not self.queue.wait_for(end, timeout):
                return False
        # Whoever has flushed, such as a process that ends, has had the promises looked at too, if there was time.
        if self._thread is not None:
            self._looking.wait(max(0.0, until - time.monotonic()))
        return True

    def close(self, timeout: float) -> bool:
        """Flush, and let the thread end once nothing is left for it to do."""
        until = time.monotonic() + timeout
        flushed = self.flush(timeout)
        thread = self._thread
        self.forget()
        if not flushed:
            logger.warning("a ledger was closed that is not written yet: %s", waiting(len(self.queue)))
            return False
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.1, until - time.monotonic()))
        self.database.close()
        return True

    def forget(self) -> None:
        """End with the last entry; finalizers call it, so that it takes no lock."""
        self._ending = True
        self._wake.put(_NOW)

    def leave_soon(self) -> None:
        """Begin to flush, whether it could be written of late or not."""
        self._wake.put(_NOW)

    def leave(self, timeout: float) -> None:
        """Flush at the end of the process, which waits no longer than ``timeout`` seconds."""
        if not self.flush(timeout):
            logger.warning("the ledger could not be written before the process ended: %s", waiting(len(self.queue)))

    def hurry(self) -> None:
        """Begin to write what waits."""
        if len(self.queue) and not self._is_failing:
            self._wake.put(_NOW)

    def before_fork(self, until: float) -> None:
        """Write what waits, as the parent may be about to leave."""
        if not self._is_failing:
            self.flush(max(0.0, until - time.monotonic()))

    def after_fork_in_child(self) -> None:
        """Begin anew: what waited is the parent's, and so are the thread, the locks and the connections."""
        self.database = hurriable(copy.copy(self.database))
        self._begin(self.queue.capacity)

    @property
    def _is_failing(self) -> bool:
        """Whether it could not be written when that was last tried."""
        return self.problem is not None or self._is_held_up

    # The thread.

    def _start(self) -> bool:
        """Have the thread run; False where the interpreter lets none start any more."""
        with self.queue.lock:
            if self._thread is not None:
                return True
            self._ending = False
            self._thread = threading.Thread(target=self._run, name="tje-ledger", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:
                self._thread = None
                return False
        _process.flush_at_the_end_of_this_process()
        return True

    def _run(self) -> None:
        while self._has_work():
            if not self._ending:
                self._pause(self.flush_seconds)
            pause = _FIRST_PAUSE_SECONDS
            while not self._write_all() or self._looking.is_left:
                self._pause(pause * random.uniform(0.5, 1.5))
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _has_work(self) -> bool:
        """Wait for something to do; False where there will be nothing any more."""
        while True:
            with self.queue.lock:
                if len(self.queue):
                    return True
                if self._ending:
                    self._thread = None
                    return False
            self._wake.get()

    def _pause(self, seconds: float) -> None:
        """Let time pass, unless somebody is in a hurry."""
        until = time.monotonic() + seconds
        with contextlib.suppress(queue.Empty):
            while self._wake.get(timeout=max(0.0, until - time.monotonic())) is not _NOW:
                pass

    def _write_all(self, until: float | None = None) -> bool:
        """Write batch after batch; False where the database cannot be written, or not until then (monotonic)."""
        while len(self.queue) or self._unreported():
            try:
                if not self._write_one(until):
                    return False
            except RegistryError as error:
                self.problem = str(error)
                self._warnings.warn("problem", f"the ledger cannot be written, {waiting(len(self.queue))}: {error}")
                self._warn_of_drops()
                return False
            except Exception:
                self.problem = "an error of the ledger's own"
                logger.exception("the ledger could not write")
                return False
            if self.problem is not None:
                logger.info("the ledger can be written again")
                self.problem = None
                self._warnings.forget("problem")
            self._warn_of_drops()
            self._look(until)
        self._look(until)
        return True

    def _write_one(self, until: float | None) -> bool:
        """Write a batch; False where there is no time for it any more."""
        give_up = time.monotonic() + _SECONDS_OF_LOCK
        while True:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return False
            if not self._writing.acquire(timeout=-1 if left is None else left):
                return False
            try:
                with waiting_at_most(self._at_a_time(left)):
                    self._write_batch()
            except RegistryUnavailable as error:
                self._is_held_up = is_locked(error)
                if not self._is_held_up or time.monotonic() > give_up:
                    raise
            else:
                self._is_held_up = False
                return True
            finally:
                self._writing.release()
            time.sleep(_SECONDS_BETWEEN)

    def _at_a_time(self, left: float | None) -> float | None:
        if not self.database.is_sqlite:
            return left
        return _SECONDS_AT_A_TIME if left is None else min(left, _SECONDS_AT_A_TIME)

    def _write_batch(self) -> None:
        entries = self.queue.front(BATCH)
        filed = file(self.database, entries, self._drop_report(), row_of=self._row_of)
        if self._report is not None:
            self._reported_drops += self._report.count
            self._reported_refused += self._report.refused
            self._report = None
        for fault in filed.faults:
            told = f"the ledger drops what cannot be stored: {fault}; more like it are counted, and not told"
            self._warnings.warn_once(fault, told)
        # Before they leave: a flush then waits for it.
        self._looking.add(filed.feedback)
        refused = len(filed.faults)
        self.queue.leave(written=len(entries) - refused, refused=refused)

    def _look(self, until: float | None = None) -> None:
        """Have feedback that was written looked at, unless there is no time for it any more."""
        if self._looking.is_due and (until is None or time.monotonic() < until):
            with self._writing:
                self._looking.look(self.database)

    def _unreported(self) -> int:
        return self.queue.counts.dropped - self._reported_drops

    def _drop_report(self) -> DropReport | None:
        """What is to be reported with this batch; a report that may have come through is sent again as it was."""
        if self._report is None and self._unreported():
            counts = self.queue.counts
            self._report = DropReport(
                random.SystemRandom().getrandbits(62),
                counts.dropped - self._reported_drops,
                counts.refused - self._reported_refused,
                self.by,
            )
        return self._report

    def _warn_of_drops(self) -> None:
        counts = self.queue.counts
        dropped = counts.dropped - counts.refused
        if dropped > self._warned_drops and self._warnings.warn(
            "drops",
            f"the ledger has dropped {entries_in_words(dropped)} since it was opened, as its queue was full; "
            f"it holds {self.queue.capacity}: a larger capacity, or a faster database, keeps more",
        ):
            self._warned_drops = dropped
