"""What is asked, and the deeper branch that answers it: a query engine or a user's function."""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.base.response.schema import Response
from llama_index.core.schema import NodeWithScore, QueryBundle

from tje_middleware import GateDecision
from tje_middleware.branches.base import wanted_by
from tje_middleware.errors import described

from .answers import Answer

#: A query engine; or a function of the query bundle, which may also name ``draft`` (the rejected answer),
#: ``decision`` (why it was rejected) and ``nodes`` (of ``synthesize``), and gives an answer or its text.
Deeper = BaseQueryEngine | Callable[..., Any] | Callable[..., Awaitable[Any]]

_POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)


class NoAnswer(TypeError):  # noqa: N818
    """A deeper function gave what is no answer: a mistake, which must not pass for a branch that failed."""


@dataclass(frozen=True)
class Question:
    """What an engine is asked: a query, or to make an answer of nodes that were retrieved for one.

    Attributes:
        bundle: The query.
        nodes: The nodes; None for a query.
        more_nodes: Nodes to name among the answer's sources.
    """

    bundle: QueryBundle
    nodes: list[NodeWithScore] | None = None
    more_nodes: Sequence[NodeWithScore] | None = None

    def ask(self, engine: BaseQueryEngine) -> Answer:
        """The engine's answer."""
        if self.nodes is None:
            return engine.query(self.bundle)
        return engine.synthesize(self.bundle, self.nodes, self.more_nodes)

    async def aask(self, engine: BaseQueryEngine) -> Answer:
        """The same on the event loop."""
        if self.nodes is None:
            return await engine.aquery(self.bundle)
        return await engine.asynthesize(self.bundle, self.nodes, self.more_nodes)


class Branch(ABC):
    """A deeper branch."""

    @abstractmethod
    def answer(self, question: Question, draft: Answer | None, decision: GateDecision) -> Answer:
        """Its answer."""

    @abstractmethod
    async def aanswer(self, question: Question, draft: Answer | None, decision: GateDecision) -> Answer:
        """The same on the event loop."""

    @abstractmethod
    def require(self, question: Question, *, on_loop: bool) -> None:
        """Refuse a question that it cannot be asked: such a mistake must not pass for its failure.

        Raises:
            TypeError: it cannot be called so.
            NotImplementedError: it cannot synthesize.
        """


def as_branch(deeper: Deeper) -> Branch:
    """The deeper branch in the form in which it is asked.

    Raises:
        TypeError: it is nothing that could answer a query, or a function that takes none.
    """
    if isinstance(deeper, BaseQueryEngine):
        return _EngineBranch(deeper)
    if isinstance(deeper, BaseLLM):
        raise TypeError(
            f"deeper must be a query engine or a function, not an LLM ({type(deeper).__name__}): make an engine with "
            f"it, such as index.as_query_engine(llm=...), or gate the LLM itself with EntropyGatedLLM"
        )
    if isinstance(deeper, type) or not callable(deeper):
        raise TypeError(f"deeper must be a query engine or a function of the query bundle, not {described(deeper)}")
    _require_input(deeper)
    return _FunctionBranch(deeper)


@dataclass(frozen=True)
class _EngineBranch(Branch):
    engine: BaseQueryEngine

    def answer(self, question: Question, draft: Answer | None, decision: GateDecision) -> Answer:
        return question.ask(self.engine)

    async def aanswer(self, question: Question, draft: Answer | None, decision: GateDecision) -> Answer:
        return await question.aask(self.engine)

    def require(self, question: Question, *, on_loop: bool) -> None:
        method = "asynthesize" if on_loop else "synthesize"
        if question.nodes is not None and getattr(type(self.engine), method) is getattr(BaseQueryEngine, method):
            raise NotImplementedError(
                f"the deeper engine ({type(self.engine).__name__}) has no {method}: ask the gated engine by query"
            )


@dataclass(frozen=True)
class _FunctionBranch(Branch):
    function: Callable[..., Any]

    def answer(self, question: Question, draft: Answer | None, decision: GateDecision) -> Answer:
        return _as_answer(self._called(question, draft, decision), self.function)

    async def aanswer(self, question: Question, draft: Answer | None, decision: GateDecision) -> Answer:
        if self._is_async:
            return _as_answer(await self._called(question, draft, decision), self.function)
        answer = await asyncio.to_thread(self._called, question, draft, decision)
        return _as_answer(await answer if inspect.isawaitable(answer) else answer, self.function)

    def require(self, question: Question, *, on_loop: bool) -> None:
        if self._is_async and not on_loop:
            raise TypeError("the deeper branch is an asynchronous function: use aquery or asynthesize")

    @property
    def _is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(
            getattr(self.function, "__call__", None)  # noqa: B004 (an object whose __call__ is asynchronous)
        )

    def _called(self, question: Question, draft: Answer | None, decision: GateDecision) -> Any:
        offered = {"draft": draft, "decision": decision, "nodes": question.nodes}
        return self.function(question.bundle, **wanted_by(self.function, offered))


def _require_input(function: Callable[..., Any]) -> None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # written in C, and says nothing of its parameters
        return
    if not any(each.kind in _POSITIONAL for each in parameters):
        raise TypeError(f"the deeper branch {_name(function)} takes no argument: it is given the query bundle")


def _as_answer(given: object, function: Callable[..., Any]) -> Answer:
    if isinstance(given, str):
        return Response(given)
    if isinstance(given, Answer):
        return given
    raise NoAnswer(f"the deeper branch {_name(function)} must give a response or a text, not {described(given)}")


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", repr(function))
