"""Closing a stream so that its request ends.

LlamaIndex's LLMs hold their client's stream by nothing but a ``for`` loop, and OpenAI's client holds it in a cycle of
references: when such an LLM's generator is closed, the request goes on, and is paid for, until the garbage collector
happens to come by. So the client's streams are looked up before the generator is closed, and closed after it.
"""

from __future__ import annotations

import gc
import inspect
from collections.abc import AsyncIterator, Iterator
from types import AsyncGeneratorType, CellType, FrameType, GeneratorType
from typing import Any, TypeVar

Chunk = TypeVar("Chunk")


def released(stream: Iterator[Chunk], *ahead: Chunk) -> Iterator[Chunk]:
    """A stream that is closed together with the client's stream that it reads from, however it is left.

    Args:
        stream: The stream.
        ahead: Chunks of it that were read before.
    """
    try:
        yield from ahead
        for chunk in stream:  # noqa: UP028  # what is yielded from is closed first, and then shows nothing any more
            yield chunk
    finally:
        for each in [*_clients_streams(stream), stream]:
            close = getattr(each, "close", None)  # an iterator that is no generator has nothing to close
            if close is not None and not inspect.iscoroutinefunction(close):
                close()


async def areleased(stream: AsyncIterator[Chunk], *ahead: Chunk) -> AsyncIterator[Chunk]:
    """The same on the event loop."""
    try:
        for chunk in ahead:
            yield chunk
        async for chunk in stream:
            yield chunk
    finally:
        clients_streams = _clients_streams(stream)
        if hasattr(stream, "aclose"):
            await stream.aclose()
        for each in clients_streams:
            closing = each.close()
            if inspect.isawaitable(closing):
                await closing


def _clients_streams(stream: object) -> list[Any]:
    """The clients' streams that a suspended generator reads from; none where it has ended.

    Generators are only looked through: one that an LLM reads from may be its user's own.
    """
    found: list[Any] = []
    looked_at, to_look_at = {id(stream)}, [stream]
    for holder in to_look_at:
        for held in gc.get_referents(holder):
            if id(held) in looked_at:
                continue
            looked_at.add(id(held))
            if isinstance(held, (GeneratorType, AsyncGeneratorType, CellType, FrameType)):
                to_look_at.append(held)
            elif _is_clients_stream(held):
                found.append(held)
    return found


def _is_clients_stream(thing: object) -> bool:
    """Whether it is an iterator over an HTTP response that it can close, as the clients of OpenAI and others have."""
    kind = type(thing)
    is_iterator = hasattr(kind, "__next__") or hasattr(kind, "__anext__")
    return is_iterator and hasattr(kind, "close") and hasattr(getattr(thing, "response", None), "aclose")
