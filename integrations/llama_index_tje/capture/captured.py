"""What a handler or a block keeps of what it sees: calls, decisions, and its own errors."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from llama_index.core.bridge.pydantic import Field
from llama_index.core.instrumentation.events import BaseEvent

from tje_middleware import GateDecision
from tje_middleware.calls.captured_calls import CapturedCalls
from tje_middleware.calls.log import MAX_CALLS, CallLog, ModelCall, RunId
from tje_middleware.calls.scope import QuietLock, Scoped

_logger = logging.getLogger("llama_index_tje")


class CapturedEntropy(CapturedCalls, Scoped):
    """What was seen in a block of ``capture_entropy``, or by a handler; numbers and names, no prompt, no answer.

    Attributes:
        settle: Called before anybody looks: finds out which streams are over, where nobody was told.
        opened_in: The stream in whose code the block was opened; None where it was opened in none.
        superseded: Of a gate's draft the runs of calls that do not speak for it, since a gate within the draft
            replaced their answer; None of any other block.

    Args:
        max_calls: Calls, and decisions, to keep; beyond that the oldest are let go.
        on_call: Called with each finished call, in the thread in which it finished.

    Raises:
        ValueError: ``max_calls`` is below 1.
    """

    def __init__(self, *, max_calls: int = MAX_CALLS, on_call: Callable[[ModelCall], None] | None = None) -> None:
        self.settle: Callable[[], None] | None = None
        self.opened_in: str | None = None
        self.superseded: set[RunId] | None = None
        self._outer: CapturedEntropy | None = None
        self._log = CallLog(max_calls=max_calls, on_call=None if on_call is None else self._told_safely(on_call))
        self._lock = QuietLock()
        self._decisions: deque[GateDecision] = deque(maxlen=max_calls)
        self._errors = 0

    @property
    def decisions(self) -> tuple[GateDecision, ...]:
        """What gates decided, oldest first."""
        with self._lock:
            return tuple(self._decisions)

    @property
    def errors(self) -> int:
        """Errors of the handler itself, or of ``on_call``; each was logged, since LlamaIndex keeps silent of them."""
        return self._errors

    def _settled(self) -> CallLog:
        if self.settle is not None:
            self.settle()
        return self._log

    def be_within(self, around: CapturedEntropy | None) -> None:
        """Tell another block of all that is seen here, too."""
        self._outer = around
        self._log.parent = None if around is None else around._log

    def outwards(self) -> Iterator[CapturedEntropy]:
        """This block and those that are told of all that is seen here, innermost first."""
        block: CapturedEntropy | None = self
        while block is not None:
            yield block
            block = block._outer

    def tells(self, other: CapturedEntropy) -> bool:
        """Whether all that is seen here is seen by the other: it is the same, or around this one."""
        return any(block is other for block in self.outwards())

    def take_decision(self, decision: GateDecision) -> None:
        """Keep what a gate decided."""
        for block in self.outwards():
            with block._lock:
                block._decisions.append(decision)

    def supersede(self, calls: Iterable[ModelCall]) -> None:
        """Note calls whose answer was replaced by another one: they speak for no draft that they were made in."""
        runs = {call.run_id for call in calls}
        for block in self.outwards():
            if block.superseded is not None:
                block.superseded |= runs

    def take_error(self, doing: str) -> None:
        """Log the exception that is being handled: LlamaIndex swallows what handlers raise."""
        _logger.exception("%s failed; the answer is not affected", doing)
        with self._lock:
            self._errors += 1

    def _told_safely(self, on_call: Callable[[ModelCall], None]) -> Callable[[ModelCall], None]:
        def tell(call: ModelCall) -> None:
            try:
                on_call(call)
            except Exception:
                self.take_error("on_call")

        return tell


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
        >>> from llama_index_tje.capture.blocks import announce
        >>> announce(GateDecision(Route.FINAL, "confident", "0.3 bits", "mean_entropy", "bayes"))
        final
        >>> get_dispatcher("llama_index_tje").event_handlers.clear()
    """

    decision: dict[str, Any] = Field(description="The fields of the decision, as GateDecision.as_dict() gives them.")

    @classmethod
    def class_name(cls) -> str:
        """Class name."""
        return "EntropyDecisionEvent"
