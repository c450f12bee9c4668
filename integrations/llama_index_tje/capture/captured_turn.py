"""A turn whose draft is more than one LLM's response: what speaks for it are the model calls that made it."""

from __future__ import annotations

import sys
from abc import ABC
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from tje_middleware import GateDecision, MissingLogprobs, TokenUsage
from tje_middleware.calls.aggregation import TOO_MANY, Aggregate, aggregated, with_advice
from tje_middleware.calls.log import ModelCall
from tje_middleware.gate.delivery import Delivery
from tje_middleware.gate.turn import GatedTurn

from ..answers.places import decision_in
from .blocks import announce, block_here, supersede
from .captured import CapturedEntropy
from .handler import capture_entropy

Answer = TypeVar("Answer")


class AnnouncedTurn(GatedTurn[Answer], ABC):
    """A turn whose decision LlamaIndex's event handlers hear, and the block in which the draft was judged."""

    _judged_in: CapturedEntropy | None = None

    def announce(self, decision: GateDecision) -> None:
        """Note the block in which the draft was judged: the turn may end anywhere."""
        self._judged_in = block_here()

    def tell(self, decision: GateDecision) -> None:
        """Dispatch the decision as an event, once, when it is known what the answer cost."""
        announce(decision, self._judged_in)


class CapturedTurn(AnnouncedTurn[Answer], ABC):
    """Listens to the calls of the draft, and of the deeper branch, while they run.

    Args:
        delivery: The rules.
        aggregate: Which of several model calls speak for the draft.
    """

    def __init__(self, delivery: Delivery, aggregate: Aggregate) -> None:
        super().__init__(delivery)
        self._aggregate = aggregate
        self._drafting = CapturedEntropy()
        self._deepening = CapturedEntropy()

    @contextmanager
    def _as_draft(self) -> Iterator[None]:
        """What is called in the block is called for the draft."""
        with capture_entropy() as self._drafting:
            self._drafting.superseded = set()
            yield

    @contextmanager
    def _as_deeper(self) -> Iterator[None]:
        """What is called in the block is called for the deeper answer."""
        with capture_entropy() as self._deepening:
            yield

    @property
    def _calls(self) -> tuple[ModelCall, ...]:
        """The calls that may speak for the draft: not those whose answer a gate within it replaced."""
        superseded = self._drafting.superseded or ()
        return tuple(call for call in self._drafting.calls if call.run_id not in superseded)

    def writer_of(self, draft: Answer) -> ModelCall:
        """The evidence of all calls that the draft was made by, by the rule."""
        speaking = aggregated(self._calls, self._aggregate, self.delivery.gate)
        if self._drafting.dropped and self._aggregate != "last":  # nobody can say how bad those were
            return replace(speaking, logprobs=MissingLogprobs(TOO_MANY.format(self._drafting.dropped)))
        return speaking

    def decision_in(self, draft: Answer) -> GateDecision | None:
        """The one that a response, or what an engine answered, holds."""
        return decision_in(draft)

    def was_asked(self, draft: Answer) -> bool:
        """Whether a model was called at all."""
        return bool(self._calls)

    def remark(self, draft: Answer) -> str | None:
        """By which rule the calls were aggregated, where there were several."""
        return with_advice(self._aggregate, self._calls)

    def is_control_flow(self, error: Exception) -> bool:
        """Whether a workflow waits for an event, to run its step again when that has come, or was cancelled."""
        # Where these were never imported, nothing can have raised them; the first is newer than the oldest release.
        results, errors = sys.modules.get("workflows.runtime.types.results"), sys.modules.get("workflows.errors")
        kinds = (getattr(results, "WaitingForEvent", None), getattr(errors, "WorkflowCancelledByUser", None))
        return isinstance(error, tuple(kind for kind in kinds if kind is not None))

    @property
    def draft_usage(self) -> TokenUsage:
        """What the draft's model calls spent."""
        return self._drafting.usage

    @property
    def deeper_usage(self) -> TokenUsage:
        """The same of the deeper branch."""
        return self._deepening.usage

    @property
    def deeper_model(self) -> str | None:
        """That of the deeper branch's last call."""
        last = self._deepening.last
        return None if last is None else last.model

    def _supersede_losers(self, decision: GateDecision) -> None:
        """Tell a gate around this one whose calls are not in the answer."""
        supersede((self._drafting if decision.answered_by == "deeper" else self._deepening).calls)
