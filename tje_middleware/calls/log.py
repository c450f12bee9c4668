"""The log of model calls: their logprobs, usage and names, for every framework.

A framework's handler drives a log by run id: ``start``, ``chunk`` for each part of a stream, then ``end`` or
``fail``. No prompt, no answer object and no payload is kept. The texts of the sampled tokens are kept inside
``SequenceLogprobs``, as some signals look for the final answer in them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from ..errors import SignalError, UnreadableLogprobs
from ..logprobs import SequenceLogprobs
from ..logprobs.entropy import mean_entropy
from ..logprobs.evidence import Evidence, StreamedEvidence
from ..signals import measure, resolve_signal
from .scope import QuietLock
from .usage import MOST_OPEN, SpendingLog, TokenUsage, drop_oldest, usage_of

#: The id of a run in a framework: a UUID, a string.
RunId = Hashable

#: Calls that a log keeps unless it is told otherwise.
MAX_CALLS = 1_000


@dataclass(frozen=True)
class ModelCall:
    """One finished model call: numbers and names, never the prompt or the answer.

    Example:
        >>> import numpy as np
        >>> sequence = SequenceLogprobs(np.log(np.full((3, 2), 0.5)))
        >>> call = ModelCall("r1", sequence, TokenUsage(input_tokens=10, output_tokens=3, calls=1))
        >>> call.mean_entropy, call.signal("length"), call.parent_run_id
        (1.0, 3.0, None)

    Attributes:
        run_id: The call's own run.
        logprobs: Its logprobs, with the texts of the sampled tokens, or the error that says why there are none.
        usage: Tokens that it spent.
        ancestors: The runs that it was made in, innermost first, as far as the log was told of their start.
        model: The model as it was asked for, or None where the integration does not say.
        temperature: The sampling temperature, or None where the integration does not say.
        message_id: The id of the message that it wrote, or None where it has none.
    """

    run_id: RunId
    logprobs: Evidence
    usage: TokenUsage
    ancestors: tuple[RunId, ...] = ()
    model: str | None = None
    temperature: float | None = None
    message_id: str | None = None

    @property
    def parent_run_id(self) -> RunId | None:
        """The run that made the call; None where it was made by itself."""
        return self.ancestors[0] if self.ancestors else None

    @property
    def mean_entropy(self) -> float | None:
        """Mean token entropy (bits); None where there are no logprobs."""
        return self.signal("mean_entropy")

    def signal(self, name: str = "mean_entropy") -> float | None:
        """A named signal of this call; None where it has no logprobs, or the signal cannot be computed from them.

        Raises:
            SignalError: there is no signal of that name.
        """
        resolve_signal(name)
        if isinstance(self.logprobs, UnreadableLogprobs):
            return None
        try:
            return measure(name, self.logprobs)
        except SignalError:
            return None


class CallLog:
    """The finished model calls of one handler or block of code, oldest first; threads may share it.

    Example:
        >>> log = CallLog()
        >>> log.start("r1", model="m")
        >>> log.end("r1", {"logprobs": {"content": [
        ...     {"token": "Hi", "logprob": -0.1, "top_logprobs": [{"token": "Hi", "logprob": -0.1}]}]}},
        ...     input_tokens=5, output_tokens=1)
        >>> [call.model for call in log], log.usage.total_tokens
        (['m'], 6)

    Args:
        max_calls: Calls to keep; beyond that the oldest are dropped and counted in ``dropped``.
        on_call: Called with each finished call, in the thread in which it finished.
        parent: The log of the scope around this one, to which every call is reported as well; it counts a call once
            that is also reported to it from elsewhere.

    Raises:
        ValueError: ``max_calls`` is below 1.
    """

    def __init__(
        self,
        *,
        max_calls: int = MAX_CALLS,
        on_call: Callable[[ModelCall], None] | None = None,
        parent: CallLog | None = None,
    ) -> None:
        if max_calls < 1:
            raise ValueError(f"max_calls must be at least 1, not {max_calls}")
        self.max_calls = max_calls
        self.on_call = on_call
        self.parent = parent
        self.dropped = 0
        self._lock = QuietLock()  # also guards the spending, as a finalizer cannot ask SpendingLog's own lock
        self._above: dict[RunId, tuple[RunId, ...]] = {}  # by open run, the runs that it was started in
        self._open: dict[RunId, _Opened] = {}
        self._calls: dict[RunId, ModelCall] = {}
        self._spending = SpendingLog()

    def __iter__(self) -> Iterator[ModelCall]:
        """The calls that are kept, in the order in which they ended, as they are now."""
        with self._lock:
            return iter(tuple(self._calls.values()))

    def __len__(self) -> int:
        return len(self._calls)

    def get(self, run_id: RunId) -> ModelCall | None:
        """The call of that run; None where it has not ended well, or was dropped."""
        return self._calls.get(run_id)

    def within(self, run_id: RunId) -> tuple[ModelCall, ...]:
        """Every call made inside a run, however deep, and that run itself where it is a call; oldest first."""
        return tuple(call for call in self if call.run_id == run_id or run_id in call.ancestors)

    @property
    def usage(self) -> TokenUsage:
        """Tokens that all calls spent so far, including those dropped, forgotten, failed or still running."""
        with self._lock:
            return self._spending.usage

    @property
    def in_flight(self) -> int:
        """Calls that were started, and neither ended nor failed."""
        return len(self._open)

    @property
    def runs_open(self) -> int:
        """Runs that are no model calls, and have not ended."""
        return len(self._above)

    def forget(self) -> None:
        """Remove the finished calls; the tokens that they spent stay counted."""
        with self._lock:
            self._calls.clear()

    # Reports of a framework's handler

    def enter(self, run_id: RunId, parent_run_id: RunId | None = None) -> None:
        """A run that is no model call has started: a chain, a tool, an agent's step."""
        with self._lock:
            self._enter(run_id, self._up_from(parent_run_id))

    def leave(self, run_id: RunId) -> None:
        """A run has ended, well or not; calls in it that are still open were cancelled, and count as failed."""
        self.outlive(run_id)
        with self._lock:
            left_open = [each for each, opened in self._open.items() if run_id in opened.ancestors]
        for each in left_open:
            self.fail(each)

    def outlive(self, run_id: RunId) -> None:
        """A run has ended, but calls in it may go on, such as a stream that it returned."""
        with self._lock:
            self._above.pop(run_id, None)

    def start(
        self,
        run_id: RunId,
        parent_run_id: RunId | None = None,
        *,
        model: str | None = None,
        temperature: float | None = None,
    ) -> None:
        """A model is being called."""
        with self._lock:
            self._spending.start(run_id)
            if run_id not in self._open:
                self._open[run_id] = _Opened(self._up_from(parent_run_id), model, temperature)
                drop_oldest(self._open, MOST_OPEN)
        if self.parent is not None:
            self.parent.start(run_id, parent_run_id, model=model, temperature=temperature)

    def only_calls_others(self, run_id: RunId) -> None:
        """A run that was started as a model call only makes other calls: it counts as a run, and they as calls.

        Its end is then reported by ``outlive`` or ``leave``.
        """
        with self._lock:
            opened = self._open.pop(run_id, None)
            if opened is not None:
                self._enter(run_id, opened.ancestors)
                self._spending.settle(run_id, TokenUsage())
        if self.parent is not None:
            self.parent.only_calls_others(run_id)

    def chunk(self, run_id: RunId, payload: object, *, tokens: int = 1) -> None:
        """One part of a streamed answer has come.

        Args:
            run_id: The call's run.
            payload: The chunk, in any shape that ``LogprobsAccumulator`` reads.
            tokens: How many tokens to count for a chunk without logprobs (tokens).
        """
        opened = self._open.get(run_id)
        positions = 0 if opened is None else opened.evidence.add(payload)
        with self._lock:
            self._spending.wrote(run_id, positions or tokens)

    def end(
        self,
        run_id: RunId,
        payload: object,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        message_id: str | None = None,
        model: str | None = None,
        answered_by: str | None = None,
    ) -> None:
        """The call has ended well.

        Args:
            run_id: The call's run.
            payload: The whole answer, in any shape that ``parse_logprobs`` reads, or the error that says why it has
                no logprobs; it is not kept.
            input_tokens: Tokens read, where the provider says.
            output_tokens: Tokens written, where the provider says.
            message_id: The id of the message that it wrote, where it has one.
            model: The model that the answer names, used where the start named none.
            answered_by: The model that answered, where it is not the one that was asked.
        """
        opened = self._open.get(run_id) or _Opened()
        logprobs = payload if isinstance(payload, UnreadableLogprobs) else opened.evidence.of(payload)
        if output_tokens is None:
            seen = len(logprobs) if isinstance(logprobs, SequenceLogprobs) else None
            usage = self._spending.lower_bound(run_id, input_tokens, seen)
        else:
            usage = usage_of(input_tokens, output_tokens)
        asked = opened.model or model
        model, temperature = (answered_by, None) if answered_by else (asked, opened.temperature)
        self.record(ModelCall(run_id, logprobs, usage, opened.ancestors, model, temperature, message_id))

    def fail(self, run_id: RunId, *, input_tokens: int | None = None, output_tokens: int | None = None) -> None:
        """The call has failed, or its stream was closed early; it is not kept, but its tokens are counted."""
        self._fail(run_id, self._spending.lower_bound(run_id, input_tokens, output_tokens))

    def record(self, call: ModelCall) -> None:
        """Take a finished call, from this scope or from one within it."""
        with self._lock:
            is_new = self._spending.settle(call.run_id, call.usage)
            self._open.pop(call.run_id, None)
            if is_new:
                # A log that was opened inside a chain was not told of the chain's start; this one may have been.
                above = self._up_from(call.ancestors[-1]) if call.ancestors else ()
                above = tuple(run_id for run_id in above if run_id not in call.ancestors)
                self._calls.pop(call.run_id, None)
                self._calls[call.run_id] = replace(call, ancestors=call.ancestors + above) if above else call
                self.dropped += drop_oldest(self._calls, self.max_calls)
        if self.parent is not None:
            self.parent.record(call)
        if is_new and self.on_call is not None:
            self.on_call(call)

    def _fail(self, run_id: RunId, usage: TokenUsage) -> None:
        with self._lock:
            self._spending.settle(run_id, usage)
            self._open.pop(run_id, None)
        if self.parent is not None:
            self.parent._fail(run_id, usage)

    def _enter(self, run_id: RunId, above: tuple[RunId, ...]) -> None:
        self._above[run_id] = above
        drop_oldest(self._above, MOST_OPEN)

    def _up_from(self, run_id: RunId | None) -> tuple[RunId, ...]:
        """The run and those that it was started in, innermost first; some of these may have ended."""
        if run_id is None:
            return ()
        # Users may choose the ids of runs, and give a run the id of its parent.
        return (run_id, *(each for each in self._above.get(run_id, ()) if each != run_id))


def pooled_entropy(calls: Iterable[ModelCall]) -> float | None:
    """Mean token entropy over all tokens of several calls (bits); None where none of them has logprobs."""
    sequences = [call.logprobs for call in calls if isinstance(call.logprobs, SequenceLogprobs) and call.logprobs]
    tokens = sum(map(len, sequences))
    return sum(mean_entropy(sequence) * len(sequence) for sequence in sequences) / tokens if tokens else None


@dataclass(frozen=True)
class _Opened:
    """What is known of a call before it ends."""

    ancestors: tuple[RunId, ...] = ()
    model: str | None = None
    temperature: float | None = None
    evidence: StreamedEvidence = field(default_factory=StreamedEvidence)
