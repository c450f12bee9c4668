"""Handlers that see every model call of a block of code, without being passed to any."""

from __future__ import annotations

from langchain_core.callbacks import BaseCallbackHandler

from tje_middleware.scope import Scoped


class ScopedHandler(Scoped, BaseCallbackHandler):
    """A handler that a context variable, which LangChain looks into, puts into every chain of a block."""

    # On the event loop and in order: handlers in executor threads may see the end of a call too late.
    run_inline = True
