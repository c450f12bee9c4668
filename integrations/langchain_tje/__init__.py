"""tje-middleware for LangChain and LangGraph: an entropy gate around chains, models, agents and graphs.

``think_just_enough``        one line around an existing chain
``EntropyGateMiddleware``    for ``create_agent``
``EntropyRouter``            a routing node, or a conditional edge, of a LangGraph graph
``EntropyGatedChatModel``    where nothing but a chat model is accepted
``EntropyGateRunnable``      what ``think_just_enough`` makes
``capture_entropy``          the entropies of every model call in a block; ``EntropyCallbackHandler`` for callbacks
``ask_logprobs``             a chain whose model is asked for logprobs
``sequential_refinement``    the paper's deeper branch
"""

from ._agent.middleware import EntropyGateMiddleware
from ._asking import ask_logprobs
from ._callback import EntropyCallbackHandler, capture_entropy
from ._chat.model import EntropyGatedChatModel
from ._decorator import think_just_enough
from ._graph.router import EntropyRouter
from ._refinement import sequential_refinement
from ._runnable import EntropyGateRunnable

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
