"""Closing a stream so that its request ends.

LlamaIndex's LLMs hold their client's stream by nothing but a ``for`` loop, and OpenAI's client holds it in a cycle of
references: when such an LLM's generator is closed, the request goes on, and is paid for, until the garbage collector
happens to come by. So the generators that one reads from are looked up before it is closed, and closed after it.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Iterator
from types import AsyncGeneratorType, CellType, FrameType, GeneratorType
from typing import Any, TypeVar

Chunk = TypeVar("Chunk")


def released(stream: Iterator[Chunk], *ahead: Chunk) -> Iterator[Chunk]:
    """A stream that is closed together with all that it reads from, however it is left.

    Args:
        stream: The stream.
        ahead: Chunks of it that were read before.
    """
    try:
        yield from ahead
        for chunk in stream:  # noqa: UP028  # what is yielded from is closed first, and then shows nothing any more
            yield chunk
    finally:
        for each in [stream, *_read_from(stream)]:
            close = getattr(each, "close", None)  # an iterator that is no generator has nothing to close
            if close is not None:
                close()


async def areleased(stream: AsyncIterator[Chunk], *ahead: Chunk) -> AsyncIterator[Chunk]:
    """The same on the event loop."""
    try:
        for chunk in ahead:
            yield chunk
        async for chunk in stream:
            yield chunk
    finally:
        for each in [stream, *_read_from(stream)]:
            if isinstance(each, GeneratorType):
                each.close()
            elif hasattr(each, "aclose"):
                await each.aclose()


def _read_from(stream: object) -> list[Any]:
    """The generators that a suspended one reads from, the nearest first; none where it has ended."""
    found: list[Any] = []
    looked_at, to_look_at = {id(stream)}, [stream]
    for holder in to_look_at:
        for held in _held_by(holder):
            if id(held) in looked_at:
                continue
            looked_at.add(id(held))
            if isinstance(held, (GeneratorType, AsyncGeneratorType)):
                found.append(held)
                to_look_at.append(held)
            elif isinstance(held, (CellType, FrameType)) or _is_iterator(held):
                to_look_at.append(held)
    return found


def _held_by(holder: object) -> list[object]:
    """What a generator holds: also that over which it loops, which has no name."""
    if isinstance(holder, (GeneratorType, AsyncGeneratorType, CellType, FrameType)):
        return gc.get_referents(holder)
    return list(vars(holder).values())


def _is_iterator(thing: object) -> bool:
    """Whether it is an iterator of a class of its own, such as a client's stream."""
    kind = type(thing)
    return (hasattr(kind, "__next__") or hasattr(kind, "__anext__")) and hasattr(thing, "__dict__")
