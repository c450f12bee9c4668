"""How an LLM is asked for a stream: for all that is wanted with it, and after each refusal for less."""

from __future__ import annotations

import gc
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from itertools import islice
from types import AsyncGeneratorType, CellType, FrameType, GeneratorType
from typing import Any, TypeVar

from llama_index.core.llms import LLM

from tje_middleware import TokenUsage
from tje_middleware.calls.request import DraftRequest, LogprobsCapabilities, may_refuse
from tje_middleware.calls.streams import aclosed
from tje_middleware.calls.usage import usage_of

from ..answers.responses import Response, Tokens, decision_in, spent_on, tokens_of
from .requests import LLMCall, LogprobsArguments, Settings, model_of, tells_usage_when_asked, with_usage

Chunk = TypeVar("Chunk")


class StreamRequest:
    """The settings of one request for a stream, as far as its provider takes them.

    Errors that only quote the request look like refusals: what is left out is remembered when a stream came without.

    Args:
        llm: Who is asked.
        settings: What the caller set.
        capabilities: Where refusals are remembered.
        usage: Whether the stream is to tell what it costs, which many providers say only when asked.
        logprobs: How to ask for logprobs; None where they are not wanted.
    """

    def __init__(
        self,
        llm: LLM,
        settings: Settings,
        capabilities: LogprobsCapabilities,
        *,
        usage: bool = True,
        logprobs: tuple[LogprobsArguments, DraftRequest] | None = None,
    ) -> None:
        self._plain = settings
        self._capabilities = capabilities
        self._model = model_of(llm, settings) or type(llm).__name__
        tells_usage = tells_usage_when_asked(llm, settings) and capabilities.may_ask_usage(self._model)
        self._usage_is_wanted = usage and tells_usage
        self._usage = self._usage_is_wanted
        self._request = logprobs[1] if logprobs is not None else None
        self._logprobs = logprobs if logprobs is not None and logprobs[1].may_ask(streamed=True) else None

    @property
    def settings(self) -> dict[str, Any]:
        """What to ask with."""
        settings = dict(self._plain) if self._logprobs is None else self._logprobs[0].added_to(self._plain)
        return with_usage(settings) if self._usage else settings

    def after(self, error: Exception) -> None:
        """Ask for less from now on.

        Raises:
            Exception: the error itself, where it is no refusal of what was asked for.
        """
        if self._usage and may_refuse("stream_options", error):
            self._usage = False
            return
        if self._logprobs is None:
            raise error
        self._logprobs[1].note_refusal(error, streamed=True)
        self._logprobs = None
        self._usage = self._usage_is_wanted  # without it nothing came either: it may not be what was refused

    def answered(self) -> None:
        """Remember what was refused on the way to a stream that came."""
        if self._usage_is_wanted and not self._usage:
            self._capabilities.remember_refused_usage(self._model)
        if self._request is not None:
            self._request.answered(None)


def counted(call: LLMCall, capabilities: LogprobsCapabilities) -> Iterator[Any]:
    """A call's answer as it is written, and what it costs."""
    request = StreamRequest(call.llm, call.settings, capabilities, usage=call.tells_usage)
    return streamed(lambda settings: replace(call, settings=settings).stream(), request)


def acounted(call: LLMCall, capabilities: LogprobsCapabilities) -> AsyncIterator[Any]:
    """The same on the event loop."""
    request = StreamRequest(call.llm, call.settings, capabilities, usage=call.tells_usage)
    return astreamed(lambda settings: replace(call, settings=settings).astream(), request)


def streamed(call: Callable[[dict[str, Any]], Iterator[Chunk]], request: StreamRequest) -> Iterator[Chunk]:
    """The stream that a call gives; it is closed with this one, however that is left."""
    while True:
        try:
            # Some LLMs make the request at once, others when the first chunk is asked for.
            chunks = call(request.settings)
            first = list(islice(chunks, 1))
        except Exception as error:  # noqa: PERF203  # what is tried again is not tried often
            request.after(error)
        else:
            request.answered()
            yield from released(chunks, *first)
            return


async def astreamed(
    call: Callable[[dict[str, Any]], Awaitable[AsyncIterator[Chunk]]], request: StreamRequest
) -> AsyncIterator[Chunk]:
    """The same on the event loop."""
    while True:
        try:
            chunks = await call(request.settings)
            first = [chunk] if (chunk := await anext(chunks, None)) is not None else []
        except Exception as error:  # noqa: PERF203
            request.after(error)
        else:
            request.answered()
            async with aclosed(areleased(chunks, *first)) as source:
                async for chunk in source:
                    yield chunk
            return


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

    LlamaIndex gives out a generator around the one that reads from the client, and closing the outer one leaves the
    inner one, and the request, open until the garbage collector finds them. There is no reference from the one to
    the other but in the frames of generators. These are only looked through: one that an LLM reads from may be its
    user's own.
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


class StreamUsage:
    """Adds up a stream: what its provider says of it in the end; until then, or if it never does, a lower bound."""

    def __init__(self) -> None:
        self._written = 0
        self._said = Tokens()

    def after(self, chunk: Response) -> TokenUsage:
        """What the stream cost so far, with this chunk."""
        if decision_in(chunk) is not None:  # of a gated LLM, which knows
            return spent_on(chunk)
        self._written += int(bool(chunk.delta))
        said = tokens_of(chunk)
        if said != Tokens():
            self._said = said
        read, written = self._said
        if written is None:
            return TokenUsage(read or 0, self._written, calls=1, partly_known=1)
        return usage_of(read, written)
