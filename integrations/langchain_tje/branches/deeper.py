"""The deeper branch in any of the forms in which LangChain's users have it, as one object."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import (
    Runnable,
    RunnableConfig,
    RunnableGenerator,
    RunnableLambda,
    RunnableParallel,
    RunnableSequence,
    RunnableWithFallbacks,
)
from langchain_core.runnables.base import RunnableBindingBase, coerce_to_runnable

from tje_middleware import GateDecision
from tje_middleware.branches import Branch, Message
from tje_middleware.branches.base import OFFERED, needs_draft, parameters_of, require_callable
from tje_middleware.calls.streams import aclosed, closed
from tje_middleware.errors import described

from ..asking.chain import named_model

AnyRunnable = Runnable[Any, Any]
#: A Runnable or a function of the same input as the draft, or a branch of ``tje_middleware.branches``. A function may
#: also name the parameters ``draft`` (the rejected answer) and ``decision`` (why it was rejected), and is then given
#: them.
Deeper = AnyRunnable | Callable[..., Any] | Callable[..., Awaitable[Any]] | Branch[Any, Any]

#: What LangChain itself gives to a function that names it.
_BY_LANGCHAIN = ("config", "run_manager")
_rejected: ContextVar[object] = ContextVar("tje_rejected_draft", default=None)


@dataclass(frozen=True, kw_only=True)
class RejectedQuestion:
    """A question whose draft was not accepted, as a Runnable or a function is asked it.

    Attributes:
        question: What the draft's chain was asked.
        draft: Its answer; None where that was skipped, or stopped before its end.
        decision: Why it was not accepted.
        config: The run's; None for the one of the run that goes on around this.
        settings: What the user passed on to models.
    """

    question: Any
    draft: Any
    decision: GateDecision
    config: RunnableConfig | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def offered(self) -> dict[str, Any]:
        """What a function is given beside the question, where it has parameters of these names."""
        return {"draft": self.draft, "decision": self.decision}


class ChainBranch:
    """A model, a chain, a function or a mapping of them as a deeper branch.

    Args:
        runnable: The Runnable that it is, as :func:`as_runnable` makes it.
        given: What it is given first, in words, for the error.
        offered: The names under which its function is given more.

    Attributes:
        runnable: The Runnable.
        needs_draft: Whether a function in it cannot be called without the draft, or a branch in it starts from it.
        includes_draft: Whether always going deeper costs the draft as well, as what needs it does.

    Raises:
        TypeError: it holds a function that requires what nobody gives it.
    """

    def __init__(
        self, runnable: AnyRunnable, *, given: str = "what the draft was given", offered: Collection[str] = OFFERED
    ) -> None:
        self.runnable = runnable
        self._steps = tuple(_steps(runnable))
        for step in self._steps:
            if step.function is not None:
                more = offered if step.is_first else ()
                names = (*more, *_BY_LANGCHAIN, *step.bound)
                require_callable(step.function, given=given if step.is_first else "its input", offered=names)
        first = next((step for step in self._steps if step.is_first), None)
        self._function = first.function if first is not None else None
        self._names = {} if self._function is None else parameters_of(self._function)
        branches = [step.runnable.branch for step in self._steps if isinstance(step.runnable, OverChain)]
        by_function = self._function is not None and needs_draft(self._function)
        self.needs_draft = by_function or any(branch.needs_draft for branch in branches)
        self.includes_draft = by_function or any(branch.includes_draft for branch in branches)

    def require(self, *, on_loop: bool) -> None:
        """Refuse a way of calling that the user's code lacks, which would look like a failure of the branch.

        Raises:
            TypeError: off the event loop, there is an asynchronous function alone; on it, a generator that is not
                asynchronous. (Other functions are run in a thread there.)
        """
        for step, *_ in self._steps:
            if on_loop:
                if isinstance(step, RunnableGenerator) and not hasattr(step, "_atransform"):
                    raise TypeError("the deeper branch is a synchronous generator: use invoke, batch or stream")
                continue
            lacks_sync = isinstance(step, RunnableLambda) and not hasattr(step, "func")
            if lacks_sync or (isinstance(step, RunnableGenerator) and not hasattr(step, "_transform")):
                raise TypeError("the deeper branch is an asynchronous function: use ainvoke, abatch or astream")

    def run(self, ask: RejectedQuestion) -> Any:
        """Answer."""
        with rejecting(ask.draft):
            return self.runnable.invoke(self.input_of(ask), ask.config, **self._arguments(ask))

    async def arun(self, ask: RejectedQuestion) -> Any:
        """The same on the event loop."""
        with rejecting(ask.draft):
            return await self.runnable.ainvoke(self.input_of(ask), ask.config, **self._arguments(ask))

    def chunks(self, ask: RejectedQuestion) -> Iterator[Any]:
        """Answer in chunks."""
        stream = self.runnable.stream(self.input_of(ask), ask.config, **self._arguments(ask))
        with rejecting(ask.draft), closed(stream) as chunks:
            yield from chunks

    async def achunks(self, ask: RejectedQuestion) -> AsyncIterator[Any]:
        """The same on the event loop."""
        stream = self.runnable.astream(self.input_of(ask), ask.config, **self._arguments(ask))
        async with aclosed(stream) as chunks:
            with rejecting(ask.draft):
                async for chunk in chunks:
                    yield chunk

    def input_of(self, ask: RejectedQuestion) -> Any:
        """What the Runnable is called with."""
        return ask.question

    def names(self, parameter: str) -> bool:
        """Whether its function has a parameter of this name."""
        return parameter in self._names

    def _arguments(self, ask: RejectedQuestion) -> dict[str, Any]:
        """What the function has parameters for; a branch without a function is given the models' settings."""
        if self._function is None:
            return dict(ask.settings)
        takes_any = any(each.kind is each.VAR_KEYWORD for each in self._names.values())
        settings = {name: value for name, value in ask.settings.items() if takes_any or name in self._names}
        return settings | {name: value for name, value in ask.offered.items() if name in self._names}


