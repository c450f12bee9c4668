"""The callback handlers that hear of model calls: what they spend, and with what entropy they answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypedDict
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, Generation, GenerationChunk, LLMResult
from langchain_core.tracers.context import register_configure_hook

from tje_middleware import TokenUsage
from tje_middleware.calls.captured_calls import CapturedCalls
from tje_middleware.calls.log import MAX_CALLS, CallLog, ModelCall
from tje_middleware.calls.scope import Scoped, scope
from tje_middleware.calls.usage import SpendingLog
from tje_middleware.gate.decision import METADATA_KEY
from tje_middleware.logprobs.fields import field

from ..messages.answer import is_cached

#: A streamed token as LangChain tells of it: its text, or its content blocks; and the chunk that it came in.
Token = str | list[Any]
Chunk = GenerationChunk | ChatGenerationChunk | None


class TokenCounts(TypedDict):
    """What a provider says of one call; None where it does not say (tokens)."""

    input_tokens: int | None
    output_tokens: int | None


class ScopedHandler(Scoped, BaseCallbackHandler):
    """A handler for all chains of a block: it stands in a context variable that LangChain looks into."""

    # Called in order on the event loop; in executor threads it might hear of the end of a call too late.
    run_inline = True
    _log: Any  # a CallLog or a SpendingLog

    def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
        """The same for completion models."""
        self.on_chat_model_start(*args, **kwargs)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Count what a call had spent when it failed or was stopped, from the error or from its last answer."""
        usage = getattr(error, "usage", None)
        if isinstance(usage, TokenUsage):  # of a draft that was stopped below the callbacks
            spent = _tokens(usage.input_tokens, usage.output_tokens)
        else:
            spent = tokens_of(kwargs.get("response"))
        self._log.fail(run_id, **spent)


class SpendingHandler(ScopedHandler):
    """Adds up what model calls spend; looks at no logprobs."""

    _log: SpendingLog

    def __init__(self, parent: SpendingLog | None = None) -> None:
        self._log = SpendingLog(parent)
        #: The model that answered last, as its provider calls it; None where none said.
        self.model: str | None = None

    @property
    def usage(self) -> TokenUsage:
        """What was spent so far."""
        return self._log.usage

    def on_chat_model_start(self, serialized: object, messages: object, *, run_id: UUID, **kwargs: Any) -> None:
        """A model is called."""
        self._log.start(run_id)

    def on_llm_new_token(self, token: Token, *, chunk: Chunk = None, run_id: UUID, **kwargs: Any) -> None:
        """Count a chunk: a stream that is closed early reports no usage."""
        self._log.wrote(run_id, tokens_of_chunk(token, chunk))

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Count the tokens that the provider reports."""
        name = field(getattr(message_of(response), "response_metadata", None), "model_name", "model")
        self.model = name if isinstance(name, str) else self.model
        self._log.end(run_id, **tokens_of(response))


_spending: ContextVar[SpendingHandler | None] = ContextVar("tje_spending", default=None)
register_configure_hook(_spending, inheritable=True)


@contextmanager
def spending() -> Iterator[SpendingLog]:
    """Add up what every model call in the block spends, however deep in whatever runs there.

    Example:
        >>> from langchain_core.language_models import FakeListChatModel
        >>> with spending() as log:
        ...     _ = FakeListChatModel(responses=["yes"]).invoke("is it?")
        >>> log.usage
        TokenUsage(input_tokens=0, output_tokens=0, calls=1, partly_known=1)
    """
    with scope(_spending, lambda around: SpendingHandler(around._log if around else None)) as handler:
        yield handler._log


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

    def on_chat_model_start(
        self, *args: object, run_id: UUID, parent_run_id: UUID | None = None, metadata: Any = None, **kwargs: Any
    ) -> None:
        """Remember which model is asked, and how."""
        model, temperature = field(metadata, "ls_model_name"), field(metadata, "ls_temperature")
        self._log.start(
            run_id,
            parent_run_id,
            model=model if isinstance(model, str) else None,
            temperature=float(temperature) if isinstance(temperature, (int, float)) else None,
        )

    def on_llm_new_token(self, token: Token, *, chunk: Chunk = None, run_id: UUID, **kwargs: Any) -> None:
        """Collect a chunk's logprobs: with one kind of event streaming the whole answer has only the last chunk's."""
        payload = _payload(token, chunk, kwargs.get("logprobs"))
        self._log.chunk(run_id, payload, tokens=tokens_of_chunk(token, chunk))

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Read the logprobs and let go of the answer."""
        message = message_of(response)
        self._log.end(
            run_id,
            response,
            **tokens_of(response),
            message_id=message.id if message is not None else None,
            answered_by=_deeper_model(message),
        )

    # Chains, tools and retrievers: what a model call is part of; their inputs and outputs are not looked at.

    def on_chain_start(self, *args: object, run_id: UUID, parent_run_id: UUID | None = None, **kwargs: Any) -> None:
        """Remember what the run is part of, while it runs."""
        self._log.enter(run_id, parent_run_id)

    def on_chain_end(self, *args: object, run_id: UUID, **kwargs: Any) -> None:
        """Forget the run."""
        self._log.leave(run_id)

    on_tool_start = on_retriever_start = on_chain_start
    on_chain_error = on_tool_end = on_tool_error = on_retriever_end = on_retriever_error = on_chain_end


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
    """The deeper model of a gated one, where it answered; a gated chat model is called by its draft's name."""
    metadata = message.response_metadata if isinstance(message, AIMessage) else {}
    if field(metadata.get(METADATA_KEY), "answered_by") != "deeper":
        return None
    return str(metadata.get("model_name") or "the deeper model of a gate")


