"""Blocks of code whose model calls are seen, one event handler for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.span import active_span_id
from pydantic import PrivateAttr

from tje_middleware import GateDecision
from tje_middleware.calls.log import ModelCall
from tje_middleware.calls.request import LogprobsCapabilities
from tje_middleware.calls.scope import QuietLock, innermost, scope

from .calls import CallTracking
from .captured import CapturedEntropy, EntropyDecisionEvent
from .instrumentation import SpanListener, hear, ignore, listen

_capturing: ContextVar[CapturedEntropy | None] = ContextVar("tje_capture_entropy", default=None)


@contextmanager
def capturing(captured: CapturedEntropy) -> Iterator[CapturedEntropy]:
    """Keep what begins in the block, also in what is started there; a block around this one keeps it, too."""

    def within(around: CapturedEntropy | None) -> CapturedEntropy:
        # A block that a stream's own code opens is within the block of the stream, and not within that of its reader.
        of_stream, captured.opened_in = _blocks._tracking.here()
        captured.be_within(around if captured.opened_in is None else of_stream)
        captured.settle = _blocks.settle
        return captured

    with _blocks.open(), scope(_capturing, within):
        yield captured


class _Blocks(BaseEventHandler):
    """One event handler for all blocks: listens while any is open, or anything is going on that began in one."""

    _lock: QuietLock = PrivateAttr(default_factory=QuietLock)
    _open: int = 0
    _listens: bool = False
    _unsettled: int = 0  # events since it was found out which streams are over
    _tracking: CallTracking = PrivateAttr()
    _spans: SpanListener = PrivateAttr()

    def __init__(self) -> None:
        super().__init__()
        self._tracking = CallTracking(lambda: innermost(_capturing.get()), self._rest)
        self._spans = SpanListener(self._tracking, self)

    @classmethod
    def class_name(cls) -> str:
        """Class name."""
        return "Blocks"

    @contextmanager
    def open(self) -> Iterator[None]:
        with self._lock:
            self._open += 1
            self._listens = True
            listen(self, self._spans)
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
            self.settle()

    def block_here(self) -> CapturedEntropy | None:
        """The innermost block that keeps what is called or decided here and now."""
        return self._tracking.block_at(active_span_id.get()) if self._listens else None

    def settle(self) -> None:
        """Find out which streams are over, and rest where nothing goes on."""
        self._unsettled = 0
        self._tracking.settle()
        self._rest()

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """Take note of what has happened to a model call."""
        if isinstance(event, EntropyDecisionEvent):  # ``announce`` gives the decision to its block
            return
        hear(event, self._tracking)
        if self._open:
            return
        # Looking at all streams at every event of each would cost the square of their number.
        self._unsettled += 1
        if self._unsettled >= self._tracking.streams:
            self.settle()

    def _rest(self) -> None:
        with self._lock:
            if not self._open and self._tracking.is_idle:
                ignore(self, self._spans)
                self._listens = False


_blocks = _Blocks()
block_here = _blocks.block_here
_dispatcher = get_dispatcher("llama_index_tje")


def announce(decision: GateDecision, block: CapturedEntropy | None = None) -> None:
    """Tell LlamaIndex's event handlers what a gate has decided, and the block that keeps the decision.

    Args:
        decision: The decision.
        block: The block in which the draft was judged, since a stream may be read to its end, or left, anywhere. None
            for the one that this is called in.
    """
    if not QuietLock.may_wait():  # a stream that the garbage collector closes in the middle of a handler's own work
        return
    block = block_here() if block is None else block
    if block is not None:
        block.take_decision(decision)
    _dispatcher.event(EntropyDecisionEvent(decision=decision.as_dict()))


@contextmanager
def replaceable() -> Iterator[CapturedEntropy | None]:
    """Around an LLM's draft: captures its call where it is a part of another gate's draft, or else does nothing."""
    block = block_here()
    if block is None or all(each.superseded is None for each in block.outwards()):
        yield None
        return
    with capturing(CapturedEntropy()) as captured:
        yield captured


def supersede(calls: Iterable[ModelCall]) -> None:
    """Tell the gates within whose drafts this happens that their answers are not by these calls."""
    block = block_here()
    if block is not None:
        block.supersede(calls)


@dataclass(eq=False)
class OpenDraft:
    """A draft that is being made by the user's code.

    Attributes:
        captured: What keeps the draft's calls.
        capabilities: Those of the draft's gate, which the LLMs that are asked for it share.
        has_strays: Whether an LLM was called meanwhile of which nobody can say whether it was called for this draft.
    """

    captured: CapturedEntropy
    capabilities: LogprobsCapabilities
    has_strays: bool = False


_open: set[OpenDraft] = set()
_lock = QuietLock()


@contextmanager
def hearing_of_strays(captured: CapturedEntropy, capabilities: LogprobsCapabilities) -> Iterator[OpenDraft]:
    """Around a draft: hears of calls by LLMs of its gate that no draft sees."""
    draft = OpenDraft(captured, capabilities)
    with _lock:
        _open.add(draft)
    try:
        yield draft
    finally:
        with _lock:
            _open.discard(draft)


def note_call(capabilities: LogprobsCapabilities) -> None:
    """Note that an LLM of ``ask_logprobs(llm, gate=gate)`` is called: a stray, where no draft sees the call."""
    if not _open:
        return
    block = block_here()
    with _lock:
        drafts = tuple(_open)
    if block is not None and any(block.tells(draft.captured) for draft in drafts):
        return
    for draft in drafts:
        draft.has_strays |= draft.capabilities is capabilities
