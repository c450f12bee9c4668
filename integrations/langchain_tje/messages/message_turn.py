"""A gated turn whose answers are LangChain's: what a message holds, and which model call wrote the draft."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, cast
from uuid import UUID

import numpy as np
from langchain_core.messages import AIMessage
from langchain_core.outputs import LLMResult

from tje_middleware import GateDecision, MissingLogprobs, SequenceLogprobs, TokenUsage, UnreadableLogprobs
from tje_middleware.branches import Branch, StreamingBranch
from tje_middleware.calls.log import ModelCall, RunId
from tje_middleware.gate.decision import METADATA_KEY, decision_held
from tje_middleware.gate.delivery import Delivery
from tje_middleware.gate.turn import GatedTurn
from tje_middleware.logprobs.evidence import Evidence, read

from ..asking.chain import Visited
from ..branches.deeper import ChainBranch, is_control_flow
from ..callbacks.handler import EntropyCallbackHandler, SpendingHandler
from .answer import annotated, message_in, usage_in, without_logprobs
from .visibility import EVENT

_UNCOUNTED = TokenUsage(partly_known=1, calls=1)
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
        delivery: The rules, with the deeper branch.
        visited: What writes the draft, its models asked for logprobs.
        keeps_logprobs: Whether the user asks for logprobs anyway, and expects them in the answer.
    """

    def __init__(self, delivery: Delivery, visited: Visited, *, keeps_logprobs: bool = False) -> None:
        super().__init__(delivery)
        self._branch = cast("Branch[Any, Any]", delivery.branch)
        self._visited = visited
        self._keeps_logprobs = keeps_logprobs
        self._drafting = DraftCapture()
        self._deepening = SpendingHandler()
        self._told = TokenUsage()

    @abstractmethod
    def ask(self, decision: GateDecision) -> Any:
        """The question in the form in which the deeper branch takes it."""

    def deeper(self, decision: GateDecision) -> Any:
        """The branch's answer."""
        return self._branch.run(self.ask(decision))

    async def adeeper(self, decision: GateDecision) -> Any:
        """The same on the event loop."""
        return await self._branch.arun(self.ask(decision))

    def deeper_chunks(self, decision: GateDecision) -> Iterator[Any]:
        """The branch's stream, where it has one."""
        if isinstance(self._branch, StreamingBranch):
            return self._branch.chunks(self.ask(decision))
        return super().deeper_chunks(decision)

    def adeeper_chunks(self, decision: GateDecision) -> AsyncIterator[Any]:
        """The same on the event loop."""
        if isinstance(self._branch, StreamingBranch):
            return self._branch.achunks(self.ask(decision))
        return super().adeeper_chunks(decision)

    def require_deeper(self, *, on_loop: bool) -> None:
        """Refuse a user's function that cannot be called this way."""
        if isinstance(self._branch, ChainBranch):
            self._branch.require(on_loop=on_loop)

    def message_in(self, answer: Any) -> AIMessage | None:
        """The model's message in an answer, where there is one."""
        return message_in(answer)

    def writer_of(self, draft: Any) -> ModelCall:
        """The call that the message names, or the last one that can have written it."""
        return self._drafting.writer_of(
            self.message_in(draft) or draft, trusted=self._visited.asked and not self._visited.several
        )

    def annotated(self, answer: Any, decision: GateDecision) -> Any:
        """The message with the decision, and with the usage that earlier chunks did not tell of."""
        return annotated(answer, decision, self._told)

    @property
    def draft_usage(self) -> TokenUsage:
        """The usage of the draft's model calls."""
        return self._drafting.usage

    @property
    def deeper_usage(self) -> TokenUsage:
        """The usage of the deeper branch's model calls."""
        return self._deepening.usage

    @property
    def deeper_model(self) -> str | None:
        """The model of the deeper branch's last call."""
        return self._deepening.model

    def decision_in(self, draft: Any) -> GateDecision | None:
        """The decision in the draft's message."""
        message = self.message_in(draft)
        return None if message is None else decision_held(message.response_metadata.get(METADATA_KEY))

    def text_of(self, answer: Any) -> str | None:
        """The text of its message; of an answer without one, its ``str``."""
        message = self.message_in(answer)
        return str(answer) if message is None else str(message.text)

    def shown(self, draft: Any) -> Any:
        """The draft without logprobs, unless the user asked for them, too."""
        return draft if self._keeps_logprobs else without_logprobs(draft)

    def passed_on(self, chunk: Any) -> Any:
        """The chunk unchanged; its usage is remembered, so that the last chunk does not count it again."""
        self._told += usage_in(chunk)
        return chunk

    def has_place(self, chunk: Any) -> bool:
        """Whether there is a message in the chunk."""
        return self.message_in(chunk) is not None

    def calls_tools(self, draft: Any) -> bool:
        """Whether the message calls tools, with valid arguments or not."""
        message = self.message_in(draft)
        return message is not None and bool(message.tool_calls or message.invalid_tool_calls)

    def why_missing(self, draft: Any) -> str | None:
        """No model could be asked; or the draft calls tools, for which some providers give no logprobs."""
        message = self.message_in(draft)
        if not self._visited.asked:
            return _HIDDEN
        return _CALL if message is not None and message.tool_calls else None

    def is_control_flow(self, error: Exception) -> bool:
        """Whether the error is LangGraph's way to interrupt or redirect a graph."""
        return is_control_flow(error)


