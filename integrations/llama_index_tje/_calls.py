"""One request to one LLM, in the four ways in which LlamaIndex makes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from llama_index.core.llms import LLM

from tje_middleware.capability import is_refused_request
from tje_middleware.chunks import aclosed, closed

from ._answer import Response
from ._asked import AskedLLM
from ._asking import Kind, Settings, with_usage
from ._closing import areleased, released


@dataclass(frozen=True)
class LLMCall:
    """What an LLM is asked.

    Attributes:
        llm: The LLM.
        kind: Whether it is asked in messages or by a prompt.
        question: The messages, or the prompt.
        settings: All other arguments.
        finish: What is done with a whole answer before it is one.
    """

    llm: LLM
    kind: Kind
    question: Any
    settings: Settings = field(default_factory=dict)
    finish: Callable[[Response], Response] | None = None

    def whole(self) -> Response:
        """The answer."""
        answer: Response = getattr(self.llm, self.kind)(self.question, **self.settings)
        return answer if self.finish is None else self.finish(answer)

    async def awhole(self) -> Response:
        """The same on the event loop."""
        answer: Response = await getattr(self.llm, f"a{self.kind}")(self.question, **self.settings)
        return answer if self.finish is None else self.finish(answer)

    def chunks(self) -> Iterator[Response]:
        """The answer as it is written."""
        chunks: Iterator[Response] = getattr(self.llm, f"stream_{self.kind}")(self.question, **self.settings)
        yield from released(chunks)

    async def achunks(self) -> AsyncIterator[Response]:
        """The same on the event loop."""
        stream = await getattr(self.llm, f"astream_{self.kind}")(self.question, **self.settings)
        async with aclosed(areleased(stream)) as chunks:
            async for chunk in chunks:
                yield chunk


def counted(call: LLMCall) -> Iterator[Response]:
    """A call's answer as it is written, and what it costs: which many providers say of a stream only when asked."""
    asking = _asking_for_usage(call)
    chunks = asking.chunks()
    try:
        first = next(chunks, None)
    except Exception as error:
        if asking.settings == call.settings or not _refuses_usage(error):
            raise
        yield from call.chunks()
        return
    with closed(chunks):
        if first is not None:
            yield first
            yield from chunks


async def acounted(call: LLMCall) -> AsyncIterator[Response]:
    """The same on the event loop."""
    asking = _asking_for_usage(call)
    async with aclosed(asking.achunks()) as chunks:
        try:
            first = await anext(chunks, None)
        except Exception as error:
            if asking.settings == call.settings or not _refuses_usage(error):
                raise
        else:
            if first is not None:
                yield first
                async for chunk in chunks:
                    yield chunk
            return
    async with aclosed(call.achunks()) as chunks:
        async for chunk in chunks:
            yield chunk


def _asking_for_usage(call: LLMCall) -> LLMCall:
    llm = call.llm.llm if isinstance(call.llm, AskedLLM) else call.llm
    return replace(call, settings=with_usage(llm, call.settings))


def _refuses_usage(error: Exception) -> bool:
    return is_refused_request(error) and "stream_options" in str(error).lower()
