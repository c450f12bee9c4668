"""Blocks of code whose model calls are seen, one event handler for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.span import active_span_id
from pydantic import PrivateAttr

from tje_middleware import GateDecision
from tje_middleware.calls.log import ModelCall, RunId
from tje_middleware.calls.request import LogprobsCapabilities
from tje_middleware.calls.scope import QuietLock, Scoped, innermost, scope

from .calls import CallTracking
from .captured import CapturedEntropy, EntropyDecisionEvent
from .instrumentation import SpanListener, hear, ignore, listen

_capturing: ContextVar[CapturedEntropy | None] = ContextVar("tje_capture_entropy", default=None)


@contextmanager
def capturing(captured: CapturedEntropy) -> Iterator[CapturedEntropy]:
    """Keep what begins in the block, also in what is started there; a block around this one keeps it, too."""

    def within(around: CapturedEntropy | None) -> CapturedEntropy:
        # Around a block in a stream's own code is what the stream belongs to, whoever reads it.
        of_stream, captured.opened_in = _blocks.here()
        captured.be_within(around if captured.opened_in is None else of_stream)
        captured.settle = _blocks.settle
        return captured

    with _blocks.open(), scope(_capturing, within):
        yield captured


def capturing_here() -> CapturedEntropy | None:
    """What would keep a call that were made here and now."""
    return _blocks.here()[0]


def keeper_here() -> CapturedEntropy | None:
    """What keeps a decision that is made here and now."""
    return _blocks.keeper_here()


class _BlockListener(BaseEventHandler):
    """One event handler for all blocks."""

    _hear: Callable[[BaseEvent], None] = PrivateAttr()

    def __init__(self, hear: Callable[[BaseEvent], None]) -> None:
        super().__init__()
        self._hear = hear

    @classmethod
    def class_name(cls) -> str:
        """Class name."""
        return "BlockListener"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        """Take note of what has happened to a model call."""
        self._hear(event)


class _Blocks:
    """Listens while any block is open, or anything is going on that began in one."""

    def __init__(self) -> None:
        self._lock = QuietLock()
        self._open = 0
        self._listens = False
        self._tracking = CallTracking(lambda: innermost(_capturing.get()), self._rest)
        self._unsettled = 0  # events since it was found out which streams are over
        self._listener = _BlockListener(self._event)
        self._spans = SpanListener(self._tracking, self._listener)

    @contextmanager
    def open(self) -> Iterator[None]:
        with self._lock:
            self._open += 1
            self._listens = True
            listen(self._listener, self._spans)
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
            self.settle()

    def here(self) -> tuple[CapturedEntropy | None, str | None]:
        """The innermost block here and now, and the stream in whose code this is called."""
        return self._tracking.here()

    def keeper_here(self) -> CapturedEntropy | None:
        """What keeps a decision that is made here and now."""
        return self._tracking.keeper(active_span_id.get()) if self._listens else None

    def settle(self) -> None:
        """Find out which streams are over, and rest where nothing goes on."""
        self._unsettled = 0
        self._tracking.settle()
        self._rest()

    def _event(self, event: BaseEvent) -> None:
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
                ignore(self._listener, self._spans)
                self._listens = False


_blocks = _Blocks()


_dispatcher = get_dispatcher("llama_index_tje")


def announce(decision: GateDecision, keeper: CapturedEntropy | None = None) -> None:
    """Tell LlamaIndex's event handlers what a gate has decided.

    Args:
        decision: The decision.
        keeper: The block in which the draft was judged: a stream may be read to its end, or left, anywhere.
    """
    if not QuietLock.may_wait():  # a stream that the garbage collector closes in the middle of a handler's own work
        return
    event = EntropyDecisionEvent(decision=decision.as_dict())
    if keeper is not None:
        keeper.take_decision(decision)
        event._is_kept = True
    _dispatcher.event(event)


class Superseded(Scoped):
    """The calls within one draft whose answer was replaced by another one, by a gate further in."""

    def __init__(self) -> None:
        self._runs: set[RunId] = set()

    def without(self, calls: Iterable[ModelCall]) -> tuple[ModelCall, ...]:
        """The calls that may speak for the draft."""
        return tuple(call for call in calls if call.run_id not in self._runs)

    def add(self, calls: Iterable[ModelCall]) -> None:
        """Take calls whose answer was replaced."""
        runs = {call.run_id for call in calls}
        within: Scoped | None = self
        while isinstance(within, Superseded):
            within._runs |= runs
            within = within._around


_replacing: ContextVar[Superseded | None] = ContextVar("tje_superseded", default=None)


@contextmanager
def superseding() -> Iterator[Superseded]:
    """Around a draft: hears of the calls in it that were made for nothing."""
    with scope(_replacing, lambda _around: Superseded()) as superseded:
        yield superseded


@contextmanager
def replaceable() -> Iterator[CapturedEntropy | None]:
    """Around a call whose answer may be replaced: listens to it, where a gate around this one would want to know."""
    if innermost(_replacing.get()) is None:
        yield None
        return
    with capturing(CapturedEntropy()) as captured:
        yield captured


def supersede(calls: Iterable[ModelCall]) -> None:
    """Tell the gates around this one that an answer is not by these calls."""
    around = innermost(_replacing.get())
    if around is not None:
        around.add(calls)


class OpenDraft:
    """A draft that is being made by the user's code.

    Attributes:
        has_strays: Whether an LLM was called meanwhile of which nobody can say whether it was called for this draft.
    """

    def __init__(self, captured: CapturedEntropy, capabilities: LogprobsCapabilities) -> None:
        self.has_strays = False
        self._captured = captured
        self._capabilities = capabilities

    def sees(self, captured: CapturedEntropy | None) -> bool:
        """Whether calls that are kept there are this draft's."""
        return captured is not None and captured.tells(self._captured)

    def may_lack(self, capabilities: LogprobsCapabilities) -> bool:
        """Whether a call by an LLM of such a gate, which no draft sees, may have been made for this draft."""
        return self._capabilities is capabilities


_open: set[OpenDraft] = set()
_lock = QuietLock()


@contextmanager
def hearing_of_strays(captured: CapturedEntropy, capabilities: LogprobsCapabilities) -> Iterator[OpenDraft]:
    """Around a draft: hears of calls by LLMs of its gate that no draft sees.

    Args:
        captured: What keeps the draft's calls.
        capabilities: Those of the draft's gate, which the LLMs that are asked for it share.
    """
    draft = OpenDraft(captured, capabilities)
    with _lock:
        _open.add(draft)
    try:
        yield draft
    finally:
        with _lock:
            _open.discard(draft)


def note_call(capabilities: LogprobsCapabilities) -> None:
    """An LLM is called here and now that was made to be asked for a gate's drafts."""
    if not _open:
        return
    captured = capturing_here()
    with _lock:
        drafts = tuple(_open)
    if any(draft.sees(captured) for draft in drafts):
        return
    for draft in drafts:
        draft.has_strays |= draft.may_lack(capabilities)
