"""What OpenTelemetry is told of decisions: by its real SDK, without a provider, and where it is not installed."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from inspect import signature

import pytest
from opentelemetry import trace
from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, UpDownCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai

from tje_middleware import EntropyGate, GateDecision, ProfileKey, Route, Threshold
from tje_middleware.calls.usage import TokenUsage
from tje_middleware.gate import telemetry
from tje_middleware.gate.decision import savings_of
from tje_middleware.gate.sources import ProfileLookup
from tje_middleware.gate.telemetry import emit, emit_amended

from ..books import Book
from ..children import in_child
from ..ledger.decisions import profile_with_costs
from ..samples import draft

SUGGESTS_BUCKETS = "explicit_bucket_boundaries_advisory" in signature(Meter.create_histogram).parameters
KEY = ProfileKey(model="org/m", task="sums", temperature=0.0, prompt_fingerprint="a (b) / c")
DEEPENED = GateDecision(
    Route.DEEPER,
    "uncertain",
    "mean_entropy 0.7 is above the threshold 0.5",
    signal="mean_entropy",
    method="mean",
    signal_value=0.7,
    threshold=0.5,
    tokens=20,
    verdict="usable",
    profile_version=3,
    key=str(KEY),
    decision_id="d-1",
    answered_by="deeper",
    draft_usage=TokenUsage(10, 20, 1),
    deeper_usage=TokenUsage(40, 80, 1),
)
LABELS = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "org/m",
    "tje.task": "sums",
    "tje.signal": "mean_entropy",
    "tje.method": "mean",
    "tje.route": "deeper",
    "tje.reason": "uncertain",
    "tje.answered_by": "deeper",
    "tje.deeper.model": "big",
    "tje.stale": False,
}


class Told:
    """What a provider of this test's own was told."""

    def __init__(self) -> None:
        delta = dict.fromkeys((Counter, Histogram, UpDownCounter), AggregationTemporality.DELTA)
        self._reader = InMemoryMetricReader(preferred_temporality=delta)
        self.meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self._spans = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.tracer = provider.get_tracer("test")

    def points(self) -> dict[str, list]:
        """The data points of every metric since they were last read."""
        data = self._reader.get_metrics_data()
        resources = data.resource_metrics if data else ()
        scopes = [scope for resource in resources for scope in resource.scope_metrics]
        return {metric.name: [*metric.data.data_points] for scope in scopes for metric in scope.metrics}

    def events(self) -> list:
        return [event for span in self._spans.get_finished_spans() for event in span.events]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    provider = Told()
    meter = provider.meters.get_meter("tje_middleware")
    state = telemetry._State(lambda: telemetry._Telemetry(meter, trace.get_current_span))
    monkeypatch.setattr(telemetry, "_state", state)
    yield provider
    provider.meters.shutdown()


class TestEvent:
    def test_a_decision_is_an_event_on_the_span_around_it(self, told):
        with told.tracer.start_as_current_span("answer"):
            emit(DEEPENED, latency_seconds=1.5, deeper_model="big", tokens_saved=-30.0)
        (event,) = told.events()
        assert event.name == "tje.decision"
        assert dict(event.attributes) == {
            **LABELS,
            "tje.key": str(KEY),
            "tje.decision.id": "d-1",
            "tje.signal.value": 0.7,
            "tje.threshold": 0.5,
            "tje.tokens.measured": 20,
            "tje.verdict": "usable",
            "tje.profile.version": 3,
            "tje.aborted": False,
            "tje.tokens.saved": -30.0,
            "tje.answer.duration": 1.5,
            "gen_ai.usage.input_tokens": 50,
            "gen_ai.usage.output_tokens": 100,
            "tje.draft.usage.input_tokens": 10,
            "tje.draft.usage.output_tokens": 20,
            "tje.deeper.usage.input_tokens": 40,
            "tje.deeper.usage.output_tokens": 80,
        }

    def test_there_is_none_on_a_span_that_has_ended_or_outside_of_any(self, told, caplog):
        span = told.tracer.start_span("answer")
        span.end()
        with trace.use_span(span):
            emit(DEEPENED)
        emit(DEEPENED)
        assert told.events() == []
        assert caplog.records == []  # the SDK would complain
        assert told.points()["tje.decisions"][0].value == 2

    def test_names_of_generative_ai_are_those_of_the_conventions(self, told):
        with told.tracer.start_as_current_span("answer"):
            emit(DEEPENED)
        named = {name for name in told.events()[0].attributes if name.startswith("gen_ai.")}
        assert named == {
            gen_ai.GEN_AI_OPERATION_NAME,
            gen_ai.GEN_AI_REQUEST_MODEL,
            gen_ai.GEN_AI_USAGE_INPUT_TOKENS,
            gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS,
        }
        assert gen_ai.GenAiOperationNameValues.CHAT.value == LABELS["gen_ai.operation.name"]


