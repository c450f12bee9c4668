"""A query engine whose LLMs are asked for logprobs, in the place of the user's, which is left as it is."""

from __future__ import annotations

import copy
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.llms import LLM
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts.mixin import PromptMixin
from llama_index.core.tools import QueryEngineTool

from tje_middleware import EntropyGate

from .._capture.captured import CapturedEntropy
from .draft_llm import draft_llm

# What LLMs are found in: engines, synthesizers, retrievers, selectors and query transforms are of the first kind.
# Indexes are none of these: what they store is neither copied nor searched.
_HOLDERS = (PromptMixin, BaseNodePostprocessor, QueryEngineTool)


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
    """
    search = _Search(gate, captured)
    return AskingEngine(search.replaced(engine), search.llm_seen)


@dataclass
class _Search:
    """One walk through what an engine is made of."""

    gate: EntropyGate
    captured: CapturedEntropy
    llm_seen: bool = False
    done: dict[int, Any] = field(default_factory=dict)

    def replaced(self, value: Any) -> Any:
        """The value, or what stands for it; what is used twice is replaced once."""
        if id(value) not in self.done:
            self.done[id(value)] = value  # for whoever comes back to it on the way
            self.done[id(value)] = self._replaced(value)
        return self.done[id(value)]

    def _replaced(self, value: Any) -> Any:
        if isinstance(value, StructuredLLM):  # it parses what the LLM within answers
            return value.model_copy(update={"llm": self.replaced(value.llm)})
        if isinstance(value, LLM):
            self.llm_seen = True
            return draft_llm(value, self.gate, self.captured)
        if type(value) in (list, tuple):
            items = [self.replaced(item) for item in value]
            return type(value)(items) if _differ(items, value) else value
        if type(value) is dict:
            changed = self._changed(value)
            return {**value, **changed} if changed else value
        return self._with_parts(value) if isinstance(value, _HOLDERS) else value

    def _with_parts(self, holder: Any) -> Any:
        changes = [self._changed(attributes) for attributes in _attributes(holder)]
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

    def _changed(self, attributes: MutableMapping[str, Any]) -> dict[str, Any]:
        replaced = {name: self.replaced(value) for name, value in list(attributes.items())}
        return {name: value for name, value in replaced.items() if value is not attributes[name]}


def _attributes(holder: object) -> Iterator[MutableMapping[str, Any]]:
    """Where an object keeps its attributes: pydantic has a second place, for private ones."""
    yield vars(holder)
    private = getattr(holder, "__pydantic_private__", None)
    if private is not None:
        yield private


def _differ(items: list[Any], others: Any) -> bool:
    return any(item is not other for item, other in zip(items, others, strict=True))
