"""What the model calls of one draft said of themselves, and which of them wrote it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from langchain_core.messages import AIMessage
from langchain_core.outputs import LLMResult

from tje_middleware import MissingLogprobs, UnreadableLogprobs
from tje_middleware.capture import ModelCall
from tje_middleware.evidence import Evidence, read
from tje_middleware.usage import TokenUsage

from ._callback import EntropyCallbackHandler
from ._trace import EVENT

__all__ = ["EVENT", "DraftCapture", "Evidence", "ModelCall", "read"]


class DraftCapture(EntropyCallbackHandler):
    """Watches the model calls of one run of a draft, to find the one that wrote it; ``usage`` is the draft's."""

    # Which run a call is part of does not matter within one draft.
    ignore_chain = True
    ignore_agent = True
    ignore_retriever = True

    def __init__(self) -> None:
        super().__init__()
        self._last_failed = False

    def writer_of(self, draft: object, *, trusted: bool) -> ModelCall:
        """The call that wrote the draft; one that holds the reason where that cannot be told.

        Args:
            draft: What the chain gave: a message names the call that wrote it.
            trusted: Whether the chain's last model is known, so that a draft that is no message was written by the
                last call. A function may call models in any order, and answer with whichever it likes.
        """
        calls = self.calls
        if isinstance(draft, AIMessage) and draft.response_metadata:
            for call in calls:
                if draft.id is not None and call.message_id == draft.id:
                    return call
            model = draft.response_metadata.get("model_name")
            return ModelCall(None, read(draft), _UNCOUNTED, model=model, message_id=draft.id)
        measured = [call for call in calls if not isinstance(call.logprobs, MissingLogprobs)]
        if self._last_failed or not calls:
            return _unknown(MissingLogprobs("no model call was seen to write the draft"))
        if len(measured) > 1 or (len(calls) > 1 and not trusted):
            several = f"{len(calls)} model calls were made, and which one wrote the draft cannot be told"
            return _unknown(UnreadableLogprobs(f"{several}; let the chain answer with the model's own message"))
        return calls[-1]

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


def _unknown(reason: UnreadableLogprobs) -> ModelCall:
    return ModelCall(None, reason, _UNCOUNTED)
