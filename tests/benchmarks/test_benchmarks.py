"""The benchmarks time what they claim to, or nothing."""

import json
from collections.abc import Iterator
from itertools import repeat

import pytest

from tests.benchmarks import __main__ as command
from tests.benchmarks.drafts import accepting_gate, decisions, payloads
from tests.benchmarks.timing import NotMeasuredError, Row, Timing
from tests.benchmarks.visits import visits_of
from tje_middleware import TjeWarning, parse_logprobs
from tje_middleware.logprobs import sequence


def test_a_gate_that_has_raised_an_alarm_is_not_timed() -> None:
    same = parse_logprobs(payloads()[0])
    decide = decisions(accepting_gate(), repeat(same))
    with pytest.warns(TjeWarning, match="alarm"), pytest.raises(NotMeasuredError, match="drifted"):
        for _ in range(1_000):
            decide()


def test_a_draft_that_goes_deeper_is_not_timed() -> None:
    gate = accepting_gate().with_threshold(0.0)
    with pytest.raises(NotMeasuredError, match="is above the threshold"):
        decisions(gate, iter(payloads()))()


@pytest.mark.parametrize("options", [["--short"], ["--short", "--json"]])
def test_a_row_that_cannot_be_measured_fails_the_run_and_the_others_are_shown(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def slow(timing: Timing) -> Iterator[Row]:
        yield Row("slow", "fast", 2.0, 1.0, at_most=1.0)

    def unmeasured(timing: Timing) -> Iterator[Row]:
        yield Row("before it", "fast", 1.0, 1.0)
        raise NotMeasuredError("no draft was accepted")

    monkeypatch.setattr("sys.argv", ["benchmarks", *options])
    monkeypatch.setattr(command, "SUITES", (slow,))
    assert command.main() == 0  # whatever the figure
    monkeypatch.setattr(command, "SUITES", (unmeasured, slow))
    capsys.readouterr()
    assert command.main() == 1
    told = capsys.readouterr()
    assert "no draft was accepted" in told.err
    assert "before it" in told.out
    assert "slow" in told.out
    if "--json" in options:
        assert [row["ratio"] for row in json.loads(told.out)] == [1.0, 2.0]


def test_files_are_counted_where_their_functions_are_entered() -> None:
    visits = visits_of(lambda: sequence.SequenceLogprobs([[-0.1, -2.0]]))
    assert "tje_middleware/logprobs/sequence.py" in visits.files
    assert not [file for file in visits.files if file.startswith("tests/")]
