"""The entropy of every model call, for code that gates nothing: a callback handler, and a block that has one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk, LLMResult
from langchain_core.tracers.context import register_configure_hook

from tje_middleware.calls.captured_calls import CapturedCalls
from tje_middleware.calls.log import MAX_CALLS, CallLog, ModelCall
from tje_middleware.calls.scope import scope
from tje_middleware.gate.decision import METADATA_KEY
from tje_middleware.logprobs.fields import field

from .usage import ScopedHandler, message_of, tokens_at_failure, tokens_of, tokens_of_chunk


class EntropyCallbackHandler(CapturedCalls, ScopedHandler):
    """Keeps the logprobs and the spending of every model call that it is passed to.

    Works for all ways to call a chain: sync and async, batches, parallel branches, streams, agents, graphs; threads
    may share it. It never asks a model for logprobs: bind them (``model.bind(logprobs=True, top_logprobs=20)``), or
    wrap the chain in ``ask_logprobs``. A call without logprobs is kept, too, with the reason in their place.

    Kept are numbers and names, and the texts of the sampled tokens, which some signals need; no prompt, no message.

    Example:
        >>> from langchain_core.language_models import GenericFakeChatModel
        >>> from langchain_core.messages import AIMessage
        >>> token = {"token": "Paris", "logprob": -0.69315, "top_logprobs": [
        ...     {"token": "Paris", "logprob": -0.69315}, {"token": "Lyon", "logprob": -0.69315}]}
        >>> answer = AIMessage("Paris", response_metadata={"logprobs": {"content": [token]}})
        >>> model = GenericFakeChatModel(messages=iter([answer]))
        >>> handler = EntropyCallbackHandler()
        >>> model.invoke("The capital of France?", {"callbacks": [handler]}).text
        'Paris'
        >>> [round(call.mean_entropy, 6) for call in handler.calls]
        [1.0]

    Args:
        max_calls: Calls to keep; beyond that the oldest are let go and counted in ``dropped``.
        on_call: Called with each finished call, in the thread in which it finished.

    Raises:
        ValueError: ``max_calls`` is below 1.
    """

    def __init__(self, *, max_calls: int = MAX_CALLS, on_call: Callable[[ModelCall], None] | None = None) -> None:
        self._log = CallLog(max_calls=max_calls, on_call=on_call)

    # LangChain's events: of models

    def on_chat_model_start(
        self,
        serialized: object,
        messages: object,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Remember which model is asked, and how."""
        model, temperature = field(metadata, "ls_model_name"), field(metadata, "ls_temperature")
        self._log.start(
            run_id,
            parent_run_id,
            model=model if isinstance(model, str) else None,
            temperature=float(temperature) if isinstance(temperature, (int, float)) else None,
        )

    def on_llm_start(self, serialized: object, prompts: object, **kwargs: Any) -> None:
        """The same for completion models."""
        self.on_chat_model_start(serialized, prompts, **kwargs)

    def on_llm_new_token(
        self,
        token: str | list[Any],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        """Collect a streamed chunk's logprobs: one kind of event streaming has only the last of them in the end."""
        payload = _payload(token, chunk, kwargs.get("logprobs"))
        self._log.chunk(run_id, payload, tokens=tokens_of_chunk(token, chunk))

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Read the logprobs and let go of the answer."""
        message = message_of(response)
        self._log.end(
            run_id,
            response,
            **tokens_of(response)._asdict(),
            message_id=message.id if message is not None else None,
            answered_by=_deeper_model(message),
        )

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A call that failed, or was stopped, wrote no answer that could be measured."""
        self._log.fail(run_id, **tokens_at_failure(error, kwargs.get("response"))._asdict())

    # And of what calls them; of their inputs and outputs nothing is looked at

    def on_chain_start(
        self, serialized: object, inputs: object, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """Remember what the run is part of, while it runs."""
        self._log.enter(run_id, parent_run_id)

    def on_chain_end(self, outputs: object, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the run."""
        self._log.leave(run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the run."""
        self._log.leave(run_id)

    def on_tool_start(
        self, serialized: object, input_str: str, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """The same for tools."""
        self._log.enter(run_id, parent_run_id)

    def on_tool_end(self, output: object, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the run."""
        self._log.leave(run_id)

    def on_retriever_start(
        self, serialized: object, query: str, *, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any
    ) -> None:
        """The same for retrievers."""
        self._log.enter(run_id, parent_run_id)

    def on_retriever_end(self, documents: object, *, run_id: UUID, **kwargs: Any) -> None:
        """Forget the run."""
        self._log.leave(run_id)

    on_tool_error = on_retriever_error = on_chain_error


_capturing: ContextVar[EntropyCallbackHandler | None] = ContextVar("tje_capture_entropy", default=None)
register_configure_hook(_capturing, inheritable=True)


@contextmanager
def capture_entropy(
    *, max_calls: int = MAX_CALLS, on_call: Callable[[ModelCall], None] | None = None
) -> Iterator[EntropyCallbackHandler]:
    """Watch every model call in the block, however deep in whatever runs there, without passing callbacks.

    Tasks, batches and parallel branches that are started in the block belong to it; a bare ``threading.Thread`` does
    not, unless it is run in a copy of the context. Of blocks within one another, each sees the calls of those inside.

    It never asks a model for logprobs: bind them, or wrap the chain in ``ask_logprobs``.

    Example:
        >>> from langchain_core.language_models import GenericFakeChatModel
        >>> from langchain_core.messages import AIMessage
        >>> token = {"token": "Paris", "logprob": -0.69315, "top_logprobs": [
        ...     {"token": "Paris", "logprob": -0.69315}, {"token": "Lyon", "logprob": -0.69315}]}
        >>> answer = AIMessage("Paris", response_metadata={"logprobs": {"content": [token]}})
        >>> chain = GenericFakeChatModel(messages=iter([answer])) | (lambda message: message.text)
        >>> with capture_entropy() as seen:
        ...     chain.invoke("The capital of France?")
        'Paris'
        >>> round(seen.mean_entropy, 6), len(seen.calls)
        (1.0, 1)

    Args:
        max_calls: Calls to keep; beyond that the oldest are let go and counted in ``dropped``.
        on_call: Called with each finished call, in the thread in which it finished.

    Yields:
        The handler that sees them; it can be asked during the block and after it.

    Raises:
        ValueError: ``max_calls`` is below 1.
    """

    def handler(around: EntropyCallbackHandler | None) -> EntropyCallbackHandler:
        made = EntropyCallbackHandler(max_calls=max_calls, on_call=on_call)
        made._log.parent = around._log if around is not None else None
        return made

    with scope(_capturing, handler) as made:
        yield made


def _deeper_model(message: object) -> str | None:
    """The model behind a gated one that answered in its place; a gated chat model passes for its draft's."""
    metadata = message.response_metadata if isinstance(message, AIMessage) else {}
    if field(metadata.get(METADATA_KEY), "answered_by") != "deeper":
        return None
    return str(metadata.get("model_name") or "the deeper model of a gate")


def _payload(token: object, chunk: GenerationChunk | ChatGenerationChunk | None, logprobs: object) -> object:
    """A chunk as one message with its logprobs, wherever the integration put them.

    They may stand apart from the text, and text without logprobs must not be overlooked.
    """
    if chunk is None:
        return {"content": token, "response_metadata": {"logprobs": logprobs}}
    message, info = getattr(chunk, "message", None), chunk.generation_info or {}
    if message is None:
        return {"content": chunk.text, "response_metadata": info}
    metadata = {**info, **message.response_metadata}
    return {
        "content": message.content,
        "response_metadata": metadata,
        "additional_kwargs": message.additional_kwargs,
    }
