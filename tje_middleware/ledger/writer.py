"""The writer: entries wait in a bounded queue until a thread writes them to the database, in batches."""

from __future__ import annotations

import contextlib
import copy
import logging
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from .. import _process
from .._process import ForkAware, tell_of_forks, whoami
from ..errors import RegistryError, RegistryUnavailable
from ..storage import Database
from .store import DropReport, is_locked, store_entries, waiting_at_most, with_limited_waits
from .tables import Entry, Row

logger = logging.getLogger(__name__)

#: Entries in one transaction.
BATCH = 500
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 15.0
# How long to wait for a SQLite file that another process is writing: in short pieces, as the file must be closed when
# this process forks.
_SECONDS_OF_LOCK = 30.0
_SECONDS_AT_A_TIME = 0.25
_SECONDS_BETWEEN = 0.02
# A warning on one topic is repeated after this time at the earliest.
_SECONDS_BETWEEN_WARNINGS = 60.0
# Comparing feedback with promises must not hold decisions up: each try is limited, and repeated a few times.
_SECONDS_OF_LOOK = 0.5
_SECONDS_BETWEEN_LOOKS = 2.0
_LOOKS = 5
_MOST_LOOKED_AT = 500

_SOON, _NOW = False, True


@dataclass(frozen=True)
class LedgerCounts:
    """Numbers of decisions and feedback of this process: recorded = written + dropped + pending.

    Attributes:
        recorded: Entries that were recorded.
        written: Entries that are in the database.
        dropped: Entries that a full queue had no room for, or that cannot be stored.
        pending: Entries that wait, or are just being written.
        refused: Dropped entries that cannot be stored: objects that are none, and those that the database refuses.
    """

    recorded: int = 0
    written: int = 0
    dropped: int = 0
    pending: int = 0
    refused: int = 0


