"""What one answer may take, in time and in size, whatever the server does.

An HTTP client's timeout is for one read: a server that sends a byte now and then is waited for for ever.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

import httpx

_MIB = 2**20
#: More than this is not read of one answer (bytes, unpacked); one with all that is asked for takes some 100 kB.
MOST_BYTES = 16 * _MIB

T = TypeVar("T")


class TooLongError(Exception):
    """An answer is longer than ``MOST_BYTES``."""

    def __init__(self) -> None:
        super().__init__(f"more than {MOST_BYTES // _MIB} MiB")


def within(timeout: float, ask: Callable[[], T]) -> T:
    """What ``ask`` returns or raises, if it does so in time.

    It runs in a thread of its own, as looking up a name and reading headers know no deadline.

    Args:
        timeout: How long it is waited for (seconds); the thread is left to itself then, and holds up no exit.
        ask: Asks.

    Raises:
        TimeoutError: the time is over.
    """
    asked = Future[T]()
    Thread(target=_settle, args=(asked, ask), name="tje-doctor", daemon=True).start()
    return asked.result(timeout)


def limiting(timeout: float) -> Callable[[httpx.Response], None]:
    """A hook of the client for responses, which bounds what is read of each: answers, refusals and redirections.

    Args:
        timeout: How long a body is read (seconds): it ends the thread that ``within`` has left to itself.
    """

    def limit(response: httpx.Response) -> None:
        # Unpacked here, as little may unpack to a lot.
        packed = httpx.Response(response.status_code, headers=response.headers, stream=response.stream)
        response.headers.pop("Content-Encoding", None)
        response.stream = _Limited(packed, time.monotonic() + timeout)

    return limit


class _Limited(httpx.SyncByteStream):
    """The body of a response, as far as the limits let it come."""

    def __init__(self, response: httpx.Response, end: float) -> None:
        self._response = response
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._response.iter_bytes():
            size += len(chunk)
            if size > MOST_BYTES:
                raise TooLongError
            if time.monotonic() > self._end:
                raise httpx.ReadTimeout("the answer is not whole in time")
            yield chunk

    def close(self) -> None:
        self._response.close()


def _settle(asked: Future[T], ask: Callable[[], T]) -> None:
    try:
        asked.set_result(ask())
    except BaseException as error:  # it is raised where the answer is waited for
        asked.set_exception(error)
