"""What query engines answer with: whole, as a stream that has begun, and followed to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from dataclasses import replace
from itertools import islice
from typing import TypeGuard

from llama_index.core.async_utils import asyncio_run
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse

from tje_middleware.calls.streams import aclosed, closed

from ..branches import EngineAnswer

#: One that is written while it is read.
StreamedAnswer = StreamingResponse | AsyncStreamingResponse


def is_streamed(answer: EngineAnswer) -> TypeGuard[StreamedAnswer]:
    """Whether an answer is still to come, in part at least."""
    return isinstance(answer, StreamedAnswer) and answer.response_txt is None and answer.response_gen is not None


def whole(answer: EngineAnswer) -> EngineAnswer:
    """An answer that has come to its end; a stream keeps its type, with its text as the only token."""
    if not is_streamed(answer):
        return answer
    if isinstance(answer, AsyncStreamingResponse):
        ended: EngineAnswer = asyncio_run(awhole(answer))
        return ended
    tokens = iter(answer.response_gen)
    with closed(tokens):
        text = "".join(tokens)
    return replace(answer, response_gen=_continued([text], tokens), response_txt=text)


async def awhole(answer: EngineAnswer) -> EngineAnswer:
    """The same on the event loop."""
    if not is_streamed(answer):
        return answer
    if isinstance(answer, StreamingResponse):  # it would block the loop
        return await asyncio.to_thread(whole, answer)
    tokens = aiter(answer.response_gen)
    async with aclosed(tokens):
        text = "".join([token async for token in tokens])
    return replace(answer, response_gen=_acontinued([text], tokens), response_txt=text)


def begun(answer: EngineAnswer) -> EngineAnswer:
    """An answer whose stream, if it is one, has given its first token, which comes again.

    Many engines call their LLM only then: what fails at once fails here, and whoever watches this sees the call. An
    asynchronous stream begins on its reader's event loop alone.
    """
    if not is_streamed(answer) or isinstance(answer, AsyncStreamingResponse):
        return answer
    tokens = iter(answer.response_gen)
    return replace(answer, response_gen=_continued(list(islice(tokens, 1)), tokens))


async def abegun(answer: EngineAnswer) -> EngineAnswer:
    """The same on the event loop."""
    if not is_streamed(answer):
        return answer
    if isinstance(answer, StreamingResponse):
        return await asyncio.to_thread(begun, answer)
    tokens = aiter(answer.response_gen)
    first = [token] if (token := await anext(tokens, None)) is not None else []
    return replace(answer, response_gen=_acontinued(first, tokens))


def followed(answer: StreamedAnswer, at_end: Callable[[], None]) -> StreamedAnswer:
    """A stream with a function that is called when it has ended or was left."""
    if isinstance(answer, StreamingResponse):
        return replace(answer, response_gen=_continued([], iter(answer.response_gen), at_end))
    return replace(answer, response_gen=_acontinued([], aiter(answer.response_gen), at_end))


def _continued(
    first: list[str], rest: Iterator[str], at_end: Callable[[], None] = lambda: None
) -> Generator[str, None, None]:
    try:
        with closed(rest):
            yield from first
            yield from rest
    finally:
        at_end()


async def _acontinued(
    first: list[str], rest: AsyncIterator[str], at_end: Callable[[], None] = lambda: None
) -> AsyncGenerator[str, None]:
    try:
        async with aclosed(rest):
            for token in first:
                yield token
            async for token in rest:
                yield token
    finally:
        at_end()
