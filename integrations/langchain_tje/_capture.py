"""What the draft's model call said of itself, seen through LangChain's callbacks."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from tje_middleware import SequenceLogprobs, UnreadableLogprobs, parse_logprobs


@dataclass(frozen=True)
class ModelCall:
    """One finished model call: numbers and names, never the prompt or the answer.

    Attributes:
        model: The model as it was asked for, or None where the integration does not say.
        temperature: The sampling temperature, or None where the integration does not say.
        logprobs: Its logprobs, or the error that says why there are none.
    """

    model: str | None
    temperature: float | None
    logprobs: SequenceLogprobs | UnreadableLogprobs


class DraftCapture(BaseCallbackHandler):
    """Watches the model calls of one run of a draft; the last one to end wrote the draft."""

    # On the event loop and in order: handlers in executor threads may see the end of a call too late.
    run_inline = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started: dict[UUID, tuple[str | None, float | None]] = {}
        self.last: ModelCall | None = None
        #: True when two calls ran at the same time, so that which one wrote the draft cannot be told.
        self.ambiguous = False

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
        logprobs: SequenceLogprobs | UnreadableLogprobs
        try:
            logprobs = parse_logprobs(response)
        except UnreadableLogprobs as error:
            logprobs = error
        with self._lock:
            model, temperature = self._started.pop(run_id, (None, None))
            self.last = ModelCall(model, temperature, logprobs)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A call that failed wrote no draft."""
        with self._lock:
            self._started.pop(run_id, None)

    def _start(self, run_id: UUID, metadata: dict[str, Any]) -> None:
        model, temperature = metadata.get("ls_model_name"), metadata.get("ls_temperature")
        with self._lock:
            self.ambiguous = self.ambiguous or bool(self._started)
            self._started[run_id] = (
                model if isinstance(model, str) else None,
                float(temperature) if isinstance(temperature, (int, float)) else None,
            )
