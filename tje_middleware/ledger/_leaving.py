"""When a process ends or forks: what ledgers have not written yet is written, in bounded time, and once."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterable
from typing import Any, Protocol

#: A database that does not answer must not keep a process from ending.
SECONDS_TO_LEAVE = 5.0
#: Nor from forking; for all ledgers together.
SECONDS_TO_FORK = 1.0


class Leaving(Protocol):
    """What is told when its process ends or forks."""

    def leave(self, timeout: float) -> None:
        """The process is about to end."""

    def hurry(self) -> None:
        """It is about to be copied, and soon :meth:`before_fork` waits."""

    def before_fork(self, until: float) -> None:
        """It is about to be copied, and waits no longer than until then (monotonic)."""

    def after_fork_in_parent(self) -> None:
        """It has been copied."""

    def after_fork_in_child(self) -> None:
        """This is the copy."""


class _Writers:
    """Those of this process that somebody still uses."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.known: weakref.WeakSet[Leaving] = weakref.WeakSet()
        self.forking: list[Leaving] = []
        self.ended_by: int | None = None  # the process that was told to flush at its end

    def before_fork(self) -> None:
        self.lock.acquire()
        self.forking = list(self.known)
        until = time.monotonic() + SECONDS_TO_FORK
        for writer in self.forking:  # at the same time, as their databases may be one
            writer.hurry()
        for writer in self.forking:
            writer.before_fork(until)

    def after_fork_in_parent(self) -> None:
        for writer in self._forked():
            writer.after_fork_in_parent()
        self.lock.release()

    def after_fork_in_child(self) -> None:
        self.lock = threading.RLock()
        for writer in self._forked():
            writer.after_fork_in_child()

    def _forked(self) -> Iterable[Leaving]:
        forked, self.forking = self.forking, []
        return forked

    def flush(self) -> None:
        until = time.monotonic() + SECONDS_TO_LEAVE
        with self.lock:
            writers = list(self.known)
        for writer in writers:
            writer.leave(max(0.0, until - time.monotonic()))


_WRITERS = _Writers()
atexit.register(_WRITERS.flush)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_WRITERS.before_fork,
        after_in_parent=_WRITERS.after_fork_in_parent,
        after_in_child=_WRITERS.after_fork_in_child,
    )


def remember(writer: Leaving) -> None:
    """Tell a writer when this process ends or forks."""
    with _WRITERS.lock:
        _WRITERS.known.add(writer)


def flush_at_the_end_of_this_process() -> None:
    """Make sure that what is recorded here is flushed where ``atexit`` is passed over: in multiprocessing's children.

    They forget what was registered before they began, so that this is said when there is something to flush.
    """
    multiprocessing: Any = sys.modules.get("multiprocessing.util")
    if multiprocessing is not None and _WRITERS.ended_by != os.getpid():
        _WRITERS.ended_by = os.getpid()
        multiprocessing.Finalize(None, _WRITERS.flush, exitpriority=0)
