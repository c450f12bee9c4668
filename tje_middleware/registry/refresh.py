"""The threads that keep what is known of a registry fresh."""

from __future__ import annotations

import contextlib
import logging
import math
import random
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from ..errors import RegistryUnavailable
from ..storage import Database
from ..storage.postgres import CHANNEL
from .known import Readings

_log = logging.getLogger("tje_middleware.registry")

# A key without a profile is looked for so often, and not at every decision.
RETRY_SECONDS = 5.0
_FIRST_RETRY_SECONDS = 1.0
# After a failure it is tried again at the latest after this long, so that the end of an outage is soon noticed.
_LONGEST_RETRY_SECONDS = 5.0
# A reading that takes longer than this is taken for failed until it is done.
_PATIENCE_SECONDS = 2.0
# Replicas that hear of a change together ask within this time, not at once.
_SPREAD_SECONDS = 0.1
# So often a listener looks up whether it is to stop; psycopg itself does not sleep longer.
_LISTENING_SECONDS = 0.1
# No sleep is longer, as none may be without an end.
_LONGEST_SLEEP_SECONDS = 60.0
# How long close() waits for what is at work, so that it is not cut off, and does not leave a connection open.
_JOIN_SECONDS = 1.0


class Refresher:
    """A thread that begins each piece of work when it is due; it ends with :meth:`stop`, or when nobody looks up.

    It does nothing that may hang: every piece of work has a thread of its own, and this one keeps the time. What
    others want of it they put into its inbox: a queue that takes no lock, as the garbage collector may report an
    alarm, or free whoever looks up, in the middle of anything. ``ended`` is called with this object when the thread
    has ended, whether it was told to or broke.
    """

    def __init__(self, readings: Readings, ended: weakref.WeakMethod[Callable[[Refresher], None]]) -> None:
        self._inbox = inbox = SimpleQueue[Callable[[], object]]()
        self._readings = weakref.ref(readings, lambda _gone: inbox.put(_wake))
        self._ended = ended
        self._database, self._known = readings.database, readings.known
        self._refresh_seconds = readings.refresh_seconds
        self._stopped = False
        self._ask = self._task(Readings.answer_flights)
        self._seek = self._task(Readings.seek_missing)
        self._refresh = self._task(Readings.refresh_all)
        self._report = self._task(Readings.store_alarms)
        self._listen = Task(self._hear, self._done, _LONGEST_RETRY_SECONDS)
        self._tasks = (self._ask, self._seek, self._refresh, self._report, self._listen)
        # Held while there are alarms to store, also where nobody else has it any more.
        self._reporting: Readings | None = None
        self._leaving = False
        self._late = False
        self._down = False
        self._thread = threading.Thread(target=self._run, name="tje-registry", daemon=True)

    def start(self) -> bool:
        """Start the thread; False where there is none to be had."""
        try:
            self._thread.start()
        except RuntimeError:  # out of threads, or the interpreter is going
            return False
        return True

    def wake(self, reporting: Readings | None = None) -> None:
        """Somebody waits for a key; or there is an alarm to store, also where nobody has the readings any more."""
        if reporting is not None:
            self._reporting = reporting
        self._inbox.put(_wake)

    def hurry(self) -> None:
        """Read all that is known now."""
        self._inbox.put(partial(self._refresh.within, 0))

    def leave(self) -> None:
        """The process is about to end: store the alarms now, on the thread that there is."""
        self._leaving = True
        self._inbox.put(partial(self._report.within, 0))

    def stop(self) -> None:
        """End the threads and the connection."""
        self._stopped = True
        self._inbox.put(_wake)
        end = time.monotonic() + _JOIN_SECONDS
        for thread in (self._thread, *(task.thread for task in self._tasks)):
            if thread is not None and thread is not threading.current_thread():
                thread.join(max(0.0, end - time.monotonic()))

    def _task(self, work: Callable[[Readings], None]) -> Task:
        def run() -> None:
            if (readings := self._readings()) is not None:
                work(readings)

        return Task(run, self._done, min(self._refresh_seconds, _LONGEST_RETRY_SECONDS))

    def _done(self, task: Task) -> None:
        self._inbox.put(partial(self._settle, task))

    def _run(self) -> None:
        try:
            self._keep_fresh()
        finally:
            self._stopped = True
            self._reporting = None
            if (ended := self._ended()) is not None:
                ended(self)

    def _keep_fresh(self) -> None:
        self._refresh.within(self._known.oldest() + jittered(self._refresh_seconds) - time.monotonic())
        if not self._database.is_sqlite:
            self._listen.within(0)
        while not self._stopped and (readings := self._readings()) is not None:
            pause = self._step(readings)
            del readings  # while it sleeps, this thread must not be what keeps it from being forgotten
            with contextlib.suppress(Empty):
                wish = self._inbox.get(timeout=max(0.0, pause))
                while True:  # many threads that wait for keys wish the same
                    wish()
                    wish = self._inbox.get_nowait()

    def _step(self, readings: Readings) -> float:
        """Begin what is due; returns the seconds until there is more to do."""
        if readings.flights and self._ask.begun is None:
            self._ask.within(0)
        if self._known.missing():
            self._seek.within(jittered(min(self._refresh_seconds, RETRY_SECONDS)))
        self._reporting = None  # before looking for alarms: one that comes meanwhile sets it again
        if readings.unstored_alarms:
            self._reporting = readings
            if not self._report.failures:
                self._report.within(0)
        now = time.monotonic()
        for task in self._tasks:
            if task.begun is None and task.due <= now:
                task.begin(here=self._leaving and task is self._report)
        deadlines = [now + _LONGEST_SLEEP_SECONDS, *(task.due for task in self._tasks if task.begun is None)]
        if self._refresh.begun is not None and not self._late:
            late_at = self._refresh.begun + _PATIENCE_SECONDS
            if late_at > now:
                deadlines.append(late_at)
            else:  # a reading that does not come back is a failure, too
                self._late = True
                said = f"{self._database.url} has not answered for {_PATIENCE_SECONDS:g} seconds"
                self._known.fail(readings.last_reading, said)
        return min(deadlines) - now

    def _settle(self, task: Task) -> None:
        task.settle()
        if task is self._refresh:
            self._late = False
            self._refreshed()
        elif task is self._ask and task.error is not None:
            self._seek.within(max(0.0, task.due - time.monotonic()))
        elif task is self._listen and task.failures == 1:
            _log.info("%s", task.error)
            self._refresh.within(0)  # it may be more than the connection that is gone
            self._listen.within(random.uniform(0, _SPREAD_SECONDS))

    def _refreshed(self) -> None:
        error = self._refresh.error
        if error is None:
            self._refresh.within(jittered(self._refresh_seconds))
            if self._down:
                _log.info("%s is back: profiles are refreshed again", self._database.url)
                if self._listen.begun is None and not self._database.is_sqlite:
                    self._listen.within(0)
        elif not self._down:
            serves = "no profile was seen yet, and none serves"
            if any(answer.profile is not None for answer in self._known.last().values()):
                serves = "the last profiles seen serve, marked stale"
            _log.warning("%s: %s", serves, error)
        self._down = error is not None

    def _hear(self) -> None:
        listen(self._database, lambda: self._inbox.put(self._heard), lambda: self._stopped)

    def _heard(self) -> None:
        self._listen.failures = 0
        self._refresh.within(random.uniform(0, _SPREAD_SECONDS))


