"""When a process ends: what waits to be written is written, in bounded time."""

from __future__ import annotations

import atexit
import os
import sys
import time
import weakref
from typing import Any, Protocol, cast

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


def remember(one: Leaving) -> None:
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
