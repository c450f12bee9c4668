"""What a gate decides, as OpenTelemetry sees it: an event on the current span, and metrics.

``EntropyGate`` calls :func:`emit` once a decision is settled. Without ``opentelemetry-api`` (the extra ``otel``) that
does nothing but log, and nothing is sent anywhere before the application sets up a provider. Names are those of
OpenTelemetry's semantic conventions for generative AI where they have one, and begin with ``tje.`` where not:

====================  ===============  =======  ======================================================================
metric                kind             unit     what
====================  ===============  =======  ======================================================================
tje.decisions         counter          1        decisions
tje.signal.value      histogram        signal   the signal of a draft, in its own unit (bits for entropies)
tje.tokens.spent      histogram        token    by ``tje.spent_on`` (draft, deeper), ``gen_ai.token.type``
tje.tokens.saved      up-down counter  token    against always going deeper; below 0 for a draft that was rejected
tje.answer.duration   histogram        s        from the question to the answer
====================  ===============  =======  ======================================================================

What has become of a decision that was told before its deeper branch ran, as in a graph of nodes, is an event
``tje.decision.amended``, and the tokens that are new are added; of one that several processes amend, by each of them.

Every metric has the attributes of a decision that take few values: the model, the profile's task and signal, method,
route, reason, who answered, the deeper model and an alarm. What takes many (the decision's id, numbers) is on the
span's event alone, and sentences, prompts and answers are nowhere. The conventions' own metrics of a model's calls
(``gen_ai.client.token.usage``) are left to whoever instruments the client: calls would be counted twice.

Loggers are called after the modules, as ``tje_middleware.gate.telemetry``, and have no handlers of ours. ERROR is not
used: what is an error is raised. WARNING says that something is lost or degraded, once and not for each call; INFO
that something changed, such as a profile; DEBUG has a line for each decision. Numbers and names, no texts.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from .._process import ForkAware, tell_of_forks
from .._version import __version__
from ..calibration.key import names_in
from ..calls.usage import TokenUsage
from .decision import GateDecision

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, Meter
    from opentelemetry.trace import Span

_Attributes = dict[str, str | bool | int | float]

EVENT = "tje.decision"
AMENDED = "tje.decision.amended"
_OPERATION = "chat"
# From hundredths of a bit to the total of a long answer, for signals of any unit.
_SIGNAL_BUCKETS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 4.5, 10, 30, 100, 300, 1_000, 3_000, 10_000)
# Those that the conventions give for tokens and for seconds.
_TOKEN_BUCKETS = tuple(float(4**power) for power in range(14))
_SECOND_BUCKETS = tuple(0.01 * 2**power for power in range(14))

_logger = logging.getLogger(__name__)


class Told(NamedTuple):
    """What the metrics have of a decision already.

    Attributes:
        tokens_saved: As in :func:`emit`.
        deeper_usage: What its deeper branch spent.
    """

    tokens_saved: float | None = None
    deeper_usage: TokenUsage | None = None


def emit(
    decision: GateDecision,
    *,
    latency_seconds: float | None = None,
    draft_model: str | None = None,
    deeper_model: str | None = None,
    tokens_saved: float | None = None,
) -> None:
    """Tell OpenTelemetry of a settled decision; never waits, never raises.

    Args:
        decision: What was decided, with what it cost.
        latency_seconds: From the question to the answer (seconds).
        draft_model: The model that wrote the draft, where known; the one that was asked for is the key's.
        deeper_model: The model that wrote the deeper answer.
        tokens_saved: Tokens that going deeper would have cost more, or less where below 0 (tokens).
    """
    if _logger.isEnabledFor(logging.DEBUG):
        _logger.debug("%s: %s (%s), answered by %s", decision.key, *_outcome(decision))
    telemetry = _state.telemetry()
    if telemetry is None:
        return
    try:
        telemetry.tell(decision, latency_seconds, draft_model, deeper_model, tokens_saved)
    except Exception:
        _state.note_failure()


def emit_amended(
    decision: GateDecision,
    *,
    told: Told,
    deeper_model: str | None = None,
    tokens_saved: float | None = None,
) -> None:
    """Tell OpenTelemetry what has become of a decision that it was told of; never waits, never raises.

    An event of its own, and in the metrics what was spent and saved beyond what they have already: the decision is
    counted, and may be amended again.

    Args:
        decision: With what it cost.
        told: What the metrics have of it.
        deeper_model: As in :func:`emit`.
        tokens_saved: As in :func:`emit`.
    """
    telemetry = _state.telemetry()
    if telemetry is None:
        return
    try:
        telemetry.tell_amended(decision, told, deeper_model, tokens_saved)
    except Exception:
        _state.note_failure()


class _Telemetry:
    """The instruments, which go to whatever provider the application sets, now or later."""

    def __init__(self, meter: Meter, current_span: Callable[[], Span]) -> None:
        self._current_span = current_span
        self._decisions = meter.create_counter("tje.decisions", "{decision}", "Decisions of entropy gates")
        self._signal = _histogram(meter, "tje.signal.value", "1", "The signal, in its own unit", _SIGNAL_BUCKETS)
        self._spent = _histogram(meter, "tje.tokens.spent", "{token}", "Tokens of gated answers", _TOKEN_BUCKETS)
        self._saved = meter.create_up_down_counter(
            "tje.tokens.saved", "{token}", "Tokens saved against always going deeper"
        )
        self._duration = _histogram(
            meter, "tje.answer.duration", "s", "From the question to the answer", _SECOND_BUCKETS
        )

    def tell(
        self,
        decision: GateDecision,
        latency_seconds: float | None,
        draft_model: str | None,
        deeper_model: str | None,
        tokens_saved: float | None,
    ) -> None:
        """All there is to tell of one decision."""
        labels = _labels_of(decision, draft_model, deeper_model)
        span = self._current_span()
        if span.is_recording():
            span.add_event(EVENT, {**labels, **_numbers(decision, latency_seconds, tokens_saved)})
        self._decisions.add(1, labels)
        # A histogram takes no number below 0, which only a signal of the user's own can give.
        if decision.signal_value is not None and decision.signal_value >= 0:
            self._signal.record(decision.signal_value, labels)
        self._tell_spent("draft", decision.draft_usage, labels)
        self._tell_spent("deeper", decision.deeper_usage, labels)
        if tokens_saved is not None:
            self._saved.add(tokens_saved, labels)
        if latency_seconds is not None:
            self._duration.record(latency_seconds, labels)

    def tell_amended(
        self, decision: GateDecision, told: Told, deeper_model: str | None, tokens_saved: float | None
    ) -> None:
        """What has become of one decision, of which the metrics get what is new."""
        labels = _labels_of(decision, None, deeper_model)
        span = self._current_span()
        if span.is_recording():
            span.add_event(AMENDED, {**labels, **_numbers(decision, None, tokens_saved)})
        if decision.deeper_usage != told.deeper_usage:
            self._tell_spent("deeper", _beyond(decision.deeper_usage, told.deeper_usage), labels)
        if tokens_saved is not None and tokens_saved != told.tokens_saved:
            self._saved.add(tokens_saved - (told.tokens_saved or 0), labels)

    def _tell_spent(self, part: str, usage: TokenUsage | None, labels: Mapping[str, str | bool]) -> None:
        if usage is not None:
            spent_on = {**labels, "tje.spent_on": part}
            self._spent.record(usage.input_tokens, {**spent_on, "gen_ai.token.type": "input"})
            self._spent.record(usage.output_tokens, {**spent_on, "gen_ai.token.type": "output"})


def _of_this_process() -> _Telemetry:
    from opentelemetry import metrics, trace  # noqa: PLC0415 (an extra)

    return _Telemetry(metrics.get_meter("tje_middleware", __version__), trace.get_current_span)


def _histogram(meter: Meter, name: str, unit: str, description: str, buckets: tuple[float, ...]) -> Histogram:
    """A histogram that suggests its buckets, where the API is new enough to be told."""
    if "explicit_bucket_boundaries_advisory" not in inspect.signature(meter.create_histogram).parameters:
        return meter.create_histogram(name, unit, description)
    return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=buckets)


class _State(ForkAware):
    """Whether there is a telemetry, found out at the first decision and not before."""

    def __init__(self, make: Callable[[], _Telemetry]) -> None:
        self._make = make
        self._telemetry: _Telemetry | None = None
        self._looked = False
        self._failed = False
        self._looking = False
        # Reentrant: a stream that the garbage collector closes while this thread imports has a decision to tell, too.
        self._lock = threading.RLock()
        tell_of_forks(self)

    def before_fork(self, until: float) -> None:
        """Let another thread come to the end of its imports: in the child it would never."""
        if self._lock.acquire(timeout=max(0.0, until - time.monotonic())):
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Of a thread that was looking nothing is left."""
        self._lock = threading.RLock()
        self._looking = False

    def telemetry(self) -> _Telemetry | None:
        """The one of this process; None where OpenTelemetry is not installed."""
        return self._telemetry if self._looked else self._look()

    def _look(self) -> _Telemetry | None:
        with self._lock:
            if self._looked or self._looking:
                return self._telemetry
            self._looking = True
            try:
                self._telemetry = self._make()
            except ImportError:
                _logger.debug("OpenTelemetry is not installed: decisions are told to nobody")
            except Exception:
                self.note_failure()
            self._looked = True
            return self._telemetry

    def note_failure(self) -> None:
        """Say that telling failed, the first time: it fails for each decision, and no decision fails for it."""
        if not self._failed:
            self._failed = True
            _logger.debug("a decision could not be told to OpenTelemetry (said once)", exc_info=True)