class Task:
    """Work that is done again and again, one piece at a time, each on a thread of its own.

    A thread of its own, as a database that hangs must hold nobody up. All but the work is called by one thread.
    ``work`` raises where it failed; ``done`` is called with this task, on the thread of the piece, when that is done;
    after a failure it rests ``longest_retry`` seconds at most.
    """

    def __init__(self, work: Callable[[], None], done: Callable[[Task], None], longest_retry: float) -> None:
        #: When the next piece is due (seconds of the monotonic clock); infinite: it is not.
        self.due = math.inf
        #: When the piece at hand was begun; None: there is none.
        self.begun: float | None = None
        #: Why the last piece failed, in words; None: it did not. The error itself would keep alive, by the frames of
        #: its traceback, whoever looks up, and so this thread would never end.
        self.error: str | None = None
        self.failures = 0
        #: Of the last piece that has begun.
        self.thread: threading.Thread | None = None
        self._work = work
        self._done = done
        self._longest_retry = longest_retry

    def within(self, seconds: float) -> None:
        """Have a piece begun within this time, or as soon as the one at hand is done."""
        self.due = min(self.due, time.monotonic() + seconds)

    def begin(self, *, here: bool = False) -> None:
        """Begin a piece, on a thread of its own or here: where a process ends, none can be started."""
        self.due, self.begun = math.inf, time.monotonic()
        if here:
            self._run()
            return
        thread = threading.Thread(target=self._run, name="tje-registry-work", daemon=True)
        try:
            thread.start()
            self.thread = thread
        except RuntimeError as error:  # out of threads, or the interpreter is going
            self.error = f"no thread to ask the registry on: {error}"
            self._done(self)

    def settle(self) -> None:
        """A piece is done: count it, and where it failed have the next one begun after a rest."""
        self.begun = None
        if self.error is None:
            self.failures = 0
            return
        self.failures += 1
        rest = _FIRST_RETRY_SECONDS * 2 ** min(self.failures - 1, 16)
        self.within(jittered(min(rest, self._longest_retry)))

    def _run(self) -> None:
        self.error = None
        try:
            self._work()
        except Exception as error:
            self.error = str(error) or type(error).__name__
        self._done(self)


def listen(database: Database, heard: Callable[[], None], is_stopped: Callable[[], bool]) -> None:
    """Have PostgreSQL tell of changes on a connection of its own.

    Args:
        database: On PostgreSQL.
        heard: Called when there may have been changes: once it listens, and then for each.
        is_stopped: Asked every tenth of a second whether to return.

    Raises:
        RegistryUnavailable: there is no connection, or it was lost.
    """
    dialect = database.engine.dialect
    args, options = dialect.create_connect_args(database.engine.url)
    try:
        connection: Any = dialect.connect(*args, **options, autocommit=True)
        with contextlib.closing(connection):
            connection.execute(f"LISTEN {CHANNEL}")
            heard()
            while not is_stopped():
                if list(connection.notifies(timeout=_LISTENING_SECONDS, stop_after=1)):
                    heard()
    except dialect.loaded_dbapi.Error as error:
        # Not chained anywhere: the driver's words may hold the URL's secrets.
        said = " ".join(database.url.scrubbed(str(error)).split())
        raise RegistryUnavailable(f"{database.url}: no word of changes: {said}") from None


def jittered(seconds: float) -> float:
    """A tenth more or less, so that replicas that started together do not ask together."""
    return seconds * random.uniform(0.9, 1.1)


def _wake() -> None:
    """What is put into an inbox so that its thread looks again what there is to do."""