def _payload(token: object, chunk: Chunk, logprobs: object) -> object:
    """A chunk as one message with its logprobs, wherever the integration put them.

    They may stand apart from the text, and text without logprobs must not be overlooked.
    """
    if chunk is None:
        return {"content": token, "response_metadata": {"logprobs": logprobs}}
    message, info = getattr(chunk, "message", None), chunk.generation_info or {}
    if message is None:
        return {"content": chunk.text, "response_metadata": info}
    metadata, more = {**info, **message.response_metadata}, message.additional_kwargs
    return {"content": message.content, "response_metadata": metadata, "additional_kwargs": more}


def tokens_of(response: LLMResult | None) -> TokenCounts:
    """The ``input_tokens`` and ``output_tokens`` of a call as its provider counts them; None where it does not say.

    Both are 0 where the answer came out of LangChain's cache.
    """
    message = message_of(response) if response is not None else None
    said: Any = message.usage_metadata if isinstance(message, AIMessage) else None
    if is_cached(said):
        return _tokens(0, 0)
    if not said and response is not None:
        said = field(response.llm_output, "token_usage", "usage")
    return _tokens(field(said, "prompt_tokens", "input_tokens"), field(said, "completion_tokens", "output_tokens"))


def message_of(response: LLMResult) -> BaseMessage | None:
    """The message that a chat model wrote; None where there is none."""
    first: Generation | None = next((generation for prompt in response.generations for generation in prompt), None)
    message = getattr(first, "message", None)
    return message if isinstance(message, BaseMessage) else None


def tokens_of_chunk(token: Token, chunk: Chunk) -> int:
    """The tokens of a chunk without logprobs: 1 where it has text, 0 where it only opens or ends a stream."""
    message = getattr(chunk, "message", None)
    thought = field(getattr(message, "additional_kwargs", None), "reasoning_content", "reasoning")
    return int(bool(token or getattr(message, "tool_call_chunks", None) or thought))


def _tokens(*counts: object) -> TokenCounts:
    read, written = (count if isinstance(count, int) and count >= 0 else None for count in counts)
    return TokenCounts(input_tokens=read, output_tokens=written)