_state = _State(_of_this_process)


def _outcome(decision: GateDecision) -> tuple[str, str, str | None]:
    return decision.route.value, decision.reason, decision.answered_by


def _labels_of(decision: GateDecision, draft_model: str | None, deeper_model: str | None) -> Mapping[str, str | bool]:
    return _labels(
        decision.key,
        draft_model,
        deeper_model,
        decision.signal,
        decision.method,
        *_outcome(decision),
        decision.alarm,
        decision.stale,
    )


@lru_cache(maxsize=1024)
def _labels(
    key: str | None,
    draft_model: str | None,
    deeper_model: str | None,
    signal: str,
    method: str,
    route: str,
    reason: str,
    answered_by: str | None,
    alarm: str | None,
    stale: bool,
) -> Mapping[str, str | bool]:
    """The attributes that take few values; what is not known is left out."""
    model, task = names_in(key or "") or (draft_model, None)
    known = {
        "gen_ai.operation.name": _OPERATION,
        "gen_ai.request.model": model,
        "gen_ai.response.model": draft_model,
        "tje.task": task,
        "tje.signal": signal,
        "tje.method": method,
        "tje.route": route,
        "tje.reason": reason,
        "tje.answered_by": answered_by,
        "tje.deeper.model": deeper_model,
        "tje.alarm": alarm,
        "tje.stale": stale,
    }
    return {name: value for name, value in known.items() if value is not None}


