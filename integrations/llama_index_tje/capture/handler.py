"""The entropy of every model call that LlamaIndex makes, for code that gates nothing: a handler, and a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from pydantic import PrivateAttr
from typing_extensions import Self

from tje_middleware import GateDecision
from tje_middleware.calls.captured_calls import CapturedCalls
from tje_middleware.calls.log import MAX_CALLS, CallLog, ModelCall

from .blocks import capturing
from .calls import CallTracking
from .captured import CapturedEntropy
from .instrumentation import STARTS, SpanListener, hear, hear_spans, ignore, listen


class EntropyEventHandler(CapturedCalls, BaseEventHandler):
    """Keeps the logprobs and the spending of every model call of the process, while it is attached.

    Works for all ways to call an LLM: sync and async, streams, query and chat engines, agents, workflows, threads. A
    call is one however many methods of an LLM it passes through: the innermost counts. It never asks a model for
    logprobs: give the LLM ``logprobs=True, top_logprobs=20``. A call without them is kept, too, with the reason in
    their place.

    Kept are numbers and names, and the texts of the sampled tokens, which some signals need; no prompt, no message.
    A run's id is that of LlamaIndex's span: ``calls_of(span_id)`` are the calls of a query or of an agent's run.

    A call is its own by its start: a stream counts when it is read to its end, and as a failed call when it is
    closed or thrown away before. Of the streams of an LLM whose methods lack LlamaIndex's ``llm_chat_callback``
    nothing is told, neither a chunk nor an end: such a call is kept without logprobs once its stream is thrown away.

    Example:
        >>> from llama_index.core.llms import MockLLM
        >>> with EntropyEventHandler() as handler:
        ...     _ = MockLLM(max_tokens=2).complete("is it?")
        >>> handler
        EntropyEventHandler(1 calls, 0 in flight)
        >>> handler.last.logprobs.__class__.__name__, handler.last.mean_entropy
        ('MissingLogprobs', None)

    It may be added to a dispatcher by hand, too, as any handler of LlamaIndex:

        >>> from llama_index.core.instrumentation import get_dispatcher
        >>> get_dispatcher().add_event_handler(handler)
        >>> _ = MockLLM(max_tokens=2).complete("is it?")
        >>> handler.detach()
        >>> len(handler.calls)
        2

    Args:
        max_calls: Calls, and decisions, to keep; beyond that the oldest are let go, and of calls counted in
            ``dropped``.
        on_call: Called with each finished call, in the thread in which it finished; what it raises is logged, since
            LlamaIndex swallows it, and counted in ``errors``.

    Raises:
        ValueError: ``max_calls`` is below 1.
    """

    _captured: CapturedEntropy = PrivateAttr()
    _tracking: CallTracking = PrivateAttr()
    _spans: SpanListener = PrivateAttr()

    def __init__(self, *, max_calls: int = MAX_CALLS, on_call: Callable[[ModelCall], None] | None = None) -> None:
        captured = CapturedEntropy(max_calls=max_calls, on_call=on_call)
        super().__init__()
        self._captured = captured
        self._tracking = CallTracking(lambda: captured)
        captured.settle = self._tracking.settle
        self._spans = SpanListener(self._tracking, self)

    def __str__(self) -> str:
        return repr(self)

    @classmethod
    def class_name(cls) -> str:
        """Class name."""
        return "EntropyEventHandler"

    def _settled(self) -> CallLog:
        return self._captured._settled()

    @property
    def decisions(self) -> tuple[GateDecision, ...]:
        """What gates decided, oldest first."""
        return self._captured.decisions

    @property
    def errors(self) -> int:
        """Errors of the handler itself, or of ``on_call``; each was logged, since LlamaIndex keeps silent of them."""
        return self._captured.errors

    def attach(self) -> Self:
        """See every call of the process from now on; where it is attached already, nothing changes."""
        listen(self, self._spans)
        return self

    def detach(self) -> None:
        """See nothing more, however it was attached; calls that are in flight are over, with what came of them."""
        ignore(self, self._spans)
        self._tracking.close()

    def __enter__(self) -> Self:
        self.attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """Take note of what has happened to a model call; of other events none is taken."""
        if isinstance(event, STARTS):
            hear_spans(self._spans)  # where it was added by hand, this is the first that it hears
        hear(event, self._tracking)


@contextmanager
def capture_entropy(
    *, max_calls: int = MAX_CALLS, on_call: Callable[[ModelCall], None] | None = None
) -> Iterator[CapturedEntropy]:
    """Watch every model call in the block, however deep in whatever runs there.

    Calls belong to the block that they are started in: a stream does, wherever it is read, and so do tasks, agents'
    steps and tools on threads, as far as they begin while the block runs; a bare ``threading.Thread`` does not,
    unless it is run in a copy of the context. Of blocks within one another, each sees the calls of those inside.

    It never asks a model for logprobs: give the LLM ``logprobs=True, top_logprobs=20``. Nothing of it is attached to
    LlamaIndex before a block is entered, nor after all are left and what began in them is over.

    Example:
        >>> from llama_index.core.base.llms.types import CompletionResponse, LogProb
        >>> from llama_index.core.llms import MockLLM
        >>> from llama_index.core.llms.callbacks import llm_completion_callback
        >>> class Undecided(MockLLM):
        ...     @llm_completion_callback()
        ...     def complete(self, prompt, formatted=False, **kwargs):
        ...         either = [LogProb(token=city, logprob=-0.69315, bytes=[]) for city in ("Paris", "Lyon")]
        ...         return CompletionResponse(text="Paris", logprobs=[either])
        >>> with capture_entropy() as seen:
        ...     print(Undecided().complete("The capital of France?"))
        Paris
        >>> round(seen.mean_entropy, 6), len(seen.calls)
        (1.0, 1)

    Args:
        max_calls: Calls, and decisions, to keep; beyond that the oldest are let go, and of calls counted in
            ``dropped``.
        on_call: Called with each finished call, in the thread in which it finished.

    Yields:
        What was seen; it can be asked during the block and after it.

    Raises:
        ValueError: ``max_calls`` is below 1.
    """
    with capturing(CapturedEntropy(max_calls=max_calls, on_call=on_call)) as seen:
        yield seen
