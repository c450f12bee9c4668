"""How an LLM is asked for a stream: for all that is wanted with it, and after each refusal for less."""

from __future__ import annotations

import gc
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from itertools import islice
from types import AsyncGeneratorType, CellType, FrameType, GeneratorType
from typing import Any, NamedTuple

from tje_middleware import TokenUsage
from tje_middleware.calls.refusal import may_refuse
from tje_middleware.calls.request import DraftRequest, LogprobsCapabilities
from tje_middleware.calls.usage import usage_of

from ..answers.responses import LLMResponse, Tokens, decision_in, spent_on, tokens_of
from .requests import LLMCall, Settings, model_of, tells_usage_when_asked


class WantedLogprobs(NamedTuple):
    """How logprobs are added to a request's settings, and the request, which knows whether its model refuses them."""

    added_to: Callable[[Settings], dict[str, Any]]
    request: DraftRequest


def streamed(
    call: LLMCall, capabilities: LogprobsCapabilities, wanted: WantedLogprobs | None = None
) -> Iterator[Any]:
    """An answer as it is written; the provider's stream is closed with this one, however that is left.

    Args:
        call: What is asked. Its provider is also asked what the answer costs, which many say only then.
        capabilities: Where refusals are remembered.
        wanted: How to ask for logprobs; None where they are not wanted.
    """
    request = _StreamRequest(call, capabilities, wanted)
    while True:
        try:
            # Some LLMs make the request at once, others when the first chunk is asked for.
            chunks = request.call.stream()
            first = list(islice(chunks, 1))
        except Exception as error:  # noqa: PERF203  # what is tried again is not tried often
            request.ask_for_less(error)
        else:
            break
    request.answered()
    try:
        yield from first
        for chunk in chunks:  # noqa: UP028  # "yield from" would close the outer stream before the client's is found
            yield chunk
    finally:
        for each in [*_clients_streams(chunks), chunks]:
            close = getattr(each, "close", None)  # an iterator that is no generator has nothing to close
            if close is not None and not inspect.iscoroutinefunction(close):
                close()


async def astreamed(
    call: LLMCall, capabilities: LogprobsCapabilities, wanted: WantedLogprobs | None = None
) -> AsyncIterator[Any]:
    """The same on the event loop."""
    request = _StreamRequest(call, capabilities, wanted)
    while True:
        try:
            chunks = await request.call.astream()
            first = [chunk] if (chunk := await anext(chunks, None)) is not None else []
        except Exception as error:  # noqa: PERF203
            request.ask_for_less(error)
        else:
            break
    request.answered()
    try:
        for chunk in first:
            yield chunk
        async for chunk in chunks:
            yield chunk
    finally:
        clients_streams = _clients_streams(chunks)
        if hasattr(chunks, "aclose"):
            await chunks.aclose()
        for each in clients_streams:
            closing = each.close()
            if inspect.isawaitable(closing):
                await closing


class _StreamRequest:
    """One request for a stream, with as much of what is wanted as its provider takes.

    An error that only quotes the request looks like a refusal: what was left out is remembered as refused once a
    stream came without it.
    """

    def __init__(self, call: LLMCall, capabilities: LogprobsCapabilities, wanted: WantedLogprobs | None) -> None:
        self._call = call
        self._capabilities = capabilities
        self._model = model_of(call.llm, call.settings) or type(call.llm).__name__
        self._usage_is_wanted = (
            call.tells_usage
            and tells_usage_when_asked(call.llm, call.settings)
            and capabilities.may_ask_usage(self._model)
        )
        self._asks_usage = self._usage_is_wanted
        self._wanted = wanted
        self._asks_logprobs = wanted is not None and wanted.request.may_ask(streamed=True)

    @property
    def call(self) -> LLMCall:
        """The call with what is asked for by now."""
        settings = dict(self._call.settings)
        if self._wanted is not None and self._asks_logprobs:
            settings = self._wanted.added_to(settings)
        if self._asks_usage:
            settings["stream_options"] = {"include_usage": True}
        return replace(self._call, settings=settings)

    def ask_for_less(self, error: Exception) -> None:
        """Leave out what an error may refuse.

        Raises:
            Exception: the error itself, where it is no refusal of what was asked for.
        """
        if self._asks_usage and may_refuse("stream_options", error):
            self._asks_usage = False
        elif self._wanted is not None and self._asks_logprobs:
            self._wanted.request.note_refusal(error, streamed=True)
            self._asks_logprobs = False
            self._asks_usage = self._usage_is_wanted  # leaving it out did not help: it may not be what was refused
        else:
            raise error

    def answered(self) -> None:
        """Remember what was refused on the way to a stream that came."""
        if self._usage_is_wanted and not self._asks_usage:
            self._capabilities.remember_refused_usage(self._model)
        if self._wanted is not None:
            self._wanted.request.answered(None)


def _clients_streams(stream: object) -> list[Any]:
    """The clients' streams that a suspended generator reads from; none where it has ended.

    LlamaIndex wraps the generator that reads from the client in another one. Closing the outer one leaves the
    client's stream, which is part of a reference cycle, and with it the request open until the garbage collector
    comes by. Only the frames of the generators refer to it. What is found on the way is not closed: a generator that
    an LLM reads from may be its user's own.
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

    def after(self, chunk: LLMResponse) -> TokenUsage:
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
