"""CapturedCalls: the model calls that a handler has seen, as users read them; the same for every framework."""

from __future__ import annotations

from ..errors import MissingLogprobs
from ..logprobs import SequenceLogprobs
from .aggregation import TOO_MANY, Aggregate, aggregated_sequence
from .log import CallLog, ModelCall, RunId, pooled_entropy
from .usage import TokenUsage


class CapturedCalls:
    """The model calls that a handler has seen: its part that users read.

    Example:
        >>> class Handler(CapturedCalls):
        ...     def __init__(self):
        ...         self._log = CallLog()
        ...
        ...     def answered(self, run_id, payload):
        ...         self._log.start(run_id)
        ...         self._log.end(run_id, payload, input_tokens=5, output_tokens=1)
        >>> handler = Handler()
        >>> handler.answered("r1", {"logprobs": None})
        >>> handler, len(handler.calls), handler.usage.total_tokens
        (Handler(1 calls, 0 in flight), 1, 6)
    """

    _log: CallLog

    def _settled(self) -> CallLog:
        """The log, after calls that have ended by now were closed in it."""
        return self._log

    def __repr__(self) -> str:
        log = self._settled()
        return f"{type(self).__name__}({len(log)} calls, {log.in_flight} in flight)"

    @property
    def calls(self) -> tuple[ModelCall, ...]:
        """The calls that ended well, in the order in which they ended."""
        return tuple(self._settled())

    @property
    def last(self) -> ModelCall | None:
        """The call that ended last; None before any has."""
        return next(reversed(self.calls), None)

    @property
    def dropped(self) -> int:
        """The number of calls that were dropped because there were more than ``max_calls``."""
        return self._settled().dropped

    @property
    def in_flight(self) -> int:
        """Calls that were started and are not over."""
        return self._settled().in_flight

    @property
    def usage(self) -> TokenUsage:
        """Tokens that all calls spent so far, including those that were dropped, failed or are still running."""
        return self._settled().usage

    @property
    def mean_entropy(self) -> float | None:
        """Mean token entropy over all tokens of the calls (bits); None where none of them has logprobs."""
        return pooled_entropy(self._settled())

    def sequence(self, aggregate: Aggregate = "worst", *, signal: str = "mean_entropy") -> SequenceLogprobs:
        """The logprobs of an answer that these calls made, for a calibration record.

        Use the rule by which the gate will judge such answers, so that both measure the same calls.

        Example:
            >>> import numpy as np
            >>> from tje_middleware import CalibrationRecord
            >>> captured = CapturedCalls()
            >>> captured._log = CallLog()  # a handler's, or that of a block
            >>> for run_id, alternatives in ("draft", 2), ("refined", 4):
            ...     captured._log.start(run_id)
            ...     captured._log.end(run_id, np.log(np.full((3, alternatives), 1 / alternatives)))
            >>> record = CalibrationRecord(correct=True, sequence=captured.sequence())
            >>> record.value("mean_entropy", top_k=4)
            2.0

        Args:
            aggregate: Which of several calls the answer is judged by: ``"worst"``, the one with the highest signal;
                ``"last"``, the one that ended last; ``"pooled"``, the tokens of all as one sequence.
            signal: The signal that will be calibrated, by which ``"worst"`` ranks the calls.

        Raises:
            MissingLogprobs: no model was called; or a call has no logprobs, which makes it the worst and cannot be
                pooled; or calls were dropped.
            UnreadableLogprobs: a call's logprobs cannot be read, likewise.
            SignalError: there is no signal of that name.
            ValueError: a rule that does not exist.
        """
        if self.dropped and aggregate != "last":
            raise MissingLogprobs(TOO_MANY.format(self.dropped))
        return aggregated_sequence(self.calls, aggregate, signal=signal)

    def call(self, run_id: RunId) -> ModelCall | None:
        """The model call of that run id; None where there is none that ended well."""
        return self._settled().get(run_id)

    def calls_of(self, run_id: RunId) -> tuple[ModelCall, ...]:
        """Every model call made inside a run, whatever the nesting, in the order in which they ended.

        Args:
            run_id: Of a chain, a query engine, an agent, a tool or a model: a run's id in LangChain, a span's in
                LlamaIndex.
        """
        return self._settled().within(run_id)

    def clear(self) -> None:
        """Remove the calls; the tokens that they spent stay counted."""
        self._settled().forget()
