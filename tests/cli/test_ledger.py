"""``tje ledger``: summaries, feedback, retention, and a candidate from feedback."""

from __future__ import annotations

import json
import random
import threading
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

from tests.ledger.decisions import ACCEPTED, DEEPER, KEY, decision, profile_with_costs
from tests.samples import KEY as PROFILE_KEY
from tje_middleware import CalibrationRegistry, ProfileKey
from tje_middleware.calls.usage import TokenUsage
from tje_middleware.cli.ledger import ledger as commands
from tje_middleware.ledger import DecisionLedger

APP = typer.Typer()
APP.add_typer(commands, name="ledger")
RUN = CliRunner()


@pytest.fixture
def url(tmp_path):
    url = f"sqlite:///{tmp_path / 'tje.db'}"
    with CalibrationRegistry(url) as registry:
        registry.put(profile_with_costs())
    return url


@pytest.fixture
def held(url):
    with DecisionLedger(url) as ledger:
        yield ledger


def run(url, *arguments, succeeds=True, **options):
    result = RUN.invoke(APP, ["ledger", *map(str, arguments), "--registry", url], **options)
    assert (result.exit_code == 0) == succeeds, result.output
    return result


def record(held, *decisions):
    for each in decisions:
        held.record(
            each,
            profile=profile_with_costs(),
            latency_seconds=1.25,
            draft_model="gpt-4.1-mini",
            deeper_model="gpt-4.1",
            risk_limit=0.05,
        )
    assert held.flush(30)


