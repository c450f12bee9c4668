"""Stopping a draft that is sure to be rejected, while it is still being written."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import replace

from ...calls.usage import TokenUsage
from ...errors import SignalError, UnreadableLogprobs
from ...logprobs import LogprobsAccumulator, SequenceLogprobs
from ...signals import LowerBound, bound_kind, lower_bound
from ..decision import GateDecision, Route
from ..policy import Criteria, Making

# A stream that is unreadable so far is read again once it has this many times as many tokens.
_PATIENCE = 1.25


class RejectionWatch:
    """Reads a draft's stream along with the caller, and rejects the draft as soon as the gate is sure to.

    ``EntropyGate.watch`` makes one for each stream; it is for one thread. Once it rejects, ``gate.decide`` of the
    whole draft gives the same route, however the stream goes on, as long as it can be read. So it never rejects a
    draft that the gate cannot judge or whose logprobs have holes; nor by a signal that later tokens can lower
    (``signals.bound_kind``) or, where drafts that cannot be judged take another route than rejected ones, leave
    without a value.

    Example:
        >>> import numpy as np
        >>> from tje_middleware import CalibrationRecord, EntropyGate, ProfileKey, calibrate
        >>> key = ProfileKey(model="m", task="t", signal="total_entropy", top_k=2)
        >>> records = [CalibrationRecord(correct=i % 2 == 0, signals={"total_entropy": 1.0 + i % 2 + i / 100})
        ...            for i in range(20)]
        >>> watch = EntropyGate(calibrate(records, key=key)).watch()
        >>> toss = {"logprobs": [[np.log(0.5), np.log(0.5)]]}  # one token of 1 bit
        >>> decisions = [watch.add(toss) for _ in range(3)]
        >>> [decision and decision.reason for decision in decisions]
        [None, 'uncertain', 'uncertain']
        >>> decisions[1].aborted, decisions[1].tokens, round(decisions[1].signal_value, 6)
        (True, 2, 2.0)

    Attributes:
        decision: The decision that rejects the draft; None as long as the draft may take another route.
    """

    def __init__(self, criteria: Criteria | None, making: Making, *, unjudged: str, max_tokens: int | None) -> None:
        self.decision: GateDecision | None = None
        self._criteria = criteria
        self._making = making
        self._stream = _PartByPart()
        self._error: UnreadableLogprobs | None = None
        self._tokens = 0
        self._top_k = 0
        self._next_look = 1
        self._bound = None if criteria is None else _bound(criteria, making, unjudged, max_tokens)

    @property
    def can_fire(self) -> bool:
        """Whether the watch can reject the draft.

        False from the start where no rejection can be sure for this signal, model or profile, so that a caller need
        not stream for it; and from the first unreadable chunk on.
        """
        return self._bound is not None

    def add(self, chunk: object) -> GateDecision | None:
        """Read one chunk, in any shape that LogprobsAccumulator reads; never raises for its contents.

        Returns:
            The decision that rejects the draft, from the chunk on by which that is sure: ``aborted``, with the lower
            bound as ``signal_value`` and the number of tokens that came; else None.
        """
        try:
            part = self._stream.take(chunk)
        except UnreadableLogprobs as error:
            # A copy of the error: the traceback of the raised one would keep the chunk in memory.
            self._error = self._error or type(error)(*error.args)
            self._bound = None
            return self.decision
        if part is not None:
            self._tokens += len(part)
            self._top_k = max(self._top_k, part.top_k)
            if self._bound is not None and self.decision is None:
                self._bound.add(part)
                self.decision = self._decide()
        return self.decision

    def result(self) -> SequenceLogprobs:
        """The whole sequence so far, for ``gate.decide``.

        Raises:
            MissingLogprobs: no chunk had logprobs.
            UnreadableLogprobs: a chunk could not be read, or text came without logprobs.
        """
        if self._error is not None:
            raise type(self._error)(*self._error.args)
        return self._stream.result()

    def _decide(self) -> GateDecision | None:
        criteria, bound = self._criteria, self._bound
        if criteria is None or bound is None:
            return None
        least, threshold = bound.value(), criteria.threshold
        rejection = None if least is None or threshold is None else criteria.rejection(least, threshold)
        # An empty last token may be the end of the turn, which is not a token of the draft.
        if rejection is None or criteria.misfit(self._tokens - self._stream.ends_empty, self._top_k, self._making):
            return None
        if not self._readable():
            return None
        route, reason, words = rejection
        signal = criteria.profile.signal
        return replace(
            criteria.grounds(),
            route=route,
            reason=reason,
            detail=f"whatever follows the first {self._tokens} tokens, {signal} is at least {least:.4g}: {words}",
            signal_value=least,
            tokens=self._tokens,
            aborted=True,
        )

    def _readable(self) -> bool:
        """Whether the stream so far can be read without holes; checked less and less often."""
        if self._tokens < self._next_look:
            return False
        self._next_look = max(self._tokens + 1, int(self._tokens * _PATIENCE))
        try:
            self._stream.result()
        except UnreadableLogprobs:
            return False
        return True


class _PartByPart(LogprobsAccumulator):
    """An accumulator that returns the positions of each chunk."""

    ends_empty = False

    def take(self, chunk: object) -> SequenceLogprobs | None:
        """Add a chunk; returns its positions, or None where it has none.

        Raises:
            UnreadableLogprobs: as ``add``.
        """
        if not self.add(chunk):
            return None
        part = self._parts[-1]
        self.ends_empty = part.tokens is not None and not part.tokens[-1]
        return part


def _bound(criteria: Criteria, making: Making, unjudged: str, max_tokens: int | None) -> LowerBound | None:
    """The bound of the profile's signal; None where no draft can be rejected by it for sure."""
    profile = criteria.profile
    judges = criteria.refusal() is None and not criteria.misfit(
        criteria.policies.min_tokens, profile.key.top_k, making
    )
    if not judges or profile.learned is not None:
        return None
    try:
        bound = lower_bound(profile.signal, top_k=profile.key.top_k, max_tokens=max_tokens)
    except SignalError:  # not known in this process
        return None
    if bound is None:
        return None
    same_route = unjudged == criteria.surest_rejection == Route.DEEPER
    return None if bound.may_fail and not same_route else bound


