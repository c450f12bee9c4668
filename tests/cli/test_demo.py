"""``tje demo`` and ``tje local``: what a user sees, types wrong, and pipes on."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from tests.standin import StandIn
from tje_middleware import CalibrationRegistry, __version__
from tje_middleware.calibration.thresholds.methods import METHODS
from tje_middleware.cli import app

RUN = CliRunner()


def test_version() -> None:
    assert RUN.invoke(app, ["--version"]).stdout == f"tje-middleware {__version__}\n"


def test_the_demo_on_the_embedded_model_as_json(tmp_path: Path) -> None:
    registry = f"sqlite:///{tmp_path}/demo.db"
    command = [
        sys.executable,
        "-m",
        "tje_middleware",
        "demo",
        "--questions",
        "10",
        "6",
        "--json",
        "--registry",
        registry,
        "--report",
        str(tmp_path / "demo.html"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["profile"]["n_correct"] + found["profile"]["n_incorrect"] == 10
    ungated = {"never deeper", "always deeper", "until repeated"}
    assert set(found["policies"]) | set(found["missing"]) == ungated | {*METHODS} - {"cost"}
    for figures in found["policies"].values():
        assert figures["questions"] == 6
        assert figures["saved"]["low"] <= figures["saved"]["value"] <= figures["saved"]["high"]
    assert found["policies"]["always deeper"]["output_tokens"] > found["policies"]["never deeper"]["output_tokens"]
    (stored,) = CalibrationRegistry(registry).list()
    assert stored.version == found["profile"]["version"] == 1
    assert stored.key.signal == "auto"
    assert "</html>" in (tmp_path / "demo.html").read_text(encoding="utf-8")


def test_the_demo_on_a_server_that_runs_already(tmp_path: Path) -> None:
    with StandIn() as provider:
        done = _demo(provider, "--model", "standin", registry=tmp_path)
    assert done.exit_code == 0, done.output
    assert "unusable" in done.stdout  # the stand-in knows no answer
    assert "gated: mean" not in done.stdout
    assert "mean needs at least 1 correct draft" in done.stdout


def test_the_demo_says_when_a_server_gives_no_logprobs(tmp_path: Path) -> None:
    with StandIn() as provider:
        done = _demo(provider, "--model", "ignores-logprobs", registry=tmp_path)
    assert done.exit_code == 1
    assert "gives no logprobs" in _plain(done.stderr)


def test_the_demo_says_when_there_is_no_server(tmp_path: Path) -> None:
    done = RUN.invoke(
        app, ["demo", "--base-url", "http://127.0.0.1:9/v1", "--registry", f"sqlite:///{tmp_path}/d.db"]
    )
    assert done.exit_code == 1
    assert "does not say which models it has" in _plain(done.stderr)


def test_the_demo_says_when_the_weights_are_not_there(tmp_path: Path) -> None:
    done = RUN.invoke(app, ["demo", "--model", str(tmp_path / "none.gguf")])
    assert done.exit_code == 1
    assert "There is no file" in _plain(done.stderr)


def test_the_demo_says_when_the_profile_cannot_be_stored(tmp_path: Path) -> None:
    with StandIn() as provider:
        done = _demo(provider, "--model", "standin", registry=tmp_path / "missing")
    assert done.exit_code == 1
    assert "check that its folder exists" in _plain(done.stderr)
    assert provider.requests == []  # nothing was paid for


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "nonsense"])
def test_the_demo_says_when_the_server_does_not_answer(url: str, tmp_path: Path) -> None:
    registry = f"sqlite:///{tmp_path}/d.db"
    done = RUN.invoke(
        app, ["demo", "--base-url", url, "--model", "m", "--questions", "2", "2", "--registry", registry]
    )
    assert done.exit_code == 1
    assert "check the URL, the key and the model" in _plain(done.stderr)


def test_square_brackets_in_a_message_are_shown(tmp_path: Path) -> None:
    done = RUN.invoke(
        app, ["demo", "--model", str(tmp_path / "a[/b]c[extra].gguf"), "--registry", f"sqlite:///{tmp_path}/d"]
    )
    assert done.exit_code == 1
    assert "a[/b]c[extra].gguf" in done.stderr.replace("\n", "")


def test_the_embedded_model_is_reached_past_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "elsewhere.example")
    registry = f"sqlite:///{tmp_path}/d.db"
    report = str(tmp_path / "demo.html")
    done = RUN.invoke(app, ["demo", "--questions", "3", "1", "--json", "--registry", registry, "--report", report])
    assert done.exit_code == 0, done.output
    assert os.environ["no_proxy"] == "elsewhere.example"


def test_the_demo_asks_for_models_with_its_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with StandIn() as provider:
        done = _demo(provider, registry=tmp_path)
    assert provider.keys == ["Bearer secret"]
    assert done.exit_code == 0, done.output


def test_more_questions_than_there_are_is_refused(tmp_path: Path) -> None:
    done = RUN.invoke(
        app,
        [
            "demo",
            "--registry",
            f"sqlite:///{tmp_path}/d.db",
            "--questions",
            "200",
            "100",
            "--base-url",
            "http://127.0.0.1:9/v1",
            "--model",
            "m",
        ],
    )
    assert done.exit_code == 1
    assert "there are 240 questions" in _plain(done.stderr)


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is a POSIX signal here")
def test_local_serve_says_where_it_answers_and_ends_with_ctrl_c() -> None:
    # A test run in the background ignores Ctrl-C, and what it starts would, too.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    start = f"{heard}; from tje_middleware.cli import app; app()"
    command = [sys.executable, "-c", start, "local", "serve", "--parallel", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = re.search(r"http://\S+/v1", process.stdout.readline())
        assert url is not None
        assert httpx.get(f"{url[0]}/models").json()["data"][0]["id"] == "smollm2-135m-instruct"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url[0]}/models")


def _demo(provider: StandIn, *options: str, registry: Path):
    where = ["--registry", f"sqlite:///{registry}/demo.db", "--report", f"{registry}/demo.html"]
    return RUN.invoke(app, ["demo", "--questions", "8", "4", "--base-url", provider.base_url, *where, *options])


def _plain(text: str) -> str:
    return " ".join(text.split())
