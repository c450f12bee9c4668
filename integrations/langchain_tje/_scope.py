"""Handlers that see every model call of a block of code, without being passed to any."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from langchain_core.callbacks import BaseCallbackHandler


class ScopedHandler(BaseCallbackHandler):
    """A handler that a context variable may put into every chain of a block; a block may stand within another."""

    # On the event loop and in order: handlers in executor threads may see the end of a call too late.
    run_inline = True

    _around: ScopedHandler | None = None
    _is_left = False


Handler = TypeVar("Handler", bound=ScopedHandler)


@contextmanager
def scope(variable: ContextVar[Handler | None], make: Callable[[Handler | None], Handler]) -> Iterator[Handler]:
    """Put a handler into every chain that is started in the block, and into those that its tasks start.

    Args:
        variable: Holds the innermost handler; registered once with LangChain, which looks into it.
        make: Makes the handler, given the one of the block around this one.
    """
    around = _innermost(variable.get())
    handler = make(around)
    handler._around = around
    variable.set(handler)
    try:
        yield handler
    finally:
        handler._is_left = True
        # Not by token: a generator may be closed in another context than it was started in, which this block then
        # never was entered in; and blocks in generators are not always left in the order of their nesting.
        if variable.get() is handler:
            variable.set(_innermost(around))


def _innermost(handler: Handler | None) -> Handler | None:
    """The handler, or the next around it whose block is not left yet."""
    found: ScopedHandler | None = handler
    while found is not None and found._is_left:
        found = found._around
    return found  # type: ignore[return-value]  # what is around a handler came out of the same variable
