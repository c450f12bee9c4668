"""Telemetry: decisions as events on the current OpenTelemetry span, and as metrics.

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

A decision that was told before its deeper branch ran, as in a graph of nodes, is amended later: by an event
``tje.decision.amended``, and by adding the new tokens to the metrics. Each process that amends it adds them.

Every metric has the attributes of a decision that take few values: the model, the profile's task and signal, method,
route, reason, who answered, the deeper model and an alarm. Values that differ for each decision (its id, numbers) are
on the span's event alone; sentences, prompts and answers are never told. The conventions' own metrics of model calls
(``gen_ai.client.token.usage``) are left to the instrumentation of the client, as calls would be counted twice.

Loggers have the names of the modules, such as ``tje_middleware.gate.telemetry``, and no handlers. ERROR is not used,
as errors are raised. WARNING says, once and not for each call, that something is lost or degraded; INFO that
something changed, such as a profile; DEBUG has a line for each decision. They hold numbers and names, no texts.
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
# The buckets of the conventions for tokens and for seconds.
_TOKEN_BUCKETS = tuple(float(4**power) for power in range(14))
_SECOND_BUCKETS = tuple(0.01 * 2**power for power in range(14))

_logger = logging.getLogger(__name__)


class Told(NamedTuple):
    """The numbers of a decision that the metrics already count.

    Attributes:
        tokens_saved: As in :func:`emit`.
        deeper_usage: Tokens that its deeper branch spent.
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
        decision: The decision, with its usages.
        latency_seconds: From the question to the answer (seconds).
        draft_model: The model that wrote the draft, where known; the model that was asked for is the key's.
        deeper_model: The model that wrote the deeper answer.
        tokens_saved: Tokens saved against always going deeper; below 0 where the gate cost more (tokens).
    """
    if _logger.isEnabledFor(logging.DEBUG):
        _logger.debug("%s: %s (%s), answered by %s", decision.key, *_outcome(decision))
    _tell(lambda it: it.tell(decision, latency_seconds, draft_model, deeper_model, tokens_saved))


def emit_amended(
    decision: GateDecision,
    *,
    told: Told,
    deeper_model: str | None = None,
    tokens_saved: float | None = None,
) -> None:
    """Tell OpenTelemetry of changes of a decision that it was told of; never waits, never raises.

    The decision is not counted again: the metrics get the tokens spent and saved beyond those in ``told``.

    Args:
        decision: The decision, with its usages.
        told: The numbers that the metrics already count.
        deeper_model: As in :func:`emit`.
        tokens_saved: As in :func:`emit`.
    """
    _tell(lambda it: it.tell_amended(decision, told, deeper_model, tokens_saved))


def _tell(say: Callable[[_Telemetry], None]) -> None:
    telemetry = _state.telemetry()
    if telemetry is None:
        return
    try:
        say(telemetry)
    except Exception:
        _state.note_failure()


class _Telemetry:
    """The instruments; they use the provider that the application sets, even where it does so later."""

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
        labels = _labels_of(decision, draft_model, deeper_model)
        span = self._current_span()
        if span.is_recording():
            span.add_event(EVENT, {**labels, **_numbers(decision, latency_seconds, tokens_saved)})
        self._decisions.add(1, labels)
        # A histogram takes no number below 0; only a user's own signal can be below 0.
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
    """A histogram with advice on its buckets, where the installed API takes such advice."""
    if "explicit_bucket_boundaries_advisory" not in inspect.signature(meter.create_histogram).parameters:
        return meter.create_histogram(name, unit, description)
    return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=buckets)


class _State(ForkAware):
    """Holds the telemetry of this process, which is looked for at the first decision."""

    def __init__(self, make: Callable[[], _Telemetry]) -> None:
        self._make = make
        self._telemetry: _Telemetry | None = None
        self._looked = False
        self._failed = False
        self._looking = False
        # Reentrant: while this thread imports, the garbage collector may close a stream, which then tells its
        # decision.
        self._lock = threading.RLock()
        tell_of_forks(self)

    def before_fork(self, until: float) -> None:
        """Wait for another thread's imports to end, as that thread does not exist in the child."""
        if self._lock.acquire(timeout=max(0.0, until - time.monotonic())):
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Forget a thread that was looking for the telemetry: it does not exist in the child."""
        self._lock = threading.RLock()
        self._looking = False

    def telemetry(self) -> _Telemetry | None:
        """The telemetry of this process; None where OpenTelemetry is not installed."""
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
        """Log the first failure of telling; the decision itself does not fail."""
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
    """The attributes that take few values; unknown ones are left out."""
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
    """The attributes that only the event has; unknown ones are left out."""
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
        **_usage("gen_ai.usage", decision.usage),
        **_usage("tje.draft.usage", decision.draft_usage),
        **_usage("tje.deeper.usage", decision.deeper_usage),
    }
    return {name: value for name, value in known.items() if value is not None}


def _beyond(usage: TokenUsage | None, told: TokenUsage | None) -> TokenUsage | None:
    """The usage beyond what was told; never below 0, as a histogram takes no such number."""
    if usage is None or told is None:
        return usage
    return TokenUsage(
        max(0, usage.input_tokens - told.input_tokens), max(0, usage.output_tokens - told.output_tokens), usage.calls
    )


def _usage(prefix: str, usage: TokenUsage | None) -> dict[str, int | None]:
    if usage is None:
        return {}
    return {f"{prefix}.input_tokens": usage.input_tokens, f"{prefix}.output_tokens": usage.output_tokens}
