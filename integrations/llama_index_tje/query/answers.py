"""What query engines answer with: whole, as a stream that has begun, and with a decision in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, TypeGuard

from llama_index.core.async_utils import asyncio_run
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse

from tje_middleware import GateDecision
from tje_middleware.calls.streams import aclosed, closed
from tje_middleware.gate.decision import METADATA_KEY

from ..branches import EngineAnswer

#: One that is written while it is read.
Stream = StreamingResponse | AsyncStreamingResponse


def is_stream(answer: EngineAnswer) -> TypeGuard[Stream]:
    """Whether an answer is still to come, in part at least."""
    return isinstance(answer, Stream) and answer.response_txt is None and answer.response_gen is not None


def whole(answer: EngineAnswer) -> EngineAnswer:
    """An answer that has come to its end; a stream keeps its type, with its text as the only token."""
    if not is_stream(answer):
        return answer
    if isinstance(answer, StreamingResponse):
        return _with_text(answer, _text(answer.response_gen))
    return _with_text(answer, asyncio_run(_atext(answer.response_gen)))


async def awhole(answer: EngineAnswer) -> EngineAnswer:
    """The same on the event loop."""
    if not is_stream(answer):
        return answer
    if isinstance(answer, StreamingResponse):  # it would block the loop
        return await asyncio.to_thread(whole, answer)
    return _with_text(answer, await _atext(answer.response_gen))


def begun(answer: EngineAnswer) -> EngineAnswer:
    """An answer whose stream, if it is one, has given its first token, which comes again.

    Many engines call their LLM only then: what fails at once fails here, and whoever watches this sees the call. An
    asynchronous stream begins on its reader's event loop alone.
    """
    if not is_stream(answer) or isinstance(answer, AsyncStreamingResponse):
        return answer
    tokens = iter(answer.response_gen)
    return replace(answer, response_gen=_continued(list(islice(tokens, 1)), tokens))


async def abegun(answer: EngineAnswer) -> EngineAnswer:
    """The same on the event loop."""
    if not is_stream(answer):
        return answer
    if isinstance(answer, StreamingResponse):
        return await asyncio.to_thread(begun, answer)
    tokens = aiter(answer.response_gen)
    try:
        first = [await anext(tokens)]
    except StopAsyncIteration:
        first = []
    return replace(answer, response_gen=_acontinued(first, tokens))


def with_decision(answer: EngineAnswer, decision: GateDecision) -> EngineAnswer:
    """The answer with the decision in its metadata; answers belong to whoever made them, and are copied."""
    return replace(answer, metadata=noted(answer, decision))


def noted(answer: EngineAnswer, decision: GateDecision | None = None) -> dict[str, Any]:
    """An answer's metadata, for a copy of it, with the decision where there is one."""
    return {**(answer.metadata or {}), **({METADATA_KEY: decision.as_dict()} if decision is not None else {})}


def followed(answer: Stream, at_end: Callable[[], None]) -> Stream:
    """A stream of which is told that it has ended or was left."""
    if isinstance(answer, StreamingResponse):
        return replace(answer, response_gen=_followed(answer.response_gen, at_end))
    return replace(answer, response_gen=_afollowed(answer.response_gen, at_end))


def _with_text(answer: Stream, text: str) -> Stream:
    if isinstance(answer, StreamingResponse):
        return replace(answer, response_gen=_continued([text], iter(())), response_txt=text)
    return replace(answer, response_gen=_acontinued([text], _nothing()), response_txt=text)


def _text(tokens: Iterator[str]) -> str:
    with closed(tokens):
        return "".join(tokens)


async def _atext(tokens: AsyncIterator[str]) -> str:
    async with aclosed(tokens):
        return "".join([token async for token in tokens])


def _continued(first: list[str], rest: Iterator[str]) -> Generator[str, None, None]:
    with closed(rest):
        yield from first
        yield from rest


async def _acontinued(first: list[str], rest: AsyncIterator[str]) -> AsyncGenerator[str, None]:
    async with aclosed(rest):
        for token in first:
            yield token
        async for token in rest:
            yield token


async def _nothing() -> AsyncGenerator[str, None]:
    return
    yield  # what makes it a generator


def _followed(tokens: Iterator[str], at_end: Callable[[], None]) -> Generator[str, None, None]:
    try:
        with closed(tokens):
            yield from tokens
    finally:
        at_end()


async def _afollowed(tokens: AsyncIterator[str], at_end: Callable[[], None]) -> AsyncGenerator[str, None]:
    try:
        async with aclosed(tokens):
            async for token in tokens:
                yield token
    finally:
        at_end()
