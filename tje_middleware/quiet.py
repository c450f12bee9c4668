"""Locks that what the garbage collector runs does not wait for."""

from __future__ import annotations

import threading
from types import TracebackType


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
