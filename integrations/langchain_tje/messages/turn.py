"""What a gated turn knows of LangChain's answers, whatever asks for them: a runnable, a model, an agent. No I/O."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage

from tje_middleware import GateDecision, TokenUsage
from tje_middleware.calls.log import ModelCall
from tje_middleware.gate.decision import METADATA_KEY, decision_held
from tje_middleware.gate.delivery import Delivery
from tje_middleware.gate.turn import GatedTurn

from ..branches.deeper import is_control_flow
from ..callbacks.draft_capture import DraftCapture
from ..callbacks.usage import SpendingHandler
from .answer import annotated, message_in, usage_in, without_logprobs

_CALL = (
    "the draft is a call of tools, for which its provider gave no logprobs; where calls need no second look, "
    "EntropyGateMiddleware(tool_calls='pass') accepts them unjudged"
)
_HIDDEN = (
    "the chain calls its model where it cannot be asked for logprobs: use a chat model wrapped in ask_logprobs() "
    "there"
)


class MessageTurn(GatedTurn[Any]):
    """A turn whose answers are messages, have one under ``raw``, or are what a chain made of one.

    Args:
        delivery: The rules.
        drafting: Watches the draft's model calls.
        deepening: Counts what those of the deeper branch spend.
        model_seen: Whether there was a model to be asked; a draft without one is explained otherwise.
        one_writer: Whether no more than one of them writes the draft.
        keeps_logprobs: Whether the user asks for logprobs anyway, and expects them in the answer.
    """

    def __init__(
        self,
        delivery: Delivery,
        *,
        drafting: DraftCapture,
        deepening: SpendingHandler,
        model_seen: bool = True,
        one_writer: bool = True,
        keeps_logprobs: bool = False,
    ) -> None:
        super().__init__(delivery)
        self._drafting = drafting
        self._deepening = deepening
        self._model_seen = model_seen
        self._one_writer = one_writer
        self._keeps_logprobs = keeps_logprobs
        self._told = TokenUsage()

    def message_in(self, answer: Any) -> AIMessage | None:
        """The model's message in an answer, where there is one."""
        return message_in(answer)

    def writer_of(self, draft: Any) -> ModelCall:
        """The call that the message names, or the last one that can have written it."""
        return self._drafting.writer_of(self.message_in(draft) or draft, trusted=self._one_writer)

    def annotated(self, answer: Any, decision: GateDecision) -> Any:
        """The message with the decision, and with the usage that earlier chunks did not tell of."""
        return annotated(answer, decision, self._told)

    @property
    def draft_usage(self) -> TokenUsage:
        """That of all its model calls."""
        return self._drafting.usage

    @property
    def deeper_usage(self) -> TokenUsage:
        """That of all its model calls."""
        return self._deepening.usage

    @property
    def deeper_model(self) -> str | None:
        """That of its last model call."""
        return self._deepening.model

    def decision_in(self, draft: Any) -> GateDecision | None:
        """The one in its message."""
        message = self.message_in(draft)
        return None if message is None else decision_held(message.response_metadata.get(METADATA_KEY))

    def text_of(self, answer: Any) -> str | None:
        """That of its message; what is none, as Python writes it."""
        message = self.message_in(answer)
        return str(answer) if message is None else str(message.text)

    def shown(self, draft: Any) -> Any:
        """Without the logprobs that only the gate wanted."""
        return draft if self._keeps_logprobs else without_logprobs(draft)

    def passed_on(self, chunk: Any) -> Any:
        """As it is; what it tells of usage is not told again."""
        self._told += usage_in(chunk)
        return chunk

    def has_place(self, chunk: Any) -> bool:
        """Whether it is a message."""
        return self.message_in(chunk) is not None

    def calls_tools(self, draft: Any) -> bool:
        """Whether the message calls tools, be it wrongly."""
        message = self.message_in(draft)
        return message is not None and bool(message.tool_calls or message.invalid_tool_calls)

    def why_missing(self, draft: Any) -> str | None:
        """A model out of sight, or a call of tools, for which some providers give none."""
        message = self.message_in(draft)
        if not self._model_seen:
            return _HIDDEN
        return _CALL if message is not None and message.tool_calls else None

    def is_control_flow(self, error: Exception) -> bool:
        """Whether it is LangGraph's."""
        return is_control_flow(error)
