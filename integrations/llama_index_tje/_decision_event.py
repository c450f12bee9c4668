"""A gate's decision among LlamaIndex's instrumentation events."""

from __future__ import annotations

from typing import Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.instrumentation.events import BaseEvent
from llama_index_instrumentation import get_dispatcher

from tje_middleware import GateDecision
from tje_middleware.quiet import QuietLock

from ._capture.captured import CapturedEntropy

_dispatcher = get_dispatcher("llama_index_tje")


class EntropyDecisionEvent(BaseEvent):
    """A gate has decided about a draft, and the turn is over: which answer was taken, and what it cost, is known.

    A workflow's ``entropy_route`` dispatches it when it routes. Where a stream was left, or the deeper branch raised,
    ``answered_by`` is None.

    Example:
        >>> from llama_index.core.instrumentation import get_dispatcher
        >>> from llama_index.core.instrumentation.event_handlers import BaseEventHandler
        >>> from tje_middleware import Route
        >>> class Routes(BaseEventHandler):
        ...     def handle(self, event, **kwargs):
        ...         if isinstance(event, EntropyDecisionEvent):
        ...             print(event.decision["route"])
        >>> get_dispatcher("llama_index_tje").add_event_handler(Routes())
        >>> announce(GateDecision(Route.FINAL, "confident", "0.3 bits", "mean_entropy", "bayes"))
        final
        >>> get_dispatcher("llama_index_tje").event_handlers.clear()
    """

    decision: dict[str, Any] = Field(description="The fields of the decision, as GateDecision.as_dict() gives them.")

    _is_kept: bool = PrivateAttr(default=False)

    @classmethod
    def class_name(cls) -> str:
        """Class name."""
        return "EntropyDecisionEvent"

    @property
    def is_kept(self) -> bool:
        """Whether the block in which the draft was judged has the decision already."""
        return self._is_kept


def announce(decision: GateDecision, keeper: CapturedEntropy | None = None) -> None:
    """Tell LlamaIndex's event handlers what a gate has decided.

    Args:
        decision: The decision.
        keeper: The block in which the draft was judged: a stream may be read to its end, or left, anywhere.
    """
    if not QuietLock.may_wait():  # a stream that the garbage collector closes in the middle of a handler's own work
        return
    event = EntropyDecisionEvent(decision=decision.as_dict())
    if keeper is not None:
        keeper.take_decision(decision)
        event._is_kept = True
    _dispatcher.event(event)
