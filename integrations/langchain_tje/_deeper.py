"""The deeper branch in any of the forms that users have it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.runnables.base import RunnableBindingBase, coerce_to_runnable

from tje_middleware import GateDecision

#: A Runnable or a function of the same input as the draft. A function may also name the parameters ``draft``
#: (the rejected answer) and ``decision`` (why it was rejected), and is then given them.
Deeper = Runnable[Any, Any] | Callable[..., Any] | Callable[..., Awaitable[Any]]


def as_runnable(deeper: Deeper) -> Runnable[Any, Any]:
    """The deeper branch as a Runnable."""
    return coerce_to_runnable(deeper)


def deeper_arguments(deeper: Runnable[Any, Any], draft: object, decision: GateDecision) -> dict[str, object]:
    """Of the draft and the decision, what the function behind the branch has parameters for."""
    function = _function_of(deeper)
    if function is None:
        return {}
    try:
        wanted = inspect.signature(function).parameters
    except ValueError:  # written in C, and says nothing of its parameters
        return {}
    return {name: value for name, value in (("draft", draft), ("decision", decision)) if name in wanted}


def _function_of(deeper: Runnable[Any, Any]) -> Callable[..., Any] | None:
    while isinstance(deeper, RunnableBindingBase):
        deeper = deeper.bound
    if not isinstance(deeper, RunnableLambda):
        return None
    return getattr(deeper, "func", None) or getattr(deeper, "afunc", None)
