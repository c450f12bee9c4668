"""Streams of chunks: holding back the last chunk that has a place for the decision, and closing streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Generic, TypeVar

Chunk = TypeVar("Chunk")


def marked(chunks: Iterator[Chunk], has_place: Callable[[Chunk], bool]) -> Iterator[tuple[Chunk, bool]]:
    """The chunks in their order, one of them marked: the last that has a place; the last of all where none has.

    Example:
        >>> list(marked(iter("aB"), str.isupper)), list(marked(iter("aBc"), str.isupper))
        ([('a', False), ('B', True)], [('a', False), ('B', True), ('c', False)])
    """
    held = _Held(has_place)
    for chunk in chunks:
        for released in held.take(chunk):
            yield released, False
    yield from held.end()


async def amarked(
    chunks: AsyncIterator[Chunk], has_place: Callable[[Chunk], bool]
) -> AsyncIterator[tuple[Chunk, bool]]:
    """The same on the event loop."""
    held = _Held(has_place)
    async for chunk in chunks:
        for released in held.take(chunk):
            yield released, False
    for last, is_marked in held.end():
        yield last, is_marked


@contextmanager
def closed(chunks: Iterator[Chunk]) -> Iterator[Iterator[Chunk]]:
    """Close a stream when the block is left, however that happens, as the tokens of an open request are paid for."""
    try:
        yield chunks
    finally:
        close = getattr(chunks, "close", None)  # not every iterator has a close method
        if close is not None:
            close()


@asynccontextmanager
async def aclosed(chunks: AsyncIterator[Chunk]) -> AsyncIterator[AsyncIterator[Chunk]]:
    """The same on the event loop, which would close an abandoned stream only at some later time."""
    try:
        yield chunks
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


class _Held(Generic[Chunk]):
    """Holds the chunk that may be the one to mark, and those that came after it."""

    def __init__(self, has_place: Callable[[Chunk], bool]) -> None:
        self._has_place = has_place
        self._chunks: list[Chunk] = []

    def take(self, chunk: Chunk) -> list[Chunk]:
        """Hold a chunk; returns those held that cannot be the one to mark any more."""
        if self._chunks and self._has_place(self._chunks[0]) and not self._has_place(chunk):
            self._chunks.append(chunk)
            return []
        released, self._chunks = self._chunks, [chunk]
        return released

    def end(self) -> Iterator[tuple[Chunk, bool]]:
        """The chunks held, the first one marked."""
        for number, chunk in enumerate(self._chunks):
            yield chunk, number == 0
