"""``tje calibrate``, ``tje evaluate`` and ``tje report`` on files as users have them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.samples import draft
from tje_middleware import CalibrationRecord, CalibrationRegistry, EntropyGate, write_records
from tje_middleware.cli import app
from tje_middleware.registry import stored_keys

RUN = CliRunner()


def lines(n: int = 60, *, gap: float = 2.0, deeper: bool = True) -> list[dict]:
    """Records whose total entropy tells right from wrong."""
    rng = np.random.default_rng(3)
    right = rng.random(n) < 0.6
    made = []
    for place, correct in enumerate(right.tolist()):
        total = 2.0 + (0 if correct else gap) + rng.normal()
        one = {
            "id": f"q{place}",
            "correct": correct,
            "tokens": 20,
            "signals": {"total_entropy": total, "length": 20.0 + place % 7},
        }
        if deeper:
            one |= {"deeper_correct": bool(correct or rng.random() < 0.5), "deeper_tokens": 100}
        made.append(one)
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "records.jsonl", lines())


def written(path: Path, records: list[dict]) -> Path:
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return path


def run(*arguments: object):
    return RUN.invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "300"})


def plain(text: str) -> str:
    return " ".join(text.split())


class TestCalibrate:
    def test_says_which_signal_and_which_thresholds(self, file):
        done = run("calibrate", file)
        assert done.exit_code == 0, done.output
        assert "total_entropy, chosen by calibration" in plain(done.stdout)
        assert all(method in done.stdout for method in ("mean", "risk", "noninferior", "cost"))
        assert "Not stored" in done.stderr

    def test_stores_what_a_gate_then_uses(self, file, tmp_path):
        url = f"sqlite:///{tmp_path}/tje.db"
        done = run("calibrate", file, "--registry", url, "--model", "m", "--task", "t", "--json")
        profile = json.loads(done.stdout)
        assert profile["version"] == 1
        gate = EntropyGate.from_registry(CalibrationRegistry(url), model="m", task="t", signal="auto", method="info")
        assert gate.decide(draft(0.2, tokens=4)).accepted
        assert not gate.decide(draft(2.0, tokens=4)).accepted

    def test_shows_how_a_gate_opens_what_it_stored(self, file, tmp_path):
        named = (
            "--registry",
            f"sqlite:///{tmp_path}/tje.db",
            "--model",
            "gpt-4o",
            "--task",
            "it's",
            "--temperature",
            0,
        )
        done = run("calibrate", file, *named, "--top-k", 5)
        shown = done.stderr.strip().splitlines()[-1]
        call = "EntropyGate.from_registry(registry, "
        assert shown.startswith(f"A gate opens it by {call}")
        with CalibrationRegistry(named[1]) as registry:
            gate = eval(shown.removeprefix("A gate opens it by "), {"EntropyGate": EntropyGate, "registry": registry})
            assert gate.profile().version == 1

    def test_leaves_a_version_active_that_works_where_the_new_one_does_not(self, file, tmp_path):
        url = f"sqlite:///{tmp_path}/tje.db"
        named = ("--registry", url, "--model", "m", "--task", "t")
        run("calibrate", file, *named)
        noise = written(tmp_path / "noise.jsonl", lines(gap=0.0))
        said = plain(run("calibrate", noise, *named).stderr)
        assert "version 2 of m / t / auto (top 20)" in said
        assert "a candidate, as it is unusable and version 1, which is active, is usable;" in said
        assert "tje registry promote m t 2 makes it active" in said
        with CalibrationRegistry(url) as registry:
            (held,) = stored_keys(registry.database)
        assert (held.active_version, held.candidates) == (1, (2,))

    def test_makes_an_unusable_one_active_where_none_is_better(self, tmp_path):
        url = f"sqlite:///{tmp_path}/tje.db"
        noise = written(tmp_path / "noise.jsonl", lines(gap=0.0))
        for _ in range(2):
            said = plain(run("calibrate", noise, "--registry", url, "--model", "m", "--task", "t").stderr)
        assert ": active." in said
        with CalibrationRegistry(url) as registry:
            (held,) = stored_keys(registry.database)
        assert held.active_version == 2

    def test_says_how_a_candidate_is_made_active(self, file, tmp_path):
        named = ("--registry", f"sqlite:///{tmp_path}/tje.db", "--model", "my model", "--task", "t")
        said = plain(run("calibrate", file, *named, "--candidate").stderr)
        assert "a candidate; tje registry promote 'my model' t 1 makes it active." in said

    def test_will_not_store_without_a_name(self, file, tmp_path):
        done = run("calibrate", file, "--registry", f"sqlite:///{tmp_path}/tje.db")
        assert done.exit_code == 2
        assert "--task" in plain(done.stderr)

    def test_of_a_file_with_a_bad_line_names_it_and_stores_nothing(self, tmp_path):
        url = f"sqlite:///{tmp_path}/tje.db"
        broken = lines()
        broken[41]["correct"] = "yes"
        done = run(
            "calibrate", written(tmp_path / "r.jsonl", broken), "--registry", url, "--model", "m", "--task", "t"
        )
        assert done.exit_code == 1
        assert "line 42: correct" in plain(done.stderr)
        assert CalibrationRegistry(url).list() == []

    def test_reads_gzip_and_parquet_alike(self, file, tmp_path):
        expected = json.loads(run("calibrate", file, "--json").stdout)
        zipped = tmp_path / "records.jsonl.gz"
        zipped.write_bytes(gzip.compress(file.read_bytes()))
        parquet = tmp_path / "records.parquet"
        write_records(parquet, map(CalibrationRecord.model_validate, lines()))
        for other in (zipped, parquet):
            found = json.loads(run("calibrate", other, "--json").stdout)
            assert {**found, "created_at": 0} == {**expected, "created_at": 0}

    def test_reads_standard_input(self, file):
        done = RUN.invoke(app, ["calibrate", "-", "--json"], input=file.read_bytes())
        assert json.loads(done.stdout)["chosen_signal"] == "total_entropy"

    def test_levels_and_prices_are_used(self, file):
        prices = ("--error-price", 1, "--deeper-price", 0.2, "--token-price", 0.001)
        profile = json.loads(run("calibrate", file, "--json", "--alpha", 0.3, "--seed", 7, *prices).stdout)
        assert (profile["settings"]["alpha"], profile["settings"]["seed"]) == (0.3, 7)
        assert profile["settings"]["prices"] == {"error": 1, "token": 0.001, "deeper": 0.2, "abstain": None}
        assert profile["thresholds"]["risk"]["guarantee"].startswith("with probability 0.9 at most 30.00%")
        assert profile["thresholds"]["cost"]["value"] is not None

    def test_a_level_outside_its_range_is_named(self, file):
        done = run("calibrate", file, "--alpha", 1.5)
        assert done.exit_code == 1
        assert "alpha: Input should be less than 1, not 1.5" in plain(done.stderr)

    def test_prices_without_that_of_an_error_are_refused(self, file):
        done = run("calibrate", file, "--token-price", 0.1)
        assert done.exit_code == 2
        assert "--error-price" in plain(done.stderr)

    def test_an_unknown_signal_is_refused_with_those_that_there_are(self, file):
        done = run("calibrate", file, "--signal", "mood")
        assert done.exit_code == 1
        assert "no signal 'mood' (there: length, total_entropy)" in plain(done.stderr)
        assert file.name in done.stderr.replace("\n", "")

    @pytest.mark.parametrize("correct", [True, False])
    def test_one_class_is_a_verdict_and_no_error(self, tmp_path, correct):
        one_class = [{**line, "correct": correct} for line in lines(20)]
        done = run("calibrate", written(tmp_path / "r.jsonl", one_class))
        assert done.exit_code == 0, done.output
        assert "Verdict unusable" in done.stdout

    def test_a_draft_that_is_there_twice_is_an_error(self, tmp_path):
        done = run("calibrate", written(tmp_path / "r.jsonl", [*lines(20), lines(1)[0]]))
        assert done.exit_code == 1
        assert "records 0 and 20 have the same id 'q0'" in plain(done.stderr)

    @pytest.mark.parametrize("content", ["", "\n\n"])
    def test_an_empty_file_is_an_error(self, tmp_path, content):
        path = tmp_path / "r.jsonl"
        path.write_text(content, encoding="utf-8")
        done = run("calibrate", path)
        assert done.exit_code == 1
        assert str(path.name) in plain(done.stderr).replace(" ", "")

    def test_a_file_that_is_not_there_is_an_error(self, tmp_path):
        assert run("calibrate", tmp_path / "none.jsonl").exit_code == 1


class TestEvaluate:
    def test_shows_every_policy(self, file):
        done = run("evaluate", file)
        assert done.exit_code == 0, done.output
        assert all(policy in done.stdout for policy in ("never", "always", "oracle", "mean", "info"))

    def test_speaks_json(self, file):
        found = json.loads(run("evaluate", file, "--json").stdout)
        assert found["policies"]["always"]["accuracy"]["value"] >= found["policies"]["never"]["accuracy"]["value"]
        assert found["policies"]["never"]["saved"]["value"] == pytest.approx(0.8)

    def test_a_draft_that_the_deeper_branch_includes_is_paid_by_always(self, file):
        found = json.loads(run("evaluate", file, "--json", "--deeper-includes-draft").stdout)
        assert found["policies"]["never"]["saved"]["value"] == pytest.approx(1 - 20 / 120)

    def test_a_test_file_is_decided_by_a_profile_of_the_other(self, file, tmp_path):
        others = [{**line, "id": f"other{place}"} for place, line in enumerate(lines(30))]
        found = json.loads(run("evaluate", file, "--test", written(tmp_path / "t.jsonl", others), "--json").stdout)
        assert (found["records"], found["folds"]) == (30, None)

    def test_a_record_in_both_files_is_refused(self, file):
        done = run("evaluate", file, "--test", file)
        assert done.exit_code == 1
        assert "also in the calibration part" in plain(done.stderr)

    def test_folds_beside_a_test_file_are_refused(self, file, tmp_path):
        others = written(tmp_path / "t.jsonl", [{**line, "id": f"other{line['id']}"} for line in lines(20)])
        done = run("evaluate", file, "--test", others, "--folds", 3)
        assert done.exit_code == 2
        assert "nothing is split" in plain(done.stderr)

    @pytest.mark.parametrize("margin", ["nan", "-0.1", "1"])
    def test_a_margin_that_is_no_share_is_refused(self, file, margin):
        assert run("evaluate", file, "--margin", margin).exit_code > 0

    def test_how_figures_spread_with_fewer_labels_is_shown_where_asked_for(self, file):
        done = run("evaluate", file, "--signal", "total_entropy", "--fewer-labels", "info")
        assert "Calibrated on some of 60 records, by info" in plain(done.stdout)
        found = json.loads(
            run("evaluate", file, "--signal", "total_entropy", "--fewer-labels", "info", "--json").stdout
        )
        assert [size["records"] for size in found["fewer_labels"]] == [5, 10, 20, 50]
        assert run("evaluate", file, "--fewer-labels", "median").exit_code == 2

    def test_without_deeper_outcomes_risk_is_all_that_is_shown(self, tmp_path):
        done = run("evaluate", written(tmp_path / "r.jsonl", lines(deeper=False)), "--json")
        found = json.loads(done.stdout)
        assert "always" not in found["policies"]
        assert found["policies"]["info"]["risk"]["value"] < found["policies"]["never"]["risk"]["value"]


class TestReport:
    def test_is_one_page(self, tmp_path):
        path = tmp_path / "raw.jsonl.gz"
        records = [
            CalibrationRecord(id=f"q{i}", correct=i % 3 > 0, sequence=draft(0.3 + (i % 3 == 0) + i / 500))
            for i in range(45)
        ]
        write_records(path, records)
        page = tmp_path / "page.html"
        done = run("report", path, "-o", page)
        assert done.exit_code == 0, done.output
        assert str(page.name) in done.stdout.replace("\n", "")
        assert "</html>" in page.read_text(encoding="utf-8")

    def test_is_not_begun_where_it_could_not_be_written(self, file, tmp_path):
        done = run("report", file, "-o", tmp_path / "none" / "page.html")
        assert done.exit_code == 2
        assert "a folder that exists" in plain(done.stderr).replace("│ │ ", "")