def obstacle_to_stopping(signal: str, *, max_tokens: int | None) -> str | None:
    """Why no draft can be stopped by a signal, and what to do about it; None where drafts can be stopped.

    Args:
        signal: Name of the signal.
        max_tokens: The limit of a draft's tokens; None where there is none.
    """
    kind = bound_kind(signal)
    if kind == "limited" and max_tokens is None:
        return f"{signal} is an average, which is bounded only with a limit of tokens: set max_tokens on the model"
    if kind is None:
        return f"what {signal} will be cannot be told from a draft's beginning"
    return None


class DraftStopped(Exception):  # noqa: N818
    """A draft was stopped because it is sure to be rejected; raised inside the model.

    Attributes:
        decision: The decision that rejects the draft.
        usage: Tokens that the draft had spent when it was stopped, as far as they are known here.
    """

    def __init__(self, decision: GateDecision, usage: TokenUsage) -> None:
        super().__init__(f"the draft was stopped after {decision.tokens} tokens: {decision.detail}")
        self.decision = decision
        self.usage = usage


class DraftAborted(BaseException):
    """:class:`DraftStopped` outside of the model.

    It is no Exception, as retries and fallbacks around the model would take it for a failure and ask again.

    Attributes:
        decision: The decision that rejects the draft.
        usage: Tokens that the draft had spent when it was stopped, as far as they are known here.
    """

    def __init__(self, stopped: DraftStopped) -> None:
        super().__init__(str(stopped))
        self.decision = stopped.decision
        self.usage = stopped.usage


def raise_if_rejected(decision: GateDecision | None, chunks: Sized) -> None:
    """Stop a draft where the decision sends it deeper.

    Args:
        decision: The decision of a watch; None: not rejected so far.
        chunks: The chunks of the draft that have come; counted where the decision has no number of tokens.

    Raises:
        DraftStopped: the draft goes deeper.
    """
    # A draft that is given up is still delivered as a whole, so only one that goes deeper is stopped.
    if decision is not None and decision.route is Route.DEEPER:
        raise DraftStopped(
            decision, TokenUsage(output_tokens=decision.tokens or len(chunks), calls=1, partly_known=1)
        )