class Writer(ForkAware):
    """A bounded queue of entries, and the thread that writes them; the thread starts with the first entry.

    Where the queue is full the new entry is dropped, and none that waits. An entry leaves the queue only after it was
    written or refused. The writer has no reference to its ledger, so that a ledger that is not used any more can be
    garbage collected; the thread then ends with the last entry.

    Args:
        database: The database, with connections of its own.
        capacity: The number of entries that may wait.
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
        row_of: Callable[[Entry], Row],
        after_feedback: Callable[[Database, Sequence[str]], None],
    ) -> None:
        self.database = with_limited_waits(database)
        self.capacity = capacity
        self.flush_seconds = flush_seconds
        self._row_of = row_of
        self._after_feedback = after_feedback
        self._hurries_at = min(BATCH, max(1, capacity // 2))
        self._begin()
        _process.tell_of_exit(self)
        tell_of_forks(self)

    def _begin(self) -> None:
        """Set the state of a new writer, also in a forked process."""
        self.by = whoami()
        self.problem: str | None = None
        # The queue. The lock is reentrant, as an entry may come from a finalizer, which may run at any time.
        self._lock = threading.RLock()
        self._left_some = threading.Condition(self._lock)
        self._waiting: deque[Entry] = deque()
        self._recorded = self._written = self._refused = self._overflowed = 0
        # The thread.
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()  # finalizers may put into it as well
        self._writing = threading.Lock()
        self._is_held_up = False
        self._thread: threading.Thread | None = None
        self._ending = False
        # Reports of drops.
        self._reported_drops = self._reported_refused = 0
        self._report: DropReport | None = None
        self._warned_drops = 0
        self._warned_at: dict[str, float] = {}
        # Decisions whose feedback was written and is still to be compared with promises, newest last.
        self._unseen: list[str] = []
        self._all_seen = threading.Event()
        self._all_seen.set()
        self._failed_looks = 0
        self._not_before = 0.0

    # Called by the ledger.

    def put(self, entry: Entry) -> None:
        """Write an entry soon; where the queue is full it is dropped and counted."""
        with self._lock:
            self._recorded += 1
            if len(self._waiting) >= self.capacity:
                self._overflowed += 1
                length = 0
            else:
                self._waiting.append(entry)
                length = len(self._waiting)
        if length == self._hurries_at:
            self._wake.put(_NOW)
        elif length == 1:
            self._wake.put(_SOON)
        if self._thread is None:
            self._start()

    @property
    def counts(self) -> LedgerCounts:
        """The numbers of entries now."""
        with self._lock:
            dropped = self._overflowed + self._refused
            return LedgerCounts(self._recorded, self._written, dropped, len(self._waiting), self._refused)

    def flush(self, timeout: float) -> bool:
        """Write the waiting entries now; returns whether they have left the queue within ``timeout`` seconds."""
        until = time.monotonic() + timeout
        with self._lock:
            end = self._written + self._refused + len(self._waiting)
        if self._waiting:
            if self._thread is None and not self._start():
                return self._write_all(until)
            self._wake.put(_NOW)
            with self._left_some:
                if not self._left_some.wait_for(lambda: self._written + self._refused >= end, timeout):
                    return False
        # A flush also waits for the comparison of feedback with promises, if there is time.
        if self._thread is not None:
            self._all_seen.wait(max(0.0, until - time.monotonic()))
        return True

    def close(self, timeout: float) -> bool:
        """Flush, and let the thread end with the last entry."""
        until = time.monotonic() + timeout
        flushed = self.flush(timeout)
        thread = self._thread
        self.forget()
        if not flushed:
            logger.warning("a ledger was closed that is not written yet: %s", self._waiting_in_words())
            return False
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.1, until - time.monotonic()))
        self.database.close()
        return True

    def forget(self) -> None:
        """Let the thread end with the last entry; takes no lock, as a finalizer calls it."""
        self._ending = True
        self._wake.put(_NOW)

    # Called when the process ends or forks.

    def leave_soon(self) -> None:
        """Begin to flush, even where the last write failed."""
        self._wake.put(_NOW)

    def leave(self, timeout: float) -> None:
        """Flush at the end of the process, for at most ``timeout`` seconds."""
        if not self.flush(timeout):
            logger.warning("the ledger could not be written before the process ended: %s", self._waiting_in_words())

    def hurry(self) -> None:
        """Begin to write the waiting entries."""
        if self._waiting and not self._is_failing:
            self._wake.put(_NOW)

    def before_fork(self, until: float) -> None:
        """Write the waiting entries, as the parent may end right after the fork."""
        if not self._is_failing:
            self.flush(max(0.0, until - time.monotonic()))

    def after_fork_in_child(self) -> None:
        """Begin with an empty queue: entries, thread, locks and connections belong to the parent."""
        self.database = with_limited_waits(copy.copy(self.database))
        self._begin()

    @property
    def _is_failing(self) -> bool:
        """Whether the database could not be written when that was last tried."""
        return self.problem is not None or self._is_held_up

    # The thread.

    def _start(self) -> bool:
        """Start the thread; False where the interpreter is ending and starts none."""
        with self._lock:
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
            while not self._write_all() or self._unseen:
                self._pause(pause * random.uniform(0.5, 1.5))
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _has_work(self) -> bool:
        """Wait for an entry; False where the queue is empty and the thread is to end."""
        while True:
            with self._lock:
                if self._waiting:
                    return True
                if self._ending:
                    self._thread = None
                    return False
            self._wake.get()

    def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until a flush or a full batch."""
        until = time.monotonic() + seconds
        with contextlib.suppress(queue.Empty):
            while self._wake.get(timeout=max(0.0, until - time.monotonic())) is not _NOW:
                pass

    def _write_all(self, until: float | None = None) -> bool:
        """Write batch after batch; False where the database cannot be written, or not until that monotonic time."""
        while self._waiting or self.counts.dropped > self._reported_drops:
            try:
                if not self._write_in_time(until):
                    return False
            except RegistryError as error:
                self.problem = str(error)
                self._warn("problem", f"the ledger cannot be written, {self._waiting_in_words()}: {error}")
                self._warn_of_drops()
                return False
            except Exception:
                self.problem = "an error of the ledger's own"
                logger.exception("the ledger could not write")
                return False
            if self.problem is not None:
                logger.info("the ledger can be written again")
                self.problem = None
                self._warned_at.pop("problem", None)
            self._warn_of_drops()
            self._look(until)
        self._look(until)
        return True

    def _write_in_time(self, until: float | None) -> bool:
        """Write a batch; False where the time is over."""
        give_up = time.monotonic() + _SECONDS_OF_LOCK
        while True:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return False
            if not self._writing.acquire(timeout=-1 if left is None else left):
                return False
            try:
                most = min(_SECONDS_AT_A_TIME, left or _SECONDS_AT_A_TIME) if self.database.is_sqlite else left
                with waiting_at_most(most):
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

    def _write_batch(self) -> None:
        with self._lock:
            entries = list(islice(self._waiting, BATCH))
        stored = store_entries(self.database, entries, self._drop_report(), row_of=self._row_of)
        if self._report is not None:
            self._reported_drops += self._report.count
            self._reported_refused += self._report.refused
            self._report = None
        for fault in stored.faults:
            told = f"the ledger drops what cannot be stored: {fault}; more like it are counted, and not told"
            if fault not in self._warned_at:
                self._warn(fault, told)
        if stored.feedback:  # noted before the entries leave the queue, so that a flush waits for its comparison
            self._all_seen.clear()
            self._unseen = [*self._unseen, *stored.feedback][-_MOST_LOOKED_AT:]
        refused = len(stored.faults)
        with self._lock:
            for _ in entries:
                self._waiting.popleft()
            self._written += len(entries) - refused
            self._refused += refused
            self._left_some.notify_all()

    def _drop_report(self) -> DropReport | None:
        """The report of drops to write with this batch; one that may not have been stored is sent again unchanged."""
        counts = self.counts
        if self._report is None and counts.dropped > self._reported_drops:
            self._report = DropReport(
                random.SystemRandom().getrandbits(62),
                counts.dropped - self._reported_drops,
                counts.refused - self._reported_refused,
                self.by,
            )
        return self._report

    def _look(self, until: float | None = None) -> None:
        """Compare written feedback with promises, unless the time is over."""
        now = time.monotonic()
        if not self._unseen or now < self._not_before or (until is not None and now >= until):
            return
        try:
            with self._writing, waiting_at_most(_SECONDS_OF_LOOK):
                self._after_feedback(self.database, self._unseen)
        except RegistryError as error:
            self._failed_looks += 1
            if isinstance(error, RegistryUnavailable) and self._failed_looks < _LOOKS:
                self._not_before = time.monotonic() + _SECONDS_BETWEEN_LOOKS
                return
            # Nothing is lost: this feedback counts when the next one is compared.
            logger.info("what feedback says of the gate's promises could not be looked at: %s", error)
        except Exception:
            logger.exception("what feedback says of the gate's promises could not be looked at")
        self._unseen = []
        self._failed_looks = 0
        self._all_seen.set()

    # Logging.

    def _warn(self, topic: str, message: str) -> bool:
        """Log a warning, unless one on its topic was logged less than a minute ago; returns whether it was logged."""
        now = time.monotonic()
        if now - self._warned_at.get(topic, float("-inf")) < _SECONDS_BETWEEN_WARNINGS:
            return False
        self._warned_at[topic] = now
        logger.warning(message)
        return True

    def _warn_of_drops(self) -> None:
        counts = self.counts
        dropped = counts.dropped - counts.refused
        if dropped > self._warned_drops and self._warn(
            "drops",
            f"the ledger has dropped {_in_words(dropped)} since it was opened, as its queue was full; it holds "
            f"{self.capacity}: a larger capacity, or a faster database, keeps more",
        ):
            self._warned_drops = dropped

    def _waiting_in_words(self) -> str:
        count = len(self._waiting)
        return f"{_in_words(count)} {'waits' if count == 1 else 'wait'}"


def _in_words(count: int) -> str:
    return "1 entry" if count == 1 else f"{count} entries"
