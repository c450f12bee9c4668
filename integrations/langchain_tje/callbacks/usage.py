"""What model calls spend, seen through LangChain's callbacks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, Generation, GenerationChunk, LLMResult
from langchain_core.tracers.context import register_configure_hook

from tje_middleware import TokenUsage
from tje_middleware.calls.scope import Scoped, scope
from tje_middleware.calls.usage import SpendingLog
from tje_middleware.logprobs.fields import field

from ..messages.answer import is_cached


class ScopedHandler(Scoped, BaseCallbackHandler):
    """A handler that a context variable, which LangChain looks into, puts into every chain of a block."""

    # On the event loop and in order: handlers in executor threads may see the end of a call too late.
    run_inline = True


class Tokens(NamedTuple):
    """What a provider says of one call; None where it does not say (tokens)."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class SpendingHandler(ScopedHandler):
    """Adds up what model calls spend; looks at no logprobs."""

    def __init__(self, parent: SpendingLog | None = None) -> None:
        self.log = SpendingLog(parent)
        #: The model that answered last, as its provider calls it; None where none said.
        self.model: str | None = None

    @property
    def usage(self) -> TokenUsage:
        """What was spent so far."""
        return self.log.usage

    def on_chat_model_start(self, serialized: object, messages: object, *, run_id: UUID, **kwargs: Any) -> None:
        """A model is called."""
        self.log.start(run_id)

    def on_llm_start(self, serialized: object, prompts: object, *, run_id: UUID, **kwargs: Any) -> None:
        """The same for completion models."""
        self.log.start(run_id)

    def on_llm_new_token(
        self,
        token: str | list[Any],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        """A stream that is closed early has spent what came until then."""
        self.log.wrote(run_id, tokens_of_chunk(token, chunk))

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Read what the provider says."""
        self.model = _model_of(response) or self.model
        self.log.end(run_id, **tokens_of(response)._asdict())

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """A call that failed may have cost something all the same."""
        self.log.fail(run_id, **tokens_at_failure(error, kwargs.get("response"))._asdict())


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
    with scope(_spending, lambda around: SpendingHandler(around.log if around else None)) as handler:
        yield handler.log


def tokens_of(response: LLMResult | None) -> Tokens:
    """What the provider says that a call spent; nothing where the answer came out of LangChain's cache."""
    if response is None:
        return Tokens()
    message = message_of(response)
    said = message.usage_metadata if isinstance(message, AIMessage) else None
    if said:
        if is_cached(said):
            return Tokens(0, 0)
        return Tokens(_count(said, "input_tokens"), _count(said, "output_tokens"))
    of_client = field(response.llm_output, "token_usage", "usage")
    return Tokens(
        _count(of_client, "prompt_tokens", "input_tokens"), _count(of_client, "completion_tokens", "output_tokens")
    )


def tokens_at_failure(error: BaseException, response: LLMResult | None) -> Tokens:
    """What a call had spent when it failed: what the error knows of it, or what its last words say."""
    usage = getattr(error, "usage", None)
    if isinstance(usage, TokenUsage):  # a draft that was stopped where its chunks were not to be seen
        return Tokens(usage.input_tokens, usage.output_tokens)
    return tokens_of(response)


def _model_of(response: LLMResult) -> str | None:
    """The model that a call's answer names."""
    message = message_of(response)
    name = None if message is None else field(message.response_metadata, "model_name", "model")
    return name if isinstance(name, str) else None


def message_of(response: LLMResult) -> BaseMessage | None:
    """The message that a chat model wrote; None where there is none."""
    first: Generation | None = next((generation for prompt in response.generations for generation in prompt), None)
    message = getattr(first, "message", None)
    return message if isinstance(message, BaseMessage) else None


def tokens_of_chunk(token: str | list[Any], chunk: GenerationChunk | ChatGenerationChunk | None) -> int:
    """What a chunk counts for where nobody says: 1 where something was written, 0 where it opens or ends a stream."""
    message = getattr(chunk, "message", None)
    thought = field(getattr(message, "additional_kwargs", None), "reasoning_content", "reasoning")
    return int(bool(token or getattr(message, "tool_call_chunks", None) or thought))


def _count(usage: object, *names: str) -> int | None:
    number = field(usage, *names)
    return number if isinstance(number, int) and number >= 0 else None