class DraftCapture(EntropyCallbackHandler):
    """Watches the model calls of one run of a draft, to find the one that wrote it; ``usage`` is the draft's."""

    def __init__(self) -> None:
        super().__init__()
        self._last_failed = False
        self._given_up: set[RunId] = set()

    def writer_of(self, draft: object, *, trusted: bool) -> ModelCall:
        """The call that wrote the draft; one that holds the reason where that cannot be told.

        Args:
            draft: What the chain gave: a message names the call that wrote it.
            trusted: Whether the chain's one last model is known, so that a draft that is no message was written by
                the last call. A function may call models in any order, and answer with whichever it likes.
        """
        calls = [call for call in self.calls if call.run_id not in self._given_up]
        if isinstance(draft, AIMessage) and (draft.response_metadata or _named(draft, calls)):
            return _writer_of_message(draft, calls)
        if self._last_failed or not calls:
            return _unknown(MissingLogprobs("no model call was seen to write the draft"))
        measured = [call for call in calls if not isinstance(call.logprobs, MissingLogprobs)]
        if len(measured) > 1 or (len(calls) > 1 and not trusted):
            return _unknown(_several(calls))
        if isinstance(draft, AIMessage) and not _spells(calls[-1], draft):
            return _unknown(MissingLogprobs("the draft's message is not the one that the model wrote"))
        return calls[-1]

    def on_chain_error(self, *args: object, run_id: UUID, **kwargs: Any) -> None:
        """The calls of a chain that failed are no candidates for the one that wrote the draft."""
        self._given_up.update(call.run_id for call in self.calls_of(run_id))
        super().on_chain_error(*args, run_id=run_id, **kwargs)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Read the logprobs and let go of the answer."""
        super().on_llm_end(response, run_id=run_id, **kwargs)
        self._last_failed = False

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Remember that the last call failed: unless another follows, no call wrote the draft."""
        super().on_llm_error(error, run_id=run_id, **kwargs)
        self._last_failed = True

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the calls that an inner gate rejected: its deeper branch, which comes next, writes the draft."""
        if name == EVENT and data.get("answered_by") != "draft":
            self.clear()


def _writer_of_message(draft: AIMessage, calls: Sequence[ModelCall]) -> ModelCall:
    """The call that wrote a message; where no call was seen to, one made of what the message itself says."""
    named = _named(draft, calls)
    if len(named) == 1:
        return named[0]
    evidence = read(draft)
    candidates = [call for call in named or calls if _alike(call.logprobs, evidence)]
    if candidates:
        return candidates[-1]  # all of them have the same logprobs
    if named:
        return _unknown(_several(named))
    model = draft.response_metadata.get("model_name")
    return ModelCall(None, evidence, _UNCOUNTED, model=model, message_id=draft.id)


def _named(draft: AIMessage, calls: Sequence[ModelCall]) -> list[ModelCall]:
    return [call for call in calls if draft.id is not None and call.message_id == draft.id]


def _alike(one: Evidence, other: Evidence) -> bool:
    if not isinstance(one, SequenceLogprobs) or not isinstance(other, SequenceLogprobs):
        return False
    return np.array_equal(one.top_logprobs, other.top_logprobs)


def _spells(call: ModelCall, draft: AIMessage) -> bool:
    """Whether a message has the text of the call's answer; True where the call has no text to compare."""
    text = call.logprobs.text if isinstance(call.logprobs, SequenceLogprobs) else None
    return text is None or draft.text.strip() == text.strip()


def _several(calls: Sequence[ModelCall]) -> UnreadableLogprobs:
    several = f"{len(calls)} model calls were made, and which one wrote the draft cannot be told"
    return UnreadableLogprobs(f"{several}; let the chain answer with the model's own message")


def _unknown(reason: UnreadableLogprobs) -> ModelCall:
    return ModelCall(None, reason, _UNCOUNTED)
