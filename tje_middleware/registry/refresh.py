"""The thread that keeps what is known of a registry fresh."""

from __future__ import annotations

import contextlib
import logging
import math
import random
import threading
import time
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from .listening import Listening, Sleep
from .tasks import Task, jittered

if TYPE_CHECKING:
    from .cache import Following

_log = logging.getLogger("tje_middleware.registry")

# What there is not yet is looked for this often, but not for every decision.
RETRY_SECONDS = 5.0
# After a failure it is tried again at the latest after this long, so that a database that is back is soon heard of.
_LONGEST_RETRY_SECONDS = 5.0
# A reading that takes longer than this is taken for failed until it is done.
_PATIENCE_SECONDS = 2.0
# Replicas that hear of a change together ask within this time, not at once.
_SPREAD_SECONDS = 0.1
# How long close() waits for what is at work, so that it is not cut off, and does not leave a connection open.
_JOIN_SECONDS = 1.0


class Refresher:
    """One thread, which ends with :meth:`stop` or when nobody has what it keeps fresh any more.

    It does nothing that may hang: every piece of work gets a thread of its own, and this one keeps the time.
    """

    def __init__(self, following: Following) -> None:
        self._sleep = sleep = Sleep()
        self._following = weakref.ref(following, lambda _gone: sleep.ring())
        self._stopped = False
        self._done: SimpleQueue[Task] = SimpleQueue()
        self._heard: SimpleQueue[Listening] = SimpleQueue()
        self._listening: Listening | None = None
        longest = min(following.refresh_seconds, _LONGEST_RETRY_SECONDS)
        self._ask = self._task(lambda one: one.answer_flights(), longest)
        self._seek = self._task(lambda one: one.seek_missing(), longest)
        self._refresh = self._task(lambda one: one.refresh_all(), longest)
        self._report = self._task(lambda one: one.store_alarms(), longest)
        self._listen = self._task(self._connect, _LONGEST_RETRY_SECONDS)
        self._tasks = (self._ask, self._seek, self._refresh, self._report, self._listen)
        self._reporting: Following | None = None  # while it has alarms to store, though nobody else has it any more
        self._leave_now = self._leaving = False
        self._hurried = False
        self._late = False
        self._down = False
        self._thread = threading.Thread(target=self._run, name="tje-registry", daemon=True)

    def start(self) -> bool:
        """Start the thread; False where there is none to be had."""
        try:
            self._thread.start()
        except RuntimeError:  # out of threads, or the interpreter is going
            self._sleep.close()
            return False
        return True

    def wake(self) -> None:
        """Somebody waits for a key."""
        self._sleep.ring()

    def report(self, following: Following) -> None:
        """There is an alarm to store, also where nobody has what is followed any more."""
        self._reporting = following
        self._sleep.ring()

    def leave(self) -> None:
        """The process is about to end: store the alarms now, on the thread that there is."""
        self._leave_now = True
        self._sleep.ring()

    def hurry(self) -> None:
        """Read all that is known now."""
        self._hurried = True
        self._sleep.ring()

    def stop(self) -> None:
        """End the thread and its connection."""
        self._stopped = True
        self._sleep.ring()
        end = time.monotonic() + _JOIN_SECONDS
        if self._thread is not threading.current_thread():
            self._thread.join(_JOIN_SECONDS)
        for task in self._tasks:
            task.finish(max(0.0, end - time.monotonic()))

    def _task(self, work: Callable[[Following], None], longest_retry: float) -> Task:
        def run() -> None:
            if (following := self._following()) is not None:
                work(following)

        return Task(run, self._done, self._sleep.ring, longest_retry)

    def _run(self) -> None:
        try:
            self._keep_fresh()
        finally:
            self._stopped = True
            self._reporting = None
            self._hang_up()
            with contextlib.suppress(Empty):
                while True:
                    self._heard.get_nowait().close()
            self._sleep.close()
            if (following := self._following()) is not None:
                following.left_by(self)

    def _keep_fresh(self) -> None:
        first = True
        while not self._stopped and (following := self._following()) is not None:
            if first:
                self._plan(following)
                first = False
            until = self._step(following)
            del following  # asleep, it holds nobody back from being forgotten
            if self._sleep.until(until, self._listening):
                self._hear()

    def _plan(self, following: Following) -> None:
        self._refresh.within(following.known.oldest() + jittered(following.refresh_seconds) - time.monotonic())
        if not following.database.is_sqlite:
            self._listen.within(0)

    def _step(self, following: Following) -> float:
        """Begin what is due; returns the seconds until there is more to do."""
        with contextlib.suppress(Empty):
            while True:
                self._settle(self._done.get_nowait(), following)
        if self._hurried:
            self._hurried = False
            self._refresh.within(0)
        if following.is_asked and self._ask.begun is None:
            self._ask.within(0)
        if following.known.missing():
            self._seek.within(jittered(min(following.refresh_seconds, RETRY_SECONDS)))
        self._reporting = None  # in this order: alarms that come meanwhile set it again
        if following.has_alarms:
            self._reporting = following
            if not self._report.failures:
                self._report.within(0)
        if self._leave_now:
            self._leave_now, self._leaving = False, True
            self._report.within(0)
        self._watch(following)
        now = time.monotonic()
        for task in self._tasks:
            if task.begun is None and task.due <= now:
                task.do() if self._leaving and task is self._report else task.begin()
        deadlines = [task.due for task in self._tasks if task.begun is None]
        if self._refresh.begun is not None and not self._late:
            deadlines.append(self._refresh.begun + _PATIENCE_SECONDS)
        until = min(deadlines) - now
        return until if math.isfinite(until) else RETRY_SECONDS

    def _settle(self, task: Task, following: Following) -> None:
        task.settle()
        if task is self._listen and task.error is None:
            with contextlib.suppress(Empty):
                self._listening = self._heard.get_nowait()
                self._refresh.within(0)  # what was changed before is told by nobody
        elif task is self._listen:
            if task.failures == 1:
                _log.info("%s", task.error)
                self._refresh.within(0)  # it may be more than the connection that is gone
        elif task is self._ask and task.error is not None:
            self._seek.within(max(0.0, task.due - time.monotonic()))
        elif task is self._refresh:
            self._late = False
            self._refreshed(following)

    def _refreshed(self, following: Following) -> None:
        error = self._refresh.error
        if error is None:
            self._refresh.within(jittered(following.refresh_seconds))
            if self._down:
                _log.info("%s is back: profiles are refreshed again", following.database.url)
                if self._listening is None and not following.database.is_sqlite:
                    self._listen.within(0)
        elif not self._down:
            seen = following.known.has_profiles()
            serves = (
                "the last profiles seen serve, marked stale" if seen else "no profile was seen yet, and none serves"
            )
            _log.warning("%s: %s", serves, error)
        self._down = error is not None

    def _watch(self, following: Following) -> None:
        """A reading that does not come back is a failure, too."""
        begun = self._refresh.begun
        if begun is None or self._late or time.monotonic() - begun < _PATIENCE_SECONDS:
            return
        self._late = True
        following.fail_reading(f"{following.database.url} has not answered for {_PATIENCE_SECONDS:g} seconds")

    def _connect(self, following: Following) -> None:
        listening = Listening(following.database)
        self._heard.put(listening)
        if self._stopped:
            listening.close()

    def _hear(self) -> None:
        assert self._listening is not None
        try:
            if self._listening.heard():
                self._refresh.within(random.uniform(0, _SPREAD_SECONDS))
        except Exception as error:
            _log.info("%s", error)
            self._hang_up()
            self._refresh.within(0)
            self._listen.within(random.uniform(0, _SPREAD_SECONDS))

    def _hang_up(self) -> None:
        if self._listening is not None:
            self._listening.close()
            self._listening = None
