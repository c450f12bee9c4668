"""Structured output of two chat models, of which one answers: each is asked, and read, in its own way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableConfig, RunnableParallel, RunnableSequence

from tje_middleware.chunks import aclosed
from tje_middleware.decision import METADATA_KEY

from .._answer import message_in
from .settings import unbound

AnyRunnable = Runnable[Any, Any]
#: Where structured output includes it, the message is under this name.
_RAW = "raw"


@dataclass(frozen=True)
class StructuredModel:
    """What a model's ``with_structured_output`` gave, taken apart.

    Attributes:
        model: The model.
        settings: What was bound to it.
        reader: Makes of its message what was asked for.
        includes_raw: Whether the reader is given the message as ``{"raw": message}``.
    """

    model: BaseChatModel
    settings: dict[str, Any]
    reader: AnyRunnable
    includes_raw: bool

    @classmethod
    def of(cls, structured: AnyRunnable) -> StructuredModel | None:
        """The parts; None of what is composed in another way than LangChain's models do it.

        A gated model is not taken apart, either: which of its models answered is no longer to be seen in a message
        that holds the decision of another gate.
        """
        if not isinstance(structured, RunnableSequence):
            return None
        first, *rest = structured.steps
        includes_raw = False
        if isinstance(first, RunnableParallel) and set(first.steps__) == {_RAW}:
            first, includes_raw = first.steps__[_RAW], True
        try:
            model, settings = unbound(first)
        except TypeError:
            return None
        if any(isinstance(step, AnswerersReader) for step in rest):
            return None
        return cls(model, settings, rest[0] if len(rest) == 1 else RunnableSequence(*rest), includes_raw)


class AnswerersReader(Runnable[Any, Any]):
    """Reads a gated model's message, or its stream, as the model that answered is to be read.

    Args:
        draft: Reads the draft's.
        deeper: Reads the deeper model's.
        only_draft: Whether the answer is the draft's whatever was decided.
    """

    def __init__(self, draft: AnyRunnable, deeper: AnyRunnable, *, only_draft: bool) -> None:
        self.draft = draft
        self.deeper = deeper
        self.only_draft = only_draft

    @property
    def OutputType(self) -> Any:  # noqa: N802 (LangChain's name)
        """The draft's reader's."""
        return self.draft.OutputType

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """What was asked for."""
        return self._reader(input).invoke(input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The same on the event loop."""
        return await self._reader(input).ainvoke(input, config, **kwargs)

    def transform(self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """As much of it as there is, whenever more has come."""
        for first in input:
            yield from self._reader(first).transform(chain([first], input), config, **kwargs)

    async def atransform(
        self, input: AsyncIterator[Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """The same on the event loop."""
        async for first in input:
            read = self._reader(first).atransform(_achain(first, input), config, **kwargs)
            async with aclosed(read) as parts:
                async for part in parts:
                    yield part

    def _reader(self, first: object) -> AnyRunnable:
        """For the whole answer or the first chunk of a stream.

        A draft that was held comes in one chunk, with the decision; what comes in several is the deeper model's.
        """
        message = message_in(first)
        decision = message.response_metadata.get(METADATA_KEY) if message is not None else None
        by_draft = self.only_draft or (decision is not None and decision["answered_by"] == "draft")
        return self.draft if by_draft else self.deeper


async def _achain(first: Any, rest: AsyncIterator[Any]) -> AsyncIterator[Any]:
    yield first
    async for each in rest:
        yield each