class TestMetrics:
    def test_decisions_are_counted_by_what_takes_few_values(self, told):
        for number in range(50):
            values = {"decision_id": f"d-{number}", "signal_value": number / 10, "detail": f"said {number}"}
            emit(GateDecision.from_dict({**DEEPENED.as_dict(), **values}), deeper_model="big", latency_seconds=number)
        for points in told.points().values():
            series = {tuple(sorted(dict(point.attributes).items())) for point in points}
            assert len(series) == len(points) <= 4  # tokens: draft and deeper, input and output

    def test_the_counter_has_the_attributes_that_are_documented(self, told):
        emit(DEEPENED, deeper_model="big")
        (point,) = told.points()["tje.decisions"]
        assert (point.value, dict(point.attributes)) == (1, LABELS)

    def test_signals_durations_and_tokens_are_distributions(self, told):
        emit(DEEPENED, latency_seconds=1.5, tokens_saved=120.0)
        points = told.points()
        assert [(point.sum, point.count) for point in points["tje.signal.value"]] == [(0.7, 1)]
        assert [(point.sum, point.count) for point in points["tje.answer.duration"]] == [(1.5, 1)]
        spent = {
            (point.attributes["tje.spent_on"], point.attributes[gen_ai.GEN_AI_TOKEN_TYPE]): point.sum
            for point in points["tje.tokens.spent"]
        }
        assert spent == {
            ("draft", "input"): 10,
            ("draft", "output"): 20,
            ("deeper", "input"): 40,
            ("deeper", "output"): 80,
        }

    @pytest.mark.skipif(not SUGGESTS_BUCKETS, reason="this release of the API takes no advice on buckets")
    def test_buckets_tell_tenths_of_a_bit_apart(self, told):
        emit(DEEPENED)
        (point,) = told.points()["tje.signal.value"]
        assert {0.1, 0.5, 1.0} <= set(point.explicit_bounds)

    def test_tokens_lost_are_taken_off_those_saved(self, told):
        emit(DEEPENED, tokens_saved=100.0)
        emit(DEEPENED, tokens_saved=-30.0)
        assert told.points()["tje.tokens.saved"][0].value == 70.0

    def test_what_is_not_known_is_not_recorded(self, told):
        emit(GateDecision(Route.DEEPER, "no_logprobs", "", signal="mean_entropy", method="mean"))
        points = told.points()
        assert set(points) == {"tje.decisions"}
        assert "gen_ai.request.model" not in points["tje.decisions"][0].attributes

    def test_a_negative_signal_is_not_recorded_and_no_fault(self, told, caplog):
        emit(GateDecision(Route.FINAL, "confident", "", signal="mine", method="mean", signal_value=-0.5))
        assert set(told.points()) == {"tje.decisions"}
        assert caplog.records == []

    def test_the_model_that_answered_stands_beside_the_one_that_was_asked_for(self, told):
        emit(DEEPENED, draft_model="org/m-2026-01-01")
        attributes = told.points()["tje.decisions"][0].attributes
        assert (attributes["gen_ai.request.model"], attributes["gen_ai.response.model"]) == (
            "org/m",
            "org/m-2026-01-01",
        )

    def test_what_became_of_a_decision_is_added_and_the_decision_not_counted_again(self, told):
        emit(replace(DEEPENED, answered_by=None, deeper_usage=None))
        emit_amended(DEEPENED, told=telemetry.Told(), deeper_model="big", tokens_saved=-7.0)
        points = told.points()
        assert sum(point.value for point in points["tje.decisions"]) == 1
        assert {point.attributes["tje.spent_on"] for point in points["tje.tokens.spent"]} == {"draft", "deeper"}
        assert [point.value for point in points["tje.tokens.saved"]] == [-7.0]

    def test_what_is_amended_again_adds_what_is_new_alone(self, told):
        book = Book()
        gate = EntropyGate(profile_with_costs(), ledger=book)
        decision = replace(gate.judge(draft(0.9)), draft_usage=TokenUsage(10, 20, 1))
        gate.settle(decision)
        for spent in (30, 30, 70):  # a deeper branch that calls a tool, is told of twice, and answers
            gate.amend(replace(decision, answered_by="deeper", deeper_usage=TokenUsage(5, spent, 1)))
        points = told.points()
        assert sum(spent_by(points, "draft")) == 20
        assert sum(spent_by(points, "deeper")) == 70
        saved = sum(point.value for point in points["tje.tokens.saved"])
        assert saved == savings_of(book.decisions[-1], profile_with_costs()).tokens == -20

    @pytest.mark.parametrize("amends", ["this process", "another one"])
    def test_what_a_human_answers_for_a_draft_that_was_given_up_saves_no_more(self, told, amends):
        profile = profile_with_costs().model_copy(update={"abstain": Threshold(value=1.0)})
        gate, elsewhere = (EntropyGate(profile, abstain=True) for _ in range(2))
        decision = replace(gate.judge(draft(3.0)), draft_usage=TokenUsage(10, 20, 1))
        gate.settle(decision)
        (gate if amends == "this process" else elsewhere).amend(replace(decision, answered_by="human"))
        saved = sum(point.value for point in told.points()["tje.tokens.saved"])
        assert saved == savings_of(decision, profile).tokens > 0

    @pytest.mark.parametrize(
        "key",
        [
            KEY,
            ProfileKey(model="m", task="t"),
            ProfileKey(model="a/b:c", task="one / two", signal="auto", top_k=5),
            ProfileKey(model="m (x)", task="t (u)", signal="mean_entropy@answer"),
        ],
        ids=["all settings", "plain", "slashes", "odd"],
    )
    def test_model_and_task_are_read_from_the_key_as_it_is_written(self, told, key):
        emit(GateDecision(Route.FINAL, "confident", "", signal="mean_entropy", method="mean", key=str(key)))
        attributes = told.points()["tje.decisions"][0].attributes
        assert (attributes["gen_ai.request.model"], attributes["tje.task"]) == (key.model, key.task)

    def test_a_decision_of_a_real_gate_has_no_texts_in_it(self, told):
        gate = EntropyGate.from_registry(_NoProfiles(), model="m", task="t", on_missing="final")
        with told.tracer.start_as_current_span("answer"), pytest.warns(UserWarning):
            emit(gate.decide(draft(0.3)))
        assert "no profile" not in json.dumps(dict(told.events()[0].attributes))


