"""When this process forks: what waits is written, no database file is open meanwhile, the child begins anew."""

from __future__ import annotations

import atexit
import getpass
import logging
import os
import platform
import sys
import threading
import time
import weakref
from typing import Any, Protocol, cast

_log = logging.getLogger("tje_middleware._process")

# A fork waits no longer than this for what is to be written before it, and then for files to be closed.
_SECONDS_TO_WRITE = 1.0
_PATIENCE_SECONDS = 5.0


class ForkAware:
    """What is told when its process forks, from :func:`tell_of_forks` on and until nobody has it any more.

    All of them are told before files have to be closed, so that there is still time to write something.
    """

    def hurry(self) -> None:
        """This process is about to be copied: begin what has to be done before."""

    def before_fork(self, until: float) -> None:
        """All were told to hurry: wait for it, but no longer than until then (monotonic, for all together)."""

    def after_fork_in_child(self) -> None:
        """This is the copy: threads, and whoever held a lock, are not in it."""


class OpenFiles:
    """How many files the threads of this process have open that a fork must not find open.

    SQLite keeps what it has locked in the process's memory. A child would believe that it holds the parent's locks,
    which it does not, and damage the file (https://sqlite.org/howtocorrupt.html, 2.6).
    """

    def __init__(self) -> None:
        self._begin({})

    def _begin(self, by_thread: dict[int, int]) -> None:
        self._changed = threading.Condition()
        self._by_thread = by_thread
        self._forking = False

    def open(self) -> int:
        """A file is about to be opened, which waits for a fork that is under way; returns what closes it."""
        me = threading.get_ident()
        with self._changed:
            # A thread that has one open must come to its end first.
            self._changed.wait_for(lambda: not self._forking or me in self._by_thread)
            self._by_thread[me] = self._by_thread.get(me, 0) + 1
        return me

    def close(self, opened: int) -> None:
        """The file that ``opened`` stands for is closed."""
        with self._changed:
            left = self._by_thread.get(opened, 0) - 1
            if left > 0:
                self._by_thread[opened] = left
            else:
                self._by_thread.pop(opened, None)
            self._changed.notify_all()

    def stand_still(self, seconds: float) -> bool:
        """Let no other thread open any more; whether all of them have closed theirs in time."""
        me = threading.get_ident()
        with self._changed:
            self._forking = True
            return self._changed.wait_for(lambda: not set(self._by_thread) - {me}, seconds)

    def go_on(self) -> None:
        """Let all threads open files again."""
        with self._changed:
            self._forking = False
            self._changed.notify_all()

    def start_anew_in_a_child(self) -> None:
        """Only the thread that forked is in the child."""
        me = threading.get_ident()
        self._begin({me: self._by_thread[me]} if me in self._by_thread else {})


class _Forks:
    """What is done around each fork of this process."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.known: weakref.WeakSet[ForkAware] = weakref.WeakSet()
        self._told: list[ForkAware] = []  # kept, as the child must not lose one between the two moments
        self._stood_still = True

    def before(self) -> None:
        self.lock.acquire()  # until after the fork: another thread's would not be given back in the child
        self._told = list(self.known)
        for one in self._told:  # at the same time, as their databases may be one
            one.hurry()
        until = time.monotonic() + _SECONDS_TO_WRITE
        for one in self._told:
            one.before_fork(until)
        self._stood_still = OPEN_FILES.stand_still(_PATIENCE_SECONDS)

    def after_in_parent(self) -> None:
        OPEN_FILES.go_on()
        self._told = []
        self.lock.release()
        if not self._stood_still:
            _log.warning(
                "forked while another thread had had a SQLite file open for %g seconds: the child must not use "
                "that file; start processes with the method spawn, or before the file is used",
                _PATIENCE_SECONDS,
            )

    def after_in_child(self) -> None:
        self.lock = threading.RLock()
        OPEN_FILES.start_anew_in_a_child()
        told, self._told = self._told, []
        for one in told:
            one.after_fork_in_child()


#: The SQLite files that connections of this process have open.
OPEN_FILES = OpenFiles()
_FORKS = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_FORKS.before, after_in_parent=_FORKS.after_in_parent, after_in_child=_FORKS.after_in_child
    )


def tell_of_forks(one: ForkAware) -> None:
    """Tell it when this process forks."""
    with _FORKS.lock:
        _FORKS.known.add(one)


def whoami() -> str:
    """User, host and process, as ``user@host:pid``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container whose user has no name
        user = "?"
    return f"{user}@{platform.node()}:{os.getpid()}"


#: A database that does not answer must not keep a process from ending.
SECONDS_TO_LEAVE = 5.0


class Leaving(Protocol):
    """What is told when its process ends."""

    def leave_soon(self) -> None:
        """The process is about to end: begin what has to be done before."""

    def leave(self, timeout: float) -> None:
        """The process is about to end, and waits no longer than this (seconds)."""


class _Leaving:
    """Those of this process that somebody still uses."""

    def __init__(self) -> None:
        # Not a set: one that a thread adds to while another goes through it raises.
        self.known: weakref.WeakValueDictionary[int, Leaving] = weakref.WeakValueDictionary()
        self.ended_by: int | None = None  # the process that was told to flush at its end

    def flush(self) -> None:
        until = time.monotonic() + SECONDS_TO_LEAVE
        leaving = [one for known in self.known.valuerefs() if (one := known()) is not None]
        for one in leaving:  # at the same time: a database that does not answer must not take the time of the others
            one.leave_soon()
        for one in leaving:
            one.leave(max(0.0, until - time.monotonic()))


_LEAVING = _Leaving()
atexit.register(_LEAVING.flush)


def tell_of_exit(one: Leaving) -> None:
    """Tell it when this process ends."""
    _LEAVING.known[id(one)] = one


def flush_at_the_end_of_this_process() -> None:
    """Make sure that what waits here is flushed where ``atexit`` is passed over: in multiprocessing's children.

    They forget what was registered before they began, so that this is said when there is something to write.
    """
    process, util = (cast("Any", sys.modules.get(f"multiprocessing.{name}")) for name in ("process", "util"))
    if process is None or util is None or process.parent_process() is None or _LEAVING.ended_by == os.getpid():
        return
    _LEAVING.ended_by = os.getpid()
    util.Finalize(None, _LEAVING.flush, exitpriority=0)
