"""Scopes: nested blocks of code that watch what runs in them; a context variable holds the innermost one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import TypeVar


class Scoped:
    """A watcher: it is in a context variable while its block of code runs, and knows the watcher around it."""

    _around: Scoped | None = None
    _is_left = False


Watcher = TypeVar("Watcher", bound=Scoped)


@contextmanager
def scope(variable: ContextVar[Watcher | None], make: Callable[[Watcher | None], Watcher]) -> Iterator[Watcher]:
    """Make a watcher the innermost one while the block runs; tasks that are started in the block inherit it.

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
        # Not reset by the token: a generator may be closed in another context than it was started in, where the token
        # is invalid; and blocks in generators are not always left in the order of their nesting.
        if variable.get() is watcher:
            variable.set(innermost(around))


def innermost(watcher: Watcher | None) -> Watcher | None:
    """The watcher, or the next one around it whose block has not been left.

    A task keeps the context that it was started in, even after the block was left; what it does then belongs to the
    next block around that is still open.
    """
    found: Scoped | None = watcher
    while found is not None and found._is_left:
        found = found._around
    return found  # type: ignore[return-value]  # the watcher around it was in the same variable, so of the same type


class QuietLock:
    """A lock that a finalizer can use without a deadlock.

    The garbage collector may run a finalizer at any time, also while its thread holds the lock that the finalizer
    needs: it would wait for itself. So the finalizer asks ``may_wait()`` first, and puts its work off where that is
    False.

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
        """Whether this thread neither holds such a lock nor waits for one."""
        return not getattr(cls._held, "depth", 0)

    def __enter__(self) -> None:
        # Counted before the lock is taken, so that a finalizer never finds it held and not counted.
        self._held.depth = getattr(self._held, "depth", 0) + 1
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()
        self._held.depth -= 1
