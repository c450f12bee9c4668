"""One entry in the table of threshold methods, or in that of signals, is all that a new one needs."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from tje_middleware import (
    CalibrationRecord,
    CalibrationRegistry,
    EntropyGate,
    NoThreshold,
    ProfileKey,
    SequenceLogprobs,
    calibrate,
    signals,
    write_records,
)
from tje_middleware.calibration.thresholds.methods import METHODS
from tje_middleware.calibration.thresholds.rule import Drafts, Found, ThresholdMethod
from tje_middleware.cli import app
from tje_middleware.evaluation import replay
from tje_middleware.evaluation.report import render_report
from tje_middleware.evaluation.report.traces import mark
from tje_middleware.records.columns import Observations
from tje_middleware.signals import SIGNALS, NamedSignal, bound_kind, candidates
from tje_middleware.signals.bounds.folds import Largest
from tje_middleware.signals.bounds.rules import BoundRule, bits
from tje_middleware.signals.entropies import max_entropy

KEY = ProfileKey(model="m", task="t", signal="mean_entropy", top_k=4)


def records(n: int = 60) -> list[CalibrationRecord]:
    """Drafts of three tokens, the wrong ones far more uncertain."""
    rng = np.random.default_rng(5)
    made = []
    for place in range(n):
        correct = place % 3 > 0
        odds = rng.uniform(3.0, 8.0, (3, 1)) * (1.0 if correct else 0.2)
        top = np.log(np.exp(-odds * np.arange(4)) / np.exp(-odds * np.arange(4)).sum(axis=1, keepdims=True))
        made.append(
            CalibrationRecord(
                id=f"q{place}",
                correct=correct,
                tokens=3,
                sequence=SequenceLogprobs(top),
                deeper_correct=True,
                deeper_tokens=30,
            )
        )
    return made


def page() -> str:
    """A report on the records, as a reader sees its text."""
    observations = Observations.of(records(), KEY.signal, KEY.top_k)
    return render_report(replay(observations, key=KEY), observations)


@pytest.fixture
def file(tmp_path):
    write_records(tmp_path / "records.jsonl", records())
    return tmp_path / "records.jsonl"


def tje(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.stdout


class TestAThresholdMethod:
    @pytest.fixture(autouse=True)
    def largest_right(self, monkeypatch):
        """Accepts up to the largest value that a right draft had, and limits errors to alpha."""

        def rule(drafts: Drafts, settings) -> Found:
            if not drafts.correct.any():
                raise NoThreshold("largest_right needs a right draft")
            return Found(float(drafts.classes[0].max()), guarantee=f"asked for alpha = {settings.alpha:g}")

        method = ThresholdMethod(
            "largest_right",
            rule,
            mark=("hexagon", "⬢"),
            precedence=99,
            promises=True,
            risk_limit=lambda settings: settings.alpha,
        )
        monkeypatch.setitem(METHODS, method.name, method)

    def test_is_in_the_profile_with_its_guarantee_and_interval(self):
        found = calibrate(records(), key=KEY, alpha=0.2).thresholds["largest_right"]
        assert found.value is not None
        assert found.guarantee == "asked for alpha = 0.2"
        assert found.interval is not None

    def test_makes_a_gate(self):
        profile = calibrate(records(), key=KEY)
        accepted = EntropyGate(profile, method="largest_right").decide(records()[1].sequence)
        assert (accepted.reason, accepted.method) == ("confident", "largest_right")

    def test_makes_a_gate_that_follows_a_registry(self, tmp_path):
        with CalibrationRegistry(f"sqlite:///{tmp_path / 'tje.db'}") as registry:
            registry.put(calibrate(records(), key=KEY))
            gate = EntropyGate.from_registry(registry, model="m", task="t", top_k=4, method="largest_right")
            assert gate.decide(records()[1].sequence).reason == "confident"

    def test_is_shown_by_the_command_line(self, file, tmp_path):
        url = f"sqlite:///{tmp_path / 'tje.db'}"
        named = ("--model", "m", "--task", "t", "--top-k", 4)
        assert re.search(r"largest_right .*asked for alpha", tje("calibrate", file, *named, "--registry", url))
        assert "largest_right" in tje("evaluate", file, *named, "--fewer-labels", "largest_right")
        (listed,) = json.loads(tje("registry", "list", "--registry", url, "--method", "largest_right", "--json"))
        assert listed["method"] == "largest_right"
        assert listed["threshold"] > 0

    def test_leads_the_report_where_its_precedence_is_the_highest_and_has_a_mark_of_its_own(self):
        text = page()
        assert re.search(r"Accepting with\s+<code>largest_right</code>\s+saves", text)
        assert '<th scope="row">largest_right</th>' in text
        assert '"symbol":"hexagon"' in text
        assert mark("largest_right") == ("hexagon", "⬢")
        assert "<code>largest_right</code>, replayed on other records" in text


class TestABuiltInSignal:
    @pytest.fixture(autouse=True)
    def peak(self, monkeypatch):
        """The largest token entropy, in millibits."""
        signal = NamedSignal(
            lambda sequence: 1000 * max_entropy(sequence),
            "millibits",
            looked_at_over=("", "thinking"),
            bound=BoundRule(lambda part: 1000 * bits(part), lambda _: Largest()),
        )
        monkeypatch.setitem(SIGNALS, "peak", signal)

    def test_is_looked_at_by_an_automatic_choice_over_the_parts_that_it_names(self):
        assert {"peak", "peak@thinking"} <= {*candidates()}
        assert "peak@answer" not in candidates()
        assert candidates() == signals.CANDIDATES
        profile = calibrate(records(), key=KEY.model_copy(update={"signal": "auto"}), resamples=0)
        assert "peak" in [candidate.signal for candidate in profile.candidates]

    def test_is_not_looked_at_unless_it_says_so(self, monkeypatch):
        monkeypatch.setitem(SIGNALS, "quiet", NamedSignal(max_entropy, looked_at_over=()))
        assert "quiet" not in candidates()

    def test_is_measured_by_a_gate(self):
        profile = calibrate(records(), key=KEY, signal="peak")
        decision = EntropyGate(profile).decide(records()[1].sequence)
        assert decision.signal == "peak"
        assert decision.signal_value == pytest.approx(1000 * max_entropy(records()[1].sequence))

    def test_stops_a_draft_early(self):
        assert bound_kind("peak") == "grows"
        watch = EntropyGate(calibrate(records(), key=KEY, signal="peak")).watch()
        assert watch.can_fire

    def test_is_shown_by_the_command_line_and_the_report_with_its_unit(self, file, tmp_path):
        assert "peak" in tje("calibrate", file, "--signal", "peak", "--top-k", 4)
        tje("report", file, "--signal", "peak", "--top-k", 4, "--output", tmp_path / "report.html")
        assert "peak (millibits)" in (tmp_path / "report.html").read_text(encoding="utf-8")
