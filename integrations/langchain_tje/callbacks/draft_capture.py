"""What the model calls of one draft said of themselves, and which of them wrote it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import numpy as np
from langchain_core.messages import AIMessage
from langchain_core.outputs import LLMResult

from tje_middleware import MissingLogprobs, SequenceLogprobs, UnreadableLogprobs
from tje_middleware.calls.log import ModelCall, RunId
from tje_middleware.calls.usage import TokenUsage
from tje_middleware.logprobs.evidence import Evidence, read

from ..messages.trace import EVENT
from .handler import EntropyCallbackHandler

__all__ = ["EVENT", "DraftCapture", "Evidence", "ModelCall", "read"]


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

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """What was called in a chain that failed did not write the draft, if something else did."""
        self._given_up.update(call.run_id for call in self.calls_of(run_id))
        super().on_chain_error(error, run_id=run_id, **kwargs)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Read the logprobs and let go of the answer."""
        super().on_llm_end(response, run_id=run_id, **kwargs)
        self._last_failed = False

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A call that failed wrote no draft; unless another follows, nobody did."""
        super().on_llm_error(error, run_id=run_id, **kwargs)
        self._last_failed = True

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """A gate within the draft that rejects what it measured rejects it for this one, too."""
        if name == EVENT and data.get("answered_by") != "draft":
            self.clear()


_UNCOUNTED = TokenUsage(partly_known=1, calls=1)


def _writer_of_message(draft: AIMessage, calls: Sequence[ModelCall]) -> ModelCall:
    """The call that wrote a message; one that is known by the message alone where none was seen to."""
    named = _named(draft, calls)
    if len(named) == 1:
        return named[0]
    evidence = read(draft)
    candidates = [call for call in named or calls if _alike(call.logprobs, evidence)]
    if candidates:
        return candidates[-1]  # they say the same, whichever it was
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
    """Whether a message without metadata has the words of the call's answer; True where nothing can be compared."""
    text = call.logprobs.text if isinstance(call.logprobs, SequenceLogprobs) else None
    return text is None or draft.text.strip() == text.strip()


def _several(calls: Sequence[ModelCall]) -> UnreadableLogprobs:
    several = f"{len(calls)} model calls were made, and which one wrote the draft cannot be told"
    return UnreadableLogprobs(f"{several}; let the chain answer with the model's own message")


def _unknown(reason: UnreadableLogprobs) -> ModelCall:
    return ModelCall(None, reason, _UNCOUNTED)
