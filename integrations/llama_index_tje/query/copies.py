"""A query engine whose LLMs are asked for logprobs, in the place of the user's, which is left as it is."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass, field
from itertools import islice
from types import MethodType
from typing import Any, ClassVar, TypeVar

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.bridge.pydantic import Field
from llama_index.core.llms import LLM
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts.mixin import PromptMixin
from llama_index.core.tools import QueryEngineTool

from tje_middleware import EntropyGate
from tje_middleware.calls.streams import aclosed, closed

from ..asking.model import AskedLLM, ask_logprobs
from ..asking.settings import Settings
from ..capture.blocks import resumed
from ..capture.captured import CapturedEntropy

# What LLMs are found in: engines, synthesizers, retrievers, selectors and query transforms are of the first kind.
# Indexes are none of these: what they store is neither copied nor searched.
_HOLDERS = (PromptMixin, BaseNodePostprocessor, QueryEngineTool)
# Engines and retrievers may also hold data by themselves: vectors, caches, histories. A container is taken for data,
# and looked at no further, where its first items lead to no LLM; so is one in containers in containers.
_LOOKED_AT = 24
_CONTAINERS_DEEP = 2
# And no engine is made of engines in engines without an end.
_HOLDERS_DEEP = 32
_PLAIN = (str, bytes, int, float, bool, type(None))


@dataclass(frozen=True)
class AskingEngine:
    """A query engine as it is asked for a draft.

    Attributes:
        engine: The engine, or a copy of it.
        llm_seen: Whether there was an LLM in it that can be asked for logprobs.
    """

    engine: BaseQueryEngine
    llm_seen: bool


def asking(engine: BaseQueryEngine, gate: EntropyGate, captured: CapturedEntropy) -> AskingEngine:
    """The engine for one draft: every LLM that is to be seen in it is asked for logprobs, and captured.

    What leads to an LLM is copied, flatly, and everything else is shared. Made anew for each question, so that what
    is changed in the user's engine later (prompts, callbacks, postprocessors) holds, too.

    An LLM in a container is seen where there is one among, or within, the first two dozen items, and in at most two
    containers within one another. Any other is one of the user's own code: it is for ``ask_logprobs``.
    """
    search = _Search(gate, captured)
    return AskingEngine(search.replaced(engine), search.llm_seen)


@dataclass(frozen=True)
class _Within:
    """How deep a value lies: what nests without an end is left alone."""

    containers: int = 0
    holders: int = 0

    def container(self) -> _Within:
        """What lies in a container that lies here."""
        return _Within(self.containers + 1, self.holders)

    def holder(self) -> _Within:
        """What lies in an engine, or a part of one, that lies here."""
        return _Within(0, self.holders + 1)

    def is_too_deep_for(self, value: object) -> bool:
        """Whether a value is not looked into here."""
        if type(value) in (list, tuple, dict):
            return self.containers == _CONTAINERS_DEEP
        return self.holders == _HOLDERS_DEEP


@dataclass
class _Search:
    """One walk through what an engine is made of."""

    gate: EntropyGate
    captured: CapturedEntropy
    llm_seen: bool = False
    done: dict[int, Any] = field(default_factory=dict)

    def replaced(self, value: Any, within: _Within = _Within()) -> Any:
        """The value, or what stands for it; what is used twice is replaced once."""
        if type(value) in _PLAIN or within.is_too_deep_for(value):
            return value
        if id(value) not in self.done:
            self.done[id(value)] = value  # for whoever comes back to it on the way
            self.done[id(value)] = self._replaced(value, within)
        return self.done[id(value)]

    def _replaced(self, value: Any, within: _Within) -> Any:
        if isinstance(value, StructuredLLM):  # it parses what the LLM within answers
            return value.model_copy(update={"llm": self.replaced(value.llm, within)})
        if isinstance(value, LLM):
            self.llm_seen = True
            return draft_llm(value, self.gate, self.captured)
        if type(value) in (list, tuple):
            changed = self._changed_items(lambda: enumerate(value), within.container())
            return type(value)(changed.get(i, item) for i, item in enumerate(value)) if changed else value
        if type(value) is dict:
            changed = self._changed_items(value.items, within.container())
            return {**value, **changed} if changed else value
        return self._with_parts(value, within.holder()) if isinstance(value, _HOLDERS) else value

    def _with_parts(self, holder: Any, within: _Within) -> Any:
        changes = [self._changed(list(attributes.items()), within) for attributes in _attributes(holder)]
        if not any(changes):
            return holder
        copied = copy.copy(holder)
        for attributes, changed in zip(_attributes(copied), changes, strict=True):
            attributes.update(changed)
            # Refine keeps a method of its own, which makes programs with the LLM of whom it is bound to.
            attributes.update(
                (name, MethodType(value.__func__, copied))
                for name, value in list(attributes.items())
                if isinstance(value, MethodType) and value.__self__ is holder
            )
        return copied

    def _changed_items(self, items: Callable[[], Iterable[tuple[Any, Any]]], within: _Within) -> dict[Any, Any]:
        """What is replaced of a container, by index or key."""
        # Lists of them: who owns the container may change it meanwhile, on another thread.
        if not self._changed(list(islice(items(), _LOOKED_AT)), within):
            return {}
        return self._changed(list(items()), within)

    def _changed(self, named: Iterable[tuple[Any, Any]], within: _Within) -> dict[Any, Any]:
        replaced = ((name, value, self.replaced(value, within)) for name, value in named)
        return {name: other for name, value, other in replaced if other is not value}


def _attributes(holder: object) -> Iterator[MutableMapping[str, Any]]:
    """Where an object keeps its attributes: pydantic has a second place, for private ones."""
    yield vars(holder)
    private = getattr(holder, "__pydantic_private__", None)
    if private is not None:
        yield private


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
