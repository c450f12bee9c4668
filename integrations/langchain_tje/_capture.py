"""What the model calls of a draft said of themselves, seen through LangChain's callbacks."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import LLMResult

from tje_middleware import MissingLogprobs, SequenceLogprobs, UnreadableLogprobs, parse_logprobs

EVENT = "tje_decision"
Evidence = SequenceLogprobs | UnreadableLogprobs


@dataclass(frozen=True)
class ModelCall:
    """One finished model call: numbers and names, never the prompt or the answer.

    Attributes:
        model: The model as it was asked for, or None where the integration does not say.
        temperature: The sampling temperature, or None where the integration does not say.
        message_id: The id of the message that it wrote, or None where it has none.
        logprobs: Its logprobs, or the error that says why there are none.
    """

    model: str | None
    temperature: float | None
    message_id: str | None
    logprobs: Evidence


class DraftCapture(BaseCallbackHandler):
    """Watches the model calls of one run of a draft, to find the one that wrote it."""

    # On the event loop and in order: handlers in executor threads may see the end of a call too late.
    run_inline = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started: dict[UUID, tuple[str | None, float | None]] = {}
        self._ended: list[ModelCall] = []
        self._last_failed = False

    def writer_of(self, draft: object, *, trusted: bool) -> ModelCall:
        """The call that wrote the draft; one that holds the reason where that cannot be told.

        Args:
            draft: What the chain gave: a message names the call that wrote it.
            trusted: Whether the chain's last model is known, so that a draft that is no message was written by the
                last call. A function may call models in any order, and answer with whichever it likes.
        """
        if isinstance(draft, AIMessage) and draft.response_metadata:
            for call in self._ended:
                if draft.id is not None and call.message_id == draft.id:
                    return call
            return ModelCall(draft.response_metadata.get("model_name"), None, draft.id, read(draft))
        measured = [call for call in self._ended if not isinstance(call.logprobs, MissingLogprobs)]
        if self._last_failed or not self._ended:
            return _unknown(MissingLogprobs("no model call was seen to write the draft"))
        if len(measured) > 1 or (len(self._ended) > 1 and not trusted):
            several = f"{len(self._ended)} model calls were made, and which one wrote the draft cannot be told"
            return _unknown(UnreadableLogprobs(f"{several}; let the chain answer with the model's own message"))
        return self._ended[-1]

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: Sequence[Sequence[BaseMessage]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Remember which model is asked, and how."""
        self._start(run_id, metadata or {})

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """The same for completion models."""
        self._start(run_id, metadata or {})

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Read the logprobs and let go of the payload."""
        logprobs = read(response)
        with self._lock:
            model, temperature = self._started.pop(run_id, (None, None))
            self._ended.append(ModelCall(model, temperature, _message_id(response), logprobs))
            self._last_failed = False

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A call that failed wrote no draft; unless another follows, nobody did."""
        with self._lock:
            self._started.pop(run_id, None)
            self._last_failed = True

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """A gate within the draft that rejects what it measured rejects it for this one, too."""
        if name == EVENT and data.get("route") != "final":
            with self._lock:
                self._ended.clear()

    def _start(self, run_id: UUID, metadata: dict[str, Any]) -> None:
        model, temperature = metadata.get("ls_model_name"), metadata.get("ls_temperature")
        with self._lock:
            self._started[run_id] = (
                model if isinstance(model, str) else None,
                float(temperature) if isinstance(temperature, (int, float)) else None,
            )


def read(payload: object) -> Evidence:
    """The logprobs, or the error that says why there are none."""
    try:
        return parse_logprobs(payload)
    except UnreadableLogprobs as error:
        return error


def _unknown(reason: UnreadableLogprobs) -> ModelCall:
    return ModelCall(None, None, None, reason)


def _message_id(response: LLMResult) -> str | None:
    if not response.generations or not response.generations[0]:
        return None
    message = getattr(response.generations[0][0], "message", None)
    return message.id if isinstance(message, BaseMessage) else None
