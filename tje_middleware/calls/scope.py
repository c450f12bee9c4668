"""Blocks of code that watch what runs in them, also within one another: the innermost is in a context variable."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import TypeVar


class Scoped:
    """What stands in a context variable while a block of code runs; knows the one of the block around it."""

    _around: Scoped | None = None
    _is_left = False


Watcher = TypeVar("Watcher", bound=Scoped)


@contextmanager
def scope(variable: ContextVar[Watcher | None], make: Callable[[Watcher | None], Watcher]) -> Iterator[Watcher]:
    """Put a watcher into the context of the block, which the tasks that are started there get a copy of.

    Example:
        >>> innermost: ContextVar[Scoped | None] = ContextVar("innermost", default=None)
        >>> with scope(innermost, lambda around: Scoped()) as watcher:
        ...     innermost.get() is watcher
        True
        >>> innermost.get() is None
        True

    Args:
        variable: Holds the innermost watcher.
        make: Makes the watcher, given that of the block around this one.
    """
    around = innermost(variable.get())
    watcher = make(around)
    watcher._around = around
    variable.set(watcher)
    try:
        yield watcher
    finally:
        watcher._is_left = True
        # Not by token: a generator may be closed in another context than it was started in, which this block then
        # never was entered in; and blocks in generators are not always left in the order of their nesting.
        if variable.get() is watcher:
            variable.set(innermost(around))


def innermost(watcher: Watcher | None) -> Watcher | None:
    """The watcher, or the next around it whose block is not left yet.

    A task keeps the context that it was started in, also when the block is left: what it does later is done within
    whatever is still open around that.
    """
    found: Scoped | None = watcher
    while found is not None and found._is_left:
        found = found._around
    return found  # type: ignore[return-value]  # what is around a watcher came out of the same variable


class QuietLock:
    """A lock of which a finalizer can ask whether its thread holds one.

    The garbage collector may run a finalizer in the middle of anything, also of a block that holds a lock; one that
    waited for the same lock would wait for itself. It asks ``may_wait()`` first, and else leaves its work for later.

    Example:
        >>> lock = QuietLock()
        >>> with lock:
        ...     QuietLock.may_wait()
        False
        >>> QuietLock.may_wait()
        True
    """

    _held = threading.local()

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @classmethod
    def may_wait(cls) -> bool:
        """Whether this thread holds no such lock, and waits for none."""
        return not getattr(cls._held, "depth", 0)

    def __enter__(self) -> None:
        # Counted before the lock is taken: there is no moment between the two in which it is held and not counted.
        self._held.depth = getattr(self._held, "depth", 0) + 1
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
        self._held.depth -= 1
