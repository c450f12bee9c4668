"""Two chat models behind one: the settings that each of them gets, and how the answer of each is read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableConfig, RunnableParallel, RunnableSequence
from langchain_core.runnables.base import RunnableBindingBase

from tje_middleware.calls.streams import aclosed
from tje_middleware.gate.decision import METADATA_KEY

from ..asking.chain import named_model
from ..messages.answer import message_in

_LOGPROBS = ("logprobs", "top_logprobs")
#: LangChain takes these out of a request before a model's own code sees it.
_OF_TRACES = ("ls_structured_output_format", "structured_output_format")


@dataclass(frozen=True)
class EachOwn:
    """Settings that two models were given in forms of their own, such as tools.

    Attributes:
        draft: The draft's form; a binding carries it, and whoever looks into a request sees it.
        deeper: The deeper model's form.
    """

    draft: Mapping[str, Any] = field(default_factory=dict)
    deeper: Mapping[str, Any] = field(default_factory=dict)

    def for_deeper(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A request's settings as the deeper model gets them: its own form of what was bound, and all else.

        What was set to something else after the binding holds for both models. A request that comes around the
        binding has nothing bound.
        """
        if self.draft and not any(name in settings for name in self.draft):
            return dict(settings)
        nothing = object()
        rest = {name: value for name, value in settings.items() if self.draft.get(name, nothing) != value}
        own = {name: value for name, value in self.deeper.items() if name not in _OF_TRACES}
        return {**own, **rest}


def without_asking(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those that ask for logprobs, for a model that is asked anyway."""
    return {name: value for name, value in settings.items() if name not in _LOGPROBS}


def as_chat_model(model: object, role: str) -> BaseChatModel:
    """A chat model, or the one that a string such as ``"openai:gpt-4o"`` names.

    Raises:
        TypeError: it is none, or becomes one only by the configuration of a run.
        ImportError: a string, and langchain is not installed.
    """
    if isinstance(model, str):
        return named_model(model, role)
    if not isinstance(model, BaseChatModel):
        raise TypeError(
            f"{role} must be a chat model or a name such as 'openai:gpt-4o', not {type(model).__name__}: give "
            "settings to the model itself; chains, bindings and configurable models go into an EntropyGateRunnable"
        )
    return model


def unbound(runnable: Runnable[Any, Any]) -> tuple[BaseChatModel, dict[str, Any]]:
    """The model in what its ``bind_tools`` gave, and the settings that were bound to it.

    Raises:
        TypeError: there is no chat model to be seen.
    """
    settings: dict[str, Any] = {}
    while isinstance(runnable, RunnableBindingBase):
        settings = {**runnable.kwargs, **settings}
        runnable = runnable.bound
    if not isinstance(runnable, BaseChatModel):
        raise TypeError(f"bind_tools gave a {type(runnable).__name__}, in which no chat model is to be seen")
    return runnable, settings


def common_profile(one: BaseChatModel, other: BaseChatModel) -> dict[str, Any] | None:
    """What both models can do, since either may answer; None where that is not known of both."""
    # Not every LangChain 1.x has profiles.
    first, second = (dict(getattr(model, "profile", None) or {}) for model in (one, other))
    if not first or not second:
        return None
    pairs = {name: (first[name], second[name]) for name in first.keys() & second.keys()}
    # Of two limits the smaller one; of two abilities (bool) False, where one of the models lacks it.
    return {name: min(pair) for name, pair in pairs.items() if all(isinstance(value, int) for value in pair)}


def handlers_of(*models: BaseChatModel) -> list[BaseCallbackHandler]:
    """The models' own callback handlers; LangChain calls a handler that is listed twice only once."""
    found: list[BaseCallbackHandler] = []
    for model in models:
        own = model.callbacks
        found += own.handlers if isinstance(own, BaseCallbackManager) else own or []
    return found


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
        """The parts; None where they are composed in another way than by LangChain's own models.

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
    """Parses a gated model's message, or its stream, with the parser of the model that answered.

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
        """The output type of the draft's parser."""
        return self.draft.OutputType

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The parsed answer."""
        return self._reader(input).invoke(input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """The same on the event loop."""
        return await self._reader(input).ainvoke(input, config, **kwargs)

    def transform(self, input: Iterator[Any], config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """The parsed answer as far as the stream has come."""
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
        """The parser for a whole answer, or for a stream with this first chunk.

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
