"""``tje demo --agent``: what a user sees, and what a program reads."""

import json
from pathlib import Path

from typer.testing import CliRunner

from tests.standin import StandIn
from tje_middleware import CalibrationRegistry
from tje_middleware.cli import app

RUN = CliRunner()


def agent_demo(provider: StandIn, where: Path, *options: str):
    command = ["demo", "--agent", "--questions", "6", "3", "--base-url", provider.base_url, "--model", "standin"]
    return RUN.invoke(app, [*command, "--registry", f"sqlite:///{where}/d.db", *options])


def test_as_json(tmp_path: Path) -> None:
    with StandIn() as provider:
        done = agent_demo(provider, tmp_path, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert set(found) == {
        "model", "profile", "graded", "policies", "missing", "max_turns", "max_deeper_per_run"
    }  # fmt: skip
    assert found["graded"]["runs"] == 6
    assert list(found["policies"]) == ["never deeper", "always deeper", "mean"]
    for figures in found["policies"].values():
        assert figures["comparison"]["questions"] == 3
        assert {"turns", "calls", "accepted", "deeper", "unknown", "capped", "runs_capped", "runs_cut_off"} < set(
            figures
        )
    (stored,) = CalibrationRegistry(f"sqlite:///{tmp_path}/d.db").list()
    assert stored.key.task == "tje-agent-demo"


def test_as_a_table_that_fits_a_terminal(tmp_path: Path) -> None:
    with StandIn() as provider:
        done = agent_demo(provider, tmp_path)
    assert done.exit_code == 0, done.output
    assert "…" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "gated: mean" in done.stdout
    assert "The model never called the tool." in done.stdout


def test_more_questions_than_there_are_is_refused(tmp_path: Path) -> None:
    with StandIn() as provider:
        done = agent_demo(provider, tmp_path, "--questions", "100", "40")
    assert done.exit_code == 1
    assert "there are 120 questions for the agent" in " ".join(done.stderr.split())
    assert provider.requests == []
