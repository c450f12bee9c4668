"""tje-middleware for LlamaIndex: an entropy gate around LLMs, query engines, agents and workflows.

``EntropyGatedLLM``          an LLM for query engines, chat engines and agents
``EntropyGatedQueryEngine``  a cheap query engine, and a deeper one where it is unsure
``entropy_route``            the routing step of a workflow, between ``DraftEvent`` and ``DeeperEvent``
``think_just_enough``        one line around an existing LLM, query engine or function
``capture_entropy``          the entropies of every LLM call in a block; ``EntropyEventHandler`` for instrumentation
``ask_logprobs``             an LLM that is asked for logprobs

Each name is imported when it is first used: who gates an LLM does not load what is there for workflows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tje_middleware._lazy import lazily

if TYPE_CHECKING:
    from .asking.asked_llm import ask_logprobs
    from .capture.captured import EntropyDecisionEvent
    from .capture.handler import EntropyEventHandler, capture_entropy
    from .decorator import think_just_enough
    from .llm.gated_llm import EntropyGatedLLM
    from .query.engine import EntropyGatedQueryEngine
    from .workflow.events import AbstainEvent, DecisionEvent, DeeperEvent, DraftEvent
    from .workflow.route import entropy_route

_HOMES = {
    "AbstainEvent": "workflow.events",
    "DecisionEvent": "workflow.events",
    "DeeperEvent": "workflow.events",
    "DraftEvent": "workflow.events",
    "EntropyDecisionEvent": "capture.captured",
    "EntropyEventHandler": "capture.handler",
    "EntropyGatedLLM": "llm.gated_llm",
    "EntropyGatedQueryEngine": "query.engine",
    "ask_logprobs": "asking.asked_llm",
    "capture_entropy": "capture.handler",
    "entropy_route": "workflow.route",
    "think_just_enough": "decorator",
}

__all__ = [
    "AbstainEvent",
    "DecisionEvent",
    "DeeperEvent",
    "DraftEvent",
    "EntropyDecisionEvent",
    "EntropyEventHandler",
    "EntropyGatedLLM",
    "EntropyGatedQueryEngine",
    "ask_logprobs",
    "capture_entropy",
    "entropy_route",
    "think_just_enough",
]


if not TYPE_CHECKING:  # a type checker would take any name for a public one
    __getattr__ = lazily(__name__, _HOMES, globals())


def __dir__() -> list[str]:
    return sorted(__all__)
