"""One request to one LLM, in the four ways in which LlamaIndex makes it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from llama_index.core.llms import LLM

from tje_middleware.calls.capabilities import LogprobsCapabilities
from tje_middleware.calls.streams import aclosed

from ..answers.responses import Response
from .settings import Kind, Settings
from .streams import StreamAsking, areleased, astreamed, released, streamed


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


def counted(call: LLMCall, capabilities: LogprobsCapabilities) -> Iterator[Response]:
    """A call's answer as it is written, and what it costs."""
    asking = StreamAsking(call.llm, call.settings, capabilities)
    return streamed(lambda settings: replace(call, settings=settings).chunks(), asking)


def acounted(call: LLMCall, capabilities: LogprobsCapabilities) -> AsyncIterator[Response]:
    """The same on the event loop."""

    async def chunks(settings: dict[str, Any]) -> AsyncIterator[Response]:
        return replace(call, settings=settings).achunks()

    return astreamed(chunks, StreamAsking(call.llm, call.settings, capabilities))