def spent_by(points, part):
    """Output tokens, as they were told."""
    wanted = {"tje.spent_on": part, "gen_ai.token.type": "output"}
    return [point.sum for point in points["tje.tokens.spent"] if wanted.items() <= point.attributes.items()]


class _NoProfiles:
    def lookup(self, key):
        return ProfileLookup(None)


class TestFailures:
    def test_what_fails_is_said_once_at_debug_and_never_raised(self, monkeypatch, caplog):
        class Broken:
            def is_recording(self):
                raise RuntimeError("a broken exporter")

        meter = MeterProvider(shutdown_on_exit=False).get_meter("t")
        monkeypatch.setattr(telemetry, "_state", telemetry._State(lambda: telemetry._Telemetry(meter, Broken)))
        with caplog.at_level(logging.DEBUG, "tje_middleware"):
            emit(DEEPENED)
            emit(DEEPENED)
        failures = [record for record in caplog.records if record.exc_info]
        assert [record.levelname for record in failures] == ["DEBUG"]

    def test_instruments_that_cannot_be_made_are_not_tried_again(self, monkeypatch):
        tried = []

        def make():
            tried.append(1)
            raise RuntimeError("a provider that cannot be loaded")

        monkeypatch.setattr(telemetry, "_state", telemetry._State(make))
        emit(DEEPENED)
        emit(DEEPENED)
        assert tried == [1]


class TestLogging:
    def test_each_decision_is_a_line_at_debug(self, told, caplog):
        with caplog.at_level(logging.DEBUG, "tje_middleware"):
            emit(DEEPENED)
        (record,) = caplog.records
        assert record.name == "tje_middleware.gate.telemetry"
        assert record.getMessage() == f"{KEY}: deeper (uncertain), answered by deeper"

    def test_no_handler_is_added(self, told):
        emit(DEEPENED)
        ours = [name for name in logging.root.manager.loggerDict if name.startswith("tje_middleware")]
        assert "tje_middleware.gate.telemetry" in ours
        assert [logging.getLogger(name).handlers for name in ours] == [[]] * len(ours)


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


MADE = """
from tje_middleware.gate.decision import GateDecision, Route
from tje_middleware.gate.sources import ProfileLookup
from tje_middleware.gate.decision import savings_of
from tje_middleware.gate.telemetry import emit
decision = GateDecision(Route.FINAL, "confident", "", signal="mean_entropy", method="mean", signal_value=0.3)
"""


def test_where_opentelemetry_cannot_be_imported_nothing_happens() -> None:
    hidden = "import sys\nsys.modules['opentelemetry'] = None\n"
    assert run(f"{hidden}{MADE}\nprint(emit(decision), emit(decision, latency_seconds=1.0))") == "None None\n"


def test_it_is_imported_with_the_first_decision_and_not_before() -> None:
    program = f"import sys\n{MADE}\nprint('opentelemetry' in sys.modules); emit(decision)"
    assert run(f"{program}\nprint('opentelemetry.metrics' in sys.modules, 'opentelemetry.sdk' in sys.modules)") == (
        "False\nTrue False\n"
    )


def test_a_provider_that_is_set_later_is_told_from_then_on() -> None:
    program = f"""{MADE}
emit(decision)
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
emit(decision); emit(decision)
(scope,) = reader.get_metrics_data().resource_metrics[0].scope_metrics
print(scope.scope.name, {{metric.name: metric.data.data_points[0].value for metric in scope.metrics
                          if metric.name == "tje.decisions"}})
"""
    assert run(program) == "tje_middleware {'tje.decisions': 2}\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("import_takes", [0.1, 30], ids=["a moment", "longer than a fork waits"])
def test_a_fork_while_another_thread_looks_for_it_leaves_no_child_waiting(import_takes) -> None:
    looking, done = threading.Event(), threading.Event()

    def make():
        looking.set()
        done.wait(import_takes)
        raise ImportError

    state = telemetry._State(make)
    thread = threading.Thread(target=state.telemetry)
    thread.start()
    looking.wait(30)
    assert in_child(lambda: [done.set(), state.telemetry()]) == [None, None]
    done.set()
    thread.join(30)