class OverChain(RunnableLambda[Any, Any]):
    """A branch of ``tje_middleware.branches`` that asks a chain's model, as a Runnable.

    Attributes:
        branch: The branch.
    """

    branch: Branch[Any, Any]


def as_runnable(deeper: Deeper | Mapping[str, Any] | str) -> AnyRunnable:
    """What users give as the deeper branch, as a Runnable.

    Raises:
        TypeError: it is nothing that could answer.
    """
    if isinstance(deeper, str):
        return named_model(deeper, "deeper")
    if isinstance(deeper, type) or not (isinstance(deeper, (Runnable, Mapping)) or callable(deeper)):
        raise TypeError(f"deeper must be a Runnable, a function or the name of a model, not {described(deeper)}")
    return coerce_to_runnable(deeper)


def is_branch(deeper: object) -> TypeGuard[Branch[Any, Any]]:
    """Whether this is a branch as ``tje_middleware.branches`` has them, which asks through whatever is gated."""
    return isinstance(deeper, Branch) and not isinstance(deeper, (Runnable, type))


@contextmanager
def rejecting(draft: object) -> Iterator[None]:
    """Make a rejected draft known to all that runs in the block, through ``rejected_draft``."""
    before = _rejected.get()
    _rejected.set(draft)
    try:
        yield
    finally:
        # Not reset by its token: a stream's steps may run in contexts of their own.
        _rejected.set(before)


def rejected_draft() -> object:
    """The draft that was rejected where this is called; None outside a deeper branch."""
    return _rejected.get()


def as_message(following: Message) -> BaseMessage:
    """What follows the question in a branch's conversation, as a message."""
    role, text = following
    return AIMessage(text) if role == "assistant" else HumanMessage(text)


def is_control_flow(error: Exception) -> bool:
    """Whether the error is LangGraph's way to interrupt or redirect a graph, and not a failure."""
    errors = sys.modules.get("langgraph.errors")  # where it was never imported, nothing can have raised it
    return errors is not None and isinstance(error, errors.GraphBubbleUp)


class _Step(NamedTuple):
    """One of the Runnables that a composition calls.

    Attributes:
        runnable: The Runnable.
        is_first: Whether the composition's own arguments reach it: LangChain hands them to its first step alone.
        bound: The names of arguments that are bound to it.
    """

    runnable: AnyRunnable
    is_first: bool
    bound: tuple[str, ...]

    @property
    def function(self) -> Callable[..., Any] | None:
        """The user's function, where it is one."""
        names = {RunnableLambda: ("func", "afunc"), RunnableGenerator: ("_transform", "_atransform")}
        for kind, (sync, asynchronous) in names.items():
            if isinstance(self.runnable, kind):
                return getattr(self.runnable, sync, None) or getattr(self.runnable, asynchronous, None)
        return None


def _steps(runnable: AnyRunnable, *, is_first: bool = True, bound: tuple[str, ...] = ()) -> Iterator[_Step]:
    """The runnables that a composition calls, as far as they can be seen from outside."""
    if isinstance(runnable, RunnableBindingBase):
        yield from _steps(runnable.bound, is_first=is_first, bound=(*runnable.kwargs, *bound))
    elif isinstance(runnable, RunnableSequence):
        first, *rest = runnable.steps
        yield from _steps(first, is_first=is_first, bound=bound)
        for step in rest:
            yield from _steps(step, is_first=False)
    elif isinstance(runnable, RunnableParallel):
        for step in runnable.steps__.values():
            yield from _steps(step, is_first=False)
    elif isinstance(runnable, RunnableWithFallbacks):
        # Its arguments are given to the first runnable and to every fallback.
        for step in (runnable.runnable, *runnable.fallbacks):
            yield from _steps(step, is_first=False, bound=bound)
    else:
        yield _Step(runnable, is_first, bound)
