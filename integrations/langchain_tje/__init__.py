"""tje-middleware for LangChain and LangGraph: an entropy gate around chains, models, agents and graphs.

``think_just_enough``        one line around an existing chain
``EntropyGateMiddleware``    for ``create_agent``
``EntropyRouter``            a routing node, or a conditional edge, of a LangGraph graph
``EntropyGatedChatModel``    where nothing but a chat model is accepted
``EntropyGateRunnable``      what ``think_just_enough`` makes
``capture_entropy``          the entropies of every model call in a block; ``EntropyCallbackHandler`` for callbacks
``ask_logprobs``             a chain whose model is asked for logprobs
``sequential_refinement``    the paper's deeper branch

Each name is imported when it is first used: who gates a chain loads neither agents nor graphs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tje_middleware._lazy import lazily

if TYPE_CHECKING:
    from .agents.middleware import EntropyGateMiddleware
    from .asking.chain import ask_logprobs
    from .branches.refinement import sequential_refinement
    from .callbacks.handler import EntropyCallbackHandler, capture_entropy
    from .chains.decorator import think_just_enough
    from .chains.runnable import EntropyGateRunnable
    from .chat.gated_model import EntropyGatedChatModel
    from .graphs.router import EntropyRouter

_HOMES = {
    "EntropyCallbackHandler": "callbacks.handler",
    "EntropyGateMiddleware": "agents.middleware",
    "EntropyGateRunnable": "chains.runnable",
    "EntropyGatedChatModel": "chat.gated_model",
    "EntropyRouter": "graphs.router",
    "ask_logprobs": "asking.chain",
    "capture_entropy": "callbacks.handler",
    "sequential_refinement": "branches.refinement",
    "think_just_enough": "chains.decorator",
}

__all__ = [
    "EntropyCallbackHandler",
    "EntropyGateMiddleware",
    "EntropyGateRunnable",
    "EntropyGatedChatModel",
    "EntropyRouter",
    "ask_logprobs",
    "capture_entropy",
    "sequential_refinement",
    "think_just_enough",
]


if not TYPE_CHECKING:  # a type checker would take any name for a public one
    __getattr__ = lazily(__name__, _HOMES, globals())


def __dir__() -> list[str]:
    return sorted(__all__)