class TestSummary:
    def test_shows_every_key_within_120_columns(self, url, held):
        many = TokenUsage(12_345_678, 9_876_543, 1)
        record(held, *(decision(draft_usage=many) for _ in range(300)), *(decision(DEEPER) for _ in range(100)))
        wrong = decision()
        record(held, wrong, decision(key="other / task / mean_entropy (top 20)"))
        held.feedback(wrong.decision_id, correct=False)
        held.feedback("nobody's", correct=False)
        held.close()
        shown = run(url, "summary", env={"COLUMNS": "120"}).stdout
        assert all(len(line) <= 120 for line in shown.splitlines())
        assert "…" not in shown
        assert shown.index(KEY) < shown.index("other / task")
        (line,) = [line for line in shown.splitlines() if " 401 " in line]
        assert "75.1%" in line
        assert "1/1" in line
        assert "2.5-100.0 (≤ 5)" in line
        assert "1.25" in line
        assert "Feedback about decisions that are not there: 1." in shown

    def test_as_json_has_every_number(self, url, held):
        record(held, decision(), decision(DEEPER))
        plain = json.loads(run(url, "summary", "--json").stdout)
        assert (plain["dropped"], plain["unmatched_feedback"]) == (0, 0)
        (one,) = plain["summaries"]
        assert (one["key"], one["decisions"], one["share_accepted"]) == (KEY, 2, 0.5)
        assert one["saved_estimated"] == 190.0

    @pytest.mark.parametrize(
        ("options", "keys"),
        [
            (["--model", "m"], [KEY]),
            (["--task", "u"], ["n / u / mean_entropy (top 20)"]),
            (["--key", KEY], [KEY]),
            (["--since", "2020-01-01", "--total"], [KEY, "n / u / mean_entropy (top 20)"]),
            (["--since", "2999-01-01"], []),
            (["--until", "2020-01-01"], []),
        ],
    )
    def test_is_of_what_is_asked_for(self, url, held, options, keys):
        record(held, decision(), decision(key="n / u / mean_entropy (top 20)"))
        plain = json.loads(run(url, "summary", "--json", *options).stdout)
        assert [one["key"] for one in plain["summaries"]] == keys

    @pytest.mark.parametrize(
        ("option", "found"), [("t", [KEY]), ("a / u", [str(ProfileKey(model="m", task="a / u"))])]
    )
    def test_is_of_the_whole_name_of_a_task(self, url, held, option, found):
        record(held, decision(), decision(key=str(ProfileKey(model="m", task="a / u"))))
        plain = json.loads(run(url, "summary", "--json", "--task", option).stdout)
        assert [one["key"] for one in plain["summaries"]] == found

    @pytest.mark.parametrize(
        "names",
        [["--model", "mm"], ["--task", "u"], ["--model", "m", "--task", "mean_entropy"], ["--model", "x", "--total"]],
    )
    def test_of_names_that_no_decision_has_says_which_keys_there_are(self, url, held, names):
        assert "no decisions" in run(url, "summary", *names).stdout
        record(held, decision(), decision(key=str(ProfileKey(model="m", task="a / u"))))
        result = run(url, "summary", *names, succeeds=False)
        assert "no key matches" in result.stderr
        assert KEY in " ".join(result.stderr.split())

    def test_finds_a_model_by_its_alias(self, url, held):
        record(held, decision(), decision(key="n / u / mean_entropy (top 20)"))
        with CalibrationRegistry(url) as registry:
            registry.alias("m-2026-01-01", "m")
        result = run(url, "summary", "--model", "m-2026-01-01", "--json")
        assert [one["key"] for one in json.loads(result.stdout)["summaries"]] == [KEY]
        assert "m-2026-01-01 is an alias of m" in result.stderr

    def test_of_a_day_that_is_none_says_how_days_are_written(self, url):
        result = run(url, "summary", "--since", "yesterday", succeeds=False)
        assert "'yesterday' is no day as YYYY-MM-DD" in result.stderr
        assert "YYYY-MM-DD" in RUN.invoke(APP, ["ledger", "summary", "--help"], env={"COLUMNS": "80"}).stdout

    def test_marks_amounts_that_are_bounds(self, url, held):
        pytest.importorskip("genai_prices")
        partly = TokenUsage(100, 10, 2, partly_known=1)
        record(held, decision(draft_usage=partly), decision(DEEPER, draft_usage=partly))
        shown = run(url, "summary", env={"COLUMNS": "120"}).stdout
        (line,) = [line for line in shown.splitlines() if line.strip()[:2] == "20"]
        spent, meas, estim, usd_spent, usd_meas, usd_estim = line.split()[4:10]
        assert (spent, meas, estim) == ("≥720", "≤-10", "≤190")
        assert (usd_spent[0], usd_meas[:2], usd_estim[0]) == ("≥", "≤-", "≤")

    def test_says_of_a_broken_promise_which(self, url, held):
        made = [decision() for _ in range(10)]
        record(held, *made)
        for each in made:
            held.feedback(each.decision_id, correct=False)
        held.flush(30)
        assert "accepted as at most 5 % wrong, more were" in run(url, "summary", env={"COLUMNS": "120"}).stdout

    def test_says_that_there_is_nothing(self, url):
        assert "no decisions" in run(url, "summary").stdout

    def test_shows_an_unknown_price_as_one(self, url, held):
        pytest.importorskip("genai_prices")
        held.record(decision(), profile=profile_with_costs(), draft_model="nobody's")
        held.flush(30)
        shown = run(url, "summary", env={"COLUMNS": "120"}).stdout
        assert "?: no list price for: nobody's; a model is not named" in shown

    @pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
    def test_cuts_no_number_however_narrow_the_terminal(self, url, held, width):
        pytest.importorskip("genai_prices")
        record(held, *(decision(draft_usage=TokenUsage(123_456_789, 98_765_432, 1, 1)) for _ in range(30)))
        made = [decision(DEEPER, draft_usage=TokenUsage(1, 2_345, 1, 1)) for _ in range(1_203)]
        record(held, *made, *(decision(key=f"{'long-' * 30} / t / mean_entropy (top 20)") for _ in range(3)))
        held.feedback(decision_id=made[0].decision_id, correct=False)
        held.flush(30)
        wide = run(url, "summary", env={"COLUMNS": "300"}).stdout
        shown = run(url, "summary", env={"COLUMNS": str(width)}).stdout
        assert "…" not in shown
        assert all(len(line) <= width for line in shown.splitlines())
        for line in (line for line in wide.splitlines() if line.strip()[:2] == "20"):
            assert set(line.split()) <= set(shown.split())

    def test_says_which_keys_there_are(self, url, held):
        assert "no decisions" in run(url, "summary", "--key", "x").stdout
        record(held, decision())
        result = run(url, "summary", "--key", "x", succeeds=False)
        assert KEY in " ".join(result.stderr.split())

    def test_of_a_known_key_without_decisions_in_that_time_is_none(self, url, held):
        record(held, decision())
        assert "no decisions" in run(url, "summary", "--key", KEY, "--since", "2999-01-01").stdout

    def test_goes_to_the_end_of_time(self, url, held):
        record(held, decision())
        options = ["--since", "0001-01-01", "--until", "9999-12-31"]
        assert len(json.loads(run(url, "summary", "--json", *options).stdout)["summaries"]) == 1

    def test_does_not_end_before_it_begins(self, url):
        result = run(url, "summary", "--since", "2026-02-01", "--until", "2026-01-31", succeeds=False)
        assert "before --since" in result.stderr

    def test_of_a_file_that_is_not_there_makes_none(self, tmp_path):
        result = run(f"sqlite:///{tmp_path / 'no.db'}", "summary", succeeds=False)
        assert "no such file" in result.stderr
        assert not list(tmp_path.iterdir())