def _numbers(decision: GateDecision, latency_seconds: float | None, tokens_saved: float | None) -> _Attributes:
    """What only the event has: one of a decision each; what is not known is left out."""
    usage = decision.usage
    known = {
        "tje.key": decision.key,
        "tje.decision.id": decision.decision_id,
        "tje.signal.value": decision.signal_value,
        "tje.threshold": decision.threshold,
        "tje.tokens.measured": decision.tokens,
        "tje.verdict": decision.verdict,
        "tje.profile.version": decision.profile_version,
        "tje.aborted": decision.aborted,
        "tje.tokens.saved": tokens_saved,
        "tje.answer.duration": latency_seconds,
        **_usage("gen_ai.usage", usage),
        **_usage("tje.draft.usage", decision.draft_usage),
        **_usage("tje.deeper.usage", decision.deeper_usage),
    }
    return {name: value for name, value in known.items() if value is not None}


def _beyond(usage: TokenUsage | None, told: TokenUsage | None) -> TokenUsage | None:
    """What was spent since it was told; never less than nothing, which no histogram takes."""
    if usage is None or told is None:
        return usage
    return TokenUsage(
        max(0, usage.input_tokens - told.input_tokens), max(0, usage.output_tokens - told.output_tokens), usage.calls
    )


def _usage(prefix: str, usage: TokenUsage | None) -> dict[str, int | None]:
    if usage is None:
        return {}
    return {f"{prefix}.input_tokens": usage.input_tokens, f"{prefix}.output_tokens": usage.output_tokens}
