"""One question to a gated chat model: both models are called below their own callbacks, as parts of its one run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from tje_middleware import GateDecision
from tje_middleware.delivery import Delivery

from .._answer import in_words
from .._turn import MessageTurn
from .._usage import SpendingHandler
from .direct_call import Answer, DirectCall, DirectCapture


class ChatTurn(MessageTurn):
    """What one question asks of two models.

    Args:
        delivery: The rules.
        draft: The request to the draft's model, which asks for logprobs.
        deeper: The request to the deeper model, if it comes to that.
        drafting: Hears of the first.
        deepening: Hears of the second.
        keeps_logprobs: Whether the user asks for logprobs anyway, and expects them in the answer.
    """

    def __init__(
        self,
        delivery: Delivery,
        *,
        draft: DirectCall,
        deeper: DirectCall,
        drafting: DirectCapture,
        deepening: SpendingHandler,
        keeps_logprobs: bool,
    ) -> None:
        super().__init__(delivery, drafting=drafting, deepening=deepening, keeps_logprobs=keeps_logprobs)
        self._draft_call = draft
        self._deeper_call = deeper

    def draft(self) -> Answer:
        """The first model's answer."""
        return self._draft_call.whole()

    async def adraft(self) -> Answer:
        """The same on the event loop."""
        return await self._draft_call.awhole()

    def draft_chunks(self) -> Iterator[Answer]:
        """The first model's stream."""
        return self._draft_call.chunks()

    def adraft_chunks(self) -> AsyncIterator[Answer]:
        """The same on the event loop."""
        return self._draft_call.achunks()

    def deeper(self, decision: GateDecision) -> Answer:
        """The second model's answer."""
        return self._deeper_call.whole()

    async def adeeper(self, decision: GateDecision) -> Answer:
        """The same on the event loop."""
        return await self._deeper_call.awhole()

    def deeper_chunks(self, decision: GateDecision) -> Iterator[Answer]:
        """The second model's stream."""
        return self._deeper_call.chunks()

    def adeeper_chunks(self, decision: GateDecision) -> AsyncIterator[Answer]:
        """The same on the event loop."""
        return self._deeper_call.achunks()

    def question_text(self) -> str | None:
        """The conversation so far."""
        return in_words(self._draft_call.messages)