class TestFeedback:
    @pytest.mark.parametrize(
        ("option", "said"),
        [
            ("--correct", (True, None)),
            ("--wrong", (False, None)),
            ("--draft-correct", (None, True)),
            ("--draft-wrong", (None, False)),
        ],
    )
    def test_is_stored(self, url, held, option, said, request):
        made = decision()
        record(held, made)
        run(url, "feedback", made.decision_id, option)
        with held.database.reading() as read:
            from tje_middleware.ledger.tables import FEEDBACK  # noqa: PLC0415

            (row,) = read(FEEDBACK.select())
        assert (row.correct, row.draft_correct) == said

    def test_says_what_it_stored_and_what_that_replaced(self, url, held):
        made = decision()
        record(held, made)
        of = made.decision_id
        assert run(url, "feedback", of, "--wrong").stdout == f"{of}: the answer is marked wrong.\n"
        assert run(url, "feedback", of, "--wrong").stdout == f"{of}: the answer is marked wrong.\n"
        both = run(url, "feedback", of, "--correct", "--draft-wrong").stdout.splitlines()
        assert both == [
            f"{of}: the answer is marked right; until now it was marked wrong.",
            f"{of}: the draft is marked wrong.",
        ]

    def test_about_an_unknown_decision_says_so(self, url):
        for _ in range(2):
            assert "no decision x yet" in run(url, "feedback", "x", "--wrong").stderr

    def test_says_something(self, url):
        assert "--correct or --wrong" in run(url, "feedback", "x", succeeds=False).stderr

    def test_that_cannot_be_stored_is_an_error(self, tmp_path):
        (tmp_path / "tje.db").write_bytes(b"a note of somebody" * 300)
        result = run(f"sqlite:///{tmp_path / 'tje.db'}", "feedback", "x", "--wrong", succeeds=False)
        assert "not a database" in result.stderr
        assert not [thread for thread in threading.enumerate() if thread.name == "tje-ledger"]  # nothing tries on

    def test_about_nothing_that_is_an_id_is_an_error(self, url):
        assert "1 to 200 characters" in run(url, "feedback", "x" * 201, "--wrong", succeeds=False).stderr

    def test_raises_an_alarm_about_a_promise_that_is_broken(self, url, held):
        made = [decision() for _ in range(10)]
        record(held, *made)
        for each in made:
            run(url, "feedback", each.decision_id, "--wrong")
        with CalibrationRegistry(url) as registry:
            assert [stored.alarm.kind for stored in registry.alarms(PROFILE_KEY)] == ["risk"]


class TestPrune:
    def test_asks_first(self, url, held):
        record(held, decision())
        assert (
            "Delete 1 decision from"
            in run(url, "prune", "--before", "2999-01-01", succeeds=False, input="n\n").stderr
        )
        assert len(held.summary()) == 1

    def test_deletes(self, url, held):
        record(held, decision())
        assert "Deleted 1 decision from" in run(url, "prune", "--before", "2999-01-01", "--yes").stderr
        assert held.summary() == []


class TestRecalibrate:
    def test_makes_a_candidate_and_changes_nothing(self, url, held):
        self.told(held)
        result = run(url, "recalibrate", PROFILE_KEY.model, PROFILE_KEY.task, "--json")
        plain = json.loads(result.stdout)
        assert plain["version"] == 2
        assert "tje registry promote m t 2" in result.stderr
        with CalibrationRegistry(url) as registry:
            assert registry.get(PROFILE_KEY).version == 1
            candidate = registry.get(PROFILE_KEY, version=2)
            (stored,) = [one for one in registry.versions(PROFILE_KEY) if one.version == 2]
        assert stored.source == "feedback"
        assert candidate.n_correct + candidate.n_incorrect == 200
        assert candidate.mean_correct == pytest.approx(0.3, abs=0.05)

    def test_again_makes_no_other_of_the_same_records(self, url, held):
        self.told(held)
        first, again = (run(url, "recalibrate", "m", "t") for _ in range(2))
        assert "Version 2 is a candidate" in first.stderr
        assert "Version 2 was made of these records before" in again.stderr
        with CalibrationRegistry(url) as registry:
            assert len(registry.history(PROFILE_KEY)) == 2

    def told(self, held):
        """Decisions and what feedback says of them."""
        rng = random.Random(0)
        made = []
        for _ in range(200):
            right = rng.random() < 0.6
            value = max(0.01, rng.gauss(0.3 if right else 0.9, 0.15))
            kind = ACCEPTED if value <= 0.5 else DEEPER
            made.append((decision(kind, signal_value=value), right))
        record(held, *(each for each, _ in made))
        for each, right in made:
            held.feedback(each.decision_id, correct=right or each.route == "deeper", draft_correct=right)
        assert held.flush(30)

    def test_is_of_drafts_since_a_day(self, url, held):
        record(held, decision())
        result = run(url, "recalibrate", "m", "t", "--since", "2999-01-01", succeeds=False)
        assert "since 2999-01-01 00:00 UTC" in " ".join(result.stderr.split())

    def test_without_feedback_says_what_is_missing(self, url, held):
        record(held, decision(), replace(decision(DEEPER), key=KEY))
        result = run(url, "recalibrate", "m", "t", succeeds=False)
        assert "no feedback" in result.stderr
        with CalibrationRegistry(url) as registry:
            assert len(registry.history(PROFILE_KEY)) == 1
