"""Answers in chunks: the decision goes with the last one that has a place for it, so that one is held back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from tje_middleware import TokenUsage

from ._answer import message_in, usage_in

#: A chunk; and, for the one that the decision goes with, what the chunks before it said of usage; else None.
Marked = tuple[Any, TokenUsage | None]


def last_marked(chunks: Iterator[Any]) -> Iterator[Marked]:
    """The chunks in their order, the last message among them marked; the last chunk where none is a message."""
    held = _Held()
    for chunk in chunks:
        yield from held.take(chunk)
    yield from held.end()


async def alast_marked(chunks: AsyncIterator[Any]) -> AsyncIterator[Marked]:
    """The same on the event loop."""
    held = _Held()
    async for chunk in chunks:
        for released in held.take(chunk):
            yield released
    for released in held.end():
        yield released


@contextmanager
def closed(chunks: Iterator[Any]) -> Iterator[Iterator[Any]]:
    """A stream that is closed at once, however it was left: a request that nobody reads goes on being paid for."""
    try:
        yield chunks
    finally:
        close = getattr(chunks, "close", None)  # an iterator that is no generator has nothing to close
        if close is not None:
            close()


@asynccontextmanager
async def aclosed(chunks: AsyncIterator[Any]) -> AsyncIterator[AsyncIterator[Any]]:
    """The same on the event loop, which else closes an abandoned stream whenever it comes to it."""
    try:
        yield chunks
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


class _Held:
    """The chunk that may be the one to mark, and those that came after it."""

    def __init__(self) -> None:
        self._chunks: list[Any] = []
        self._told = TokenUsage()

    def take(self, chunk: Any) -> Iterator[Marked]:
        """Hold a chunk; gives those that are surely not the one to mark."""
        if self._chunks and message_in(self._chunks[0]) is not None and message_in(chunk) is None:
            self._chunks.append(chunk)
            return
        for released in self._chunks:
            self._told += usage_in(released)
            yield released, None
        self._chunks = [chunk]

    def end(self) -> Iterator[Marked]:
        """What is held, its first chunk marked."""
        for number, chunk in enumerate(self._chunks):
            yield chunk, None if number else self._told
