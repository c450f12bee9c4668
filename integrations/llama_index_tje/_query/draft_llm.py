"""The LLM of one draft: asked for logprobs, and its calls are the draft's on whatever thread they are made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, ClassVar, TypeVar

from llama_index.core.bridge.pydantic import Field
from llama_index.core.llms import LLM

from tje_middleware import EntropyGate
from tje_middleware.chunks import aclosed, closed

from .._asking.asked import AskedLLM, ask_logprobs
from .._asking.settings import Settings
from .._capture.blocks import resumed
from .._capture.captured import CapturedEntropy

Answer = TypeVar("Answer")


def draft_llm(llm: LLM, gate: EntropyGate, captured: CapturedEntropy) -> LLM:
    """An LLM for one draft, whose calls are captured there."""
    asked = ask_logprobs(llm, gate=gate)
    if not isinstance(asked, AskedLLM):
        return asked
    return _DraftLLM(llm=asked.llm, top_k=asked.top_k, capabilities=asked.capabilities, captured=captured)


class _DraftLLM(AskedLLM):
    """Knows the draft that it is asked for: a call that were not seen would be a call that nobody judges.

    Engines run calls on threads of their own, to which not every release of LlamaIndex, and no bare thread, takes the
    context along.
    """

    captures: ClassVar[bool] = True

    captured: Any = Field(exclude=True, repr=False, description="The CapturedEntropy of the draft.")

    def _ask(self, call: Callable[[dict[str, Any]], Answer], settings: Settings) -> Answer:
        with resumed(self.captured):
            return super()._ask(call, settings)

    async def _aask(self, call: Callable[[dict[str, Any]], Awaitable[Answer]], settings: Settings) -> Answer:
        with resumed(self.captured):
            return await super()._aask(call, settings)

    def _ask_for_stream(
        self, call: Callable[[dict[str, Any]], Iterator[Answer]], settings: Settings, *, counted: bool = True
    ) -> Any:
        with closed(super()._ask_for_stream(call, settings, counted=counted)) as chunks:
            with resumed(self.captured):  # a stream belongs to where it begins
                first = next(chunks, None)
            if first is not None:
                yield first
                yield from chunks

    async def _aask_for_stream(
        self,
        call: Callable[[dict[str, Any]], Awaitable[AsyncIterator[Answer]]],
        settings: Settings,
        *,
        counted: bool = True,
    ) -> Any:
        async with aclosed(super()._aask_for_stream(call, settings, counted=counted)) as chunks:
            with resumed(self.captured):
                first = await anext(chunks, None)
            if first is None:
                return
            yield first
            async for chunk in chunks:
                yield chunk
