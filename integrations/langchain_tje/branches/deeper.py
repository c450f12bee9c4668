"""The deeper branch in any of the forms that users have it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda, RunnableSequence
from langchain_core.runnables.base import RunnableBindingBase, coerce_to_runnable

from tje_middleware import GateDecision
from tje_middleware.branches.base import parameters_of, wanted_by
from tje_middleware.errors import described

from ..asking.chain import named_model

#: A Runnable or a function of the same input as the draft. A function may also name the parameters ``draft``
#: (the rejected answer) and ``decision`` (why it was rejected), and is then given them.
Deeper = Runnable[Any, Any] | Callable[..., Any] | Callable[..., Awaitable[Any]]

_POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)
_rejected: ContextVar[object] = ContextVar("tje_rejected_draft", default=None)


def as_runnable(deeper: Deeper | str) -> Runnable[Any, Any]:
    """The deeper branch as a Runnable.

    Raises:
        TypeError: it is nothing that could answer, or a function that takes no input.
    """
    if isinstance(deeper, str):
        return named_model(deeper, "deeper")
    if isinstance(deeper, type) or not (isinstance(deeper, (Runnable, Mapping)) or callable(deeper)):
        raise TypeError(f"deeper must be a Runnable, a function or the name of a model, not {described(deeper)}")
    if not isinstance(deeper, (Runnable, Mapping)):
        _require_input(deeper)
    return coerce_to_runnable(deeper)


@contextmanager
def rejecting(draft: object) -> Iterator[None]:
    """Make a rejected draft known to whatever runs within, however deep in a composition it stands."""
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


def deeper_arguments(
    deeper: Runnable[Any, Any],
    draft: object,
    decision: GateDecision,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Of the draft, the decision and the call's settings, what the function behind the branch has parameters for.

    A branch that is no function is given the settings: they are its models'.
    """
    settings = settings or {}
    function = _function_of(deeper)
    if function is None:
        return dict(settings)
    offered = {**settings, "draft": draft, "decision": decision}
    arguments = wanted_by(function, offered)
    if any(each.kind is each.VAR_KEYWORD for each in parameters_of(function).values()):
        arguments |= {name: offered[name] for name in settings}
    return arguments


def require_sync(deeper: Runnable[Any, Any]) -> None:
    """Refuse a branch that cannot be called without an event loop; its failure would pass for a failed branch.

    Raises:
        TypeError: an asynchronous function alone is in it.
    """
    for step in _steps(deeper):
        lacks_sync = isinstance(step, RunnableLambda) and not hasattr(step, "func")
        if lacks_sync or (isinstance(step, RunnableGenerator) and not hasattr(step, "_transform")):
            raise TypeError("the deeper branch is an asynchronous function: use ainvoke, abatch or astream")


def require_async(deeper: Runnable[Any, Any]) -> None:
    """Refuse a branch that cannot be called on the event loop, likewise.

    Raises:
        TypeError: a generator is in it that is not asynchronous; functions are run in a thread.
    """
    for step in _steps(deeper):
        if isinstance(step, RunnableGenerator) and not hasattr(step, "_atransform"):
            raise TypeError("the deeper branch is a synchronous generator: use invoke, batch or stream")


def is_control_flow(error: Exception) -> bool:
    """Whether the error is LangGraph's way to interrupt or redirect a graph, and not a failure."""
    errors = sys.modules.get("langgraph.errors")  # where it was never imported, nothing can have raised it
    return errors is not None and isinstance(error, errors.GraphBubbleUp)


def _require_input(function: Callable[..., Any]) -> None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # written in C, and says nothing of its parameters
        return
    if not any(each.kind in _POSITIONAL for each in parameters):
        name = getattr(function, "__name__", repr(function))
        raise TypeError(f"the deeper branch {name} takes no argument: it is given what the draft was given")


def _steps(deeper: Runnable[Any, Any]) -> Iterator[Runnable[Any, Any]]:
    """What is called one after the other."""
    if isinstance(deeper, RunnableBindingBase):
        yield from _steps(deeper.bound)
    elif isinstance(deeper, RunnableSequence):
        for step in deeper.steps:
            yield from _steps(step)
    else:
        yield deeper


def _first(deeper: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """What gets a composition's input."""
    while True:
        if isinstance(deeper, RunnableBindingBase):
            deeper = deeper.bound
        elif isinstance(deeper, RunnableSequence):
            deeper = deeper.first
        else:
            return deeper


def _function_of(deeper: Runnable[Any, Any]) -> Callable[..., Any] | None:
    branch = _first(deeper)
    if not isinstance(branch, RunnableLambda):
        return None
    return getattr(branch, "func", None) or getattr(branch, "afunc", None)
