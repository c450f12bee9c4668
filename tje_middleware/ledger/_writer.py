"""The thread that writes what was recorded: in batches, off the hot path, and until the database has it."""

from __future__ import annotations

import contextlib
import copy
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from ..database import Database
from ..errors import RegistryError
from ..origin import whoami
from . import _leaving
from ._entries import Decided, Entry, Row, feedback_row, merged, merged_feedback
from ._queue import BoundedQueue
from ._storing import Batch, DropReport, store

logger = logging.getLogger(__name__)

#: Entries in one transaction.
BATCH = 500
_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 15.0
_SECONDS_BETWEEN_WARNINGS = 60.0
_SECONDS_OF_FLUSH_BEFORE_FORK = 1.0
_SECONDS_OF_TRANSACTION = 5.0


class _MakesRows(Protocol):
    def __call__(self, entry: Decided, *, recorded_by: str) -> Row: ...


_SOON, _NOW = False, True


class Writer:
    """Empties a queue into the database, on a thread that starts with the first entry.

    It does not know the ledger that it writes for: one that is forgotten can be collected, and the thread ends with
    the last entry.

    Args:
        database: Where to; its connections are nobody else's.
        capacity: Entries that may wait.
        flush_seconds: How long an entry waits for others to be written with it (seconds).
        row_of: Makes the row of a decision, for the user, host and process that is named.
        after_feedback: Called after feedback was written, with the ids of its decisions.
    """

    def __init__(
        self,
        database: Database,
        *,
        capacity: int,
        flush_seconds: float,
        row_of: _MakesRows,
        after_feedback: Callable[[Database, Sequence[str]], None],
    ) -> None:
        self.database = database
        self.flush_seconds = flush_seconds
        self._row_of = row_of
        self._after_feedback = after_feedback
        self._begin(capacity)
        _leaving.remember(self)

    def _begin(self, capacity: int) -> None:
        """As it is in a new process."""
        self.queue = BoundedQueue(capacity)
        self._hurries_at = min(BATCH, max(1, capacity // 2))
        self.problem: str | None = None
        self._wake: queue.SimpleQueue[bool] = queue.SimpleQueue()  # may be put to wherever finalizers run
        self._writing = threading.Lock()
        self._stands_still = False
        self._thread: threading.Thread | None = None
        self._ending = False
        self._reported_drops = 0
        self._report: DropReport | None = None
        self._warned_at: dict[str, float] = {}
        self._warned_drops = 0
        self._by = whoami()

    def put(self, entry: Entry) -> None:
        """Have an entry written, soon; where there is no room it is dropped and counted."""
        waiting = self.queue.put(entry)
        if waiting == self._hurries_at:
            self._wake.put(_NOW)
        elif waiting == 1:
            self._wake.put(_SOON)
        if self._thread is None:
            self._start()

    def flush(self, timeout: float) -> bool:
        """Write now what waits; whether all of it has left the queue within ``timeout`` seconds."""
        end = self.queue.end
        if not len(self.queue):
            return True
        if self._thread is None and not self._start():
            return self._write_all()
        self._wake.put(_NOW)
        return self.queue.wait_for(end, timeout)

    def close(self, timeout: float) -> bool:
        """Flush, and let the thread end once nothing is left for it to do."""
        until = time.monotonic() + timeout
        flushed = self.flush(timeout)
        thread = self._thread
        self.forget()
        if not flushed:
            logger.warning("a ledger was closed with %d entries that are not written yet", len(self.queue))
            return False
        if thread is not None and thread is not threading.current_thread():
            thread.join(max(0.1, until - time.monotonic()))
        self.database.close()
        return True

    def forget(self) -> None:
        """End with the last entry; finalizers call it, so that it takes no lock."""
        self._ending = True
        self._wake.put(_NOW)

    def leave(self, timeout: float) -> None:
        """Flush at the end of the process, which waits no longer than ``timeout`` seconds."""
        if not self.flush(timeout):
            logger.warning("%d entries of the ledger could not be written before the process ended", len(self.queue))

    def before_fork(self) -> None:
        """Write what waits, as the parent may be about to leave, and stand still between two transactions."""
        if self.problem is None:
            self.flush(_SECONDS_OF_FLUSH_BEFORE_FORK)
        # SQLite must not be open in a process that forks (https://sqlite.org/howtocorrupt.html, 2.6).
        self._stands_still = self._writing.acquire(timeout=_SECONDS_OF_TRANSACTION)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._stands_still:
            self._writing.release()

    def after_fork_in_child(self) -> None:
        """Begin anew: what waited is the parent's, and so are the thread, the locks and the connections."""
        self.database = copy.copy(self.database)
        self._begin(self.queue.capacity)

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
        _leaving.flush_at_the_end_of_this_process()
        return True

    def _run(self) -> None:
        while self._has_work():
            if not self._ending:
                self._pause(self.flush_seconds)
            pause = _FIRST_PAUSE_SECONDS
            while not self._write_all():
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

    def _write_all(self) -> bool:
        """Write batch after batch; False where the database cannot be written."""
        while len(self.queue) or self._unreported():
            try:
                with self._writing:
                    self._write_batch()
            except RegistryError as error:
                self.problem = str(error)
                self._warn("problem", f"the ledger cannot be written, {len(self.queue)} entries wait: {error}")
                self._warn_of_drops()
                return False
            except Exception:
                self.problem = "an error of the ledger's own"
                logger.exception("the ledger could not write")
                return False
            if self.problem is not None:
                logger.warning("the ledger can be written again")
                self.problem = None
                self._warned_at.pop("problem", None)
            self._warn_of_drops()
        return True

    def _write_batch(self) -> None:
        entries = self.queue.front(BATCH)
        rows = [self._row(entry) for entry in entries]
        pairs = list(zip(entries, rows, strict=True))
        decisions = [row for entry, row in pairs if row and isinstance(entry, Decided)]
        feedback = [row for entry, row in pairs if row and not isinstance(entry, Decided)]
        batch = Batch(merged(decisions), merged_feedback(feedback), self._drop_report())
        unwanted = store(self.database, batch)
        refused = rows.count(None) + sum(row["decision_id"] in unwanted for row in decisions + feedback)
        if unwanted:
            logger.warning("the database refused %d of the ledger's entries, which are dropped", len(unwanted))
        if self._report is not None:
            self._reported_drops += self._report.count
            self._report = None
        # Before they leave: whoever has flushed, such as a process that ends, has had the promises looked at too.
        self._look_after([row["decision_id"] for row in batch.feedback if row["decision_id"] not in unwanted])
        self.queue.leave(written=len(entries) - refused, refused=refused)

    def _row(self, entry: Entry) -> Row | None:
        """The row of an entry; None for one that is none."""
        try:
            return self._row_of(entry, recorded_by=self._by) if isinstance(entry, Decided) else feedback_row(entry)
        except Exception as error:  # whatever somebody handed over for a decision
            # Its kind alone: the text may quote what was asked or answered.
            logger.warning("an entry of the ledger is none and is dropped (%s)", type(error).__name__)
            return None

    def _look_after(self, feedback: Sequence[str]) -> None:
        if not feedback:
            return
        try:
            self._after_feedback(self.database, feedback)
        except RegistryError as error:
            # Nothing is lost: the next feedback is looked at together with this one.
            logger.info("what feedback says of the gate's promises could not be looked at: %s", error)
        except Exception:
            logger.exception("what feedback says of the gate's promises could not be looked at")

    def _unreported(self) -> int:
        return self.queue.counts.dropped - self._reported_drops

    def _drop_report(self) -> DropReport | None:
        """What is to be reported with this batch; a report that may have come through is sent again as it was."""
        if self._report is None and (count := self._unreported()):
            self._report = DropReport(random.SystemRandom().getrandbits(62), count, self._by)
        return self._report

    def _warn_of_drops(self) -> None:
        dropped = self.queue.counts.dropped
        if dropped > self._warned_drops and self._warn(
            "drops",
            f"the ledger has dropped {dropped} entries since it was opened; "
            f"its queue holds {self.queue.capacity}: a larger capacity, or a faster database, keeps more",
        ):
            self._warned_drops = dropped

    def _warn(self, topic: str, message: str) -> bool:
        """Log a warning, unless one of its topic was logged a short while ago."""
        now = time.monotonic()
        if now - self._warned_at.get(topic, float("-inf")) < _SECONDS_BETWEEN_WARNINGS:
            return False
        self._warned_at[topic] = now
        logger.warning(message)
        return True
