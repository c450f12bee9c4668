"""``tje doctor``: what it says of models that give logprobs, refuse them, or give them in part."""

from __future__ import annotations

import base64
import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import typer
from typer.testing import CliRunner

from tests.standin import StandIn
from tje_middleware.cli.doctor.command import doctor
from tje_middleware.cli.doctor.model import MOST_REQUESTS
from tje_middleware.local import LocalServer

RUN = CliRunner()
APP = typer.Typer()
APP.command()(doctor)
KEY = "sk-this-is-secret"


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(scope="module")
def provider() -> Iterator[StandIn]:
    with StandIn() as standin:
        yield standin


def run(base_url: str, model: str, *options: str):
    return RUN.invoke(APP, ["--base-url", base_url, "--model", model, *options])


def plain(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


def found(provider: StandIn, model: str, *options: str) -> dict:
    """What is found out of a model, with its findings by their check."""
    done = run(provider.base_url, model, "--json", *options)
    result = json.loads(done.stdout)
    assert done.exit_code == (0 if result["can_be_gated"] else 1), done.output
    return {**result, "findings": {each["name"]: each for each in result["findings"]}}


def outcomes(result: dict) -> dict[str, str]:
    return {check: finding["status"] for check, finding in result["findings"].items()}


class TestModels:
    def test_one_that_gives_all_can_be_gated(self, provider):
        result = found(provider, "good-toollogprobs")
        assert (result["verdict"], result["top_k"]) == ("yes", 20)
        assert set(outcomes(result).values()) == {"ok"}
        assert {"logprobs", "alternatives", "streamed", "tool calls", "structured output"} <= set(outcomes(result))

    def test_one_that_gives_five_can_be_gated_with_five(self, provider):
        result = found(provider, "top5")
        assert (result["verdict"], result["top_k"]) == ("with top_k=5", 5)
        assert "calibrate with top_k=5" in result["findings"]["alternatives"]["remedy"]

    def test_five_are_enough_where_five_are_asked_for(self, provider):
        result = found(provider, "top5", "--top-k", "5")
        assert (result["verdict"], outcomes(result)["alternatives"]) == ("yes", "ok")

    def test_one_that_refuses_more_than_five_is_asked_for_five(self, provider):
        result = found(provider, "at-most-5")
        assert (result["verdict"], outcomes(result)["logprobs"]) == ("with top_k=5", "ok")

    def test_one_alternative_is_no_distribution_and_has_a_signal_of_its_own(self, provider):
        result = found(provider, "top1")
        assert (result["verdict"], result["top_k"]) == ('with top_k=1 and signal="mean_nll"', 1)

    def test_none_cannot_be_gated(self, provider):
        result = found(provider, "top0")
        assert (result["verdict"], result["top_k"]) == ("no", None)

    def test_one_that_refuses_says_so_in_its_words(self, provider):
        result = found(provider, "refuses-logprobs")
        assert result["verdict"] == "no"
        assert "logprobs are not supported with reasoning models" in result["findings"]["logprobs"]["found"]
        assert "tool calls" not in result["findings"]  # nothing more is asked of it

    def test_a_refusal_that_quotes_the_request_is_not_quoted(self, provider):
        result = found(provider, "refuses-logprobs-echoing")
        assert "logprobs are not supported" in result["findings"]["logprobs"]["found"]
        assert "17" not in json.dumps(result["findings"])
        assert result["requests"] == 3  # for 20, for 5, for none: what is only quoted is not left out

    def test_one_that_ignores_the_request_is_told_from_one_that_refuses(self, provider):
        result = found(provider, "ignores-logprobs")
        assert result["verdict"] == "no"
        words = result["findings"]["logprobs"]["found"]
        assert words == "the model was asked for logprobs, but the answer came without logprobs"

    def test_one_without_logprobs_in_streams_can_be_gated_whole(self, provider):
        result = found(provider, "whole-only")
        assert result["verdict"] == "yes"
        assert outcomes(result)["streamed"] == "missing"
        assert 'mode="hold"' in result["findings"]["streamed"]["remedy"]

    def test_one_with_logprobs_in_streams_alone_can_be_gated_so(self, provider):
        result = found(provider, "streams-only")
        assert (result["verdict"], outcomes(result)["logprobs"]) == ("yes, streamed", "missing")

    def test_calls_of_tools_without_logprobs_are_missing(self, provider):
        result = found(provider, "quiet-calls")
        assert outcomes(result)["tool calls"] == outcomes(result)["tool calls streamed"] == "missing"
        assert 'tool_calls="pass"' in result["findings"]["tool calls"]["remedy"]
        assert result["verdict"] == "yes"

    def test_streams_that_are_refused_with_tools_are_told_from_calls_without_logprobs(self, provider):
        result = found(provider, "like-llama-cpp")
        assert "not supported with tools + stream" in result["findings"]["tool calls streamed"]["found"]

    def test_one_that_reasons_is_asked_as_it_lets_itself_be(self, provider):
        result = found(provider, "reasons")
        assert result["verdict"] == "yes"
        assert outcomes(result)["temperature"] == outcomes(result)["thinking"] == "warn"
        assert "7 tokens are counted" in result["findings"]["thinking"]["found"]

    def test_a_snapshot_is_the_same_model(self, provider):
        finding = found(provider, "dated")["findings"]["model name"]
        assert (finding["status"], "'dated-2026-01-01'" in finding["found"]) == ("ok", True)

    @pytest.mark.parametrize(
        "model", ["good", "reasons", "at-most-5", "refuses-logprobs-echoing", "like-llama-cpp", "streams-only"]
    )
    def test_requests_are_bounded_and_counted(self, model, provider):
        before = len(provider.requests)
        result = found(provider, model)
        assert len(provider.requests) - before == result["requests"] <= MOST_REQUESTS

    def test_the_bound_is_the_one_that_help_states(self):
        assert f"at most {MOST_REQUESTS} short requests" in plain(RUN.invoke(APP, ["--help"]).stdout)

    def test_the_embedded_model_can_be_gated(self):
        pytest.importorskip("xllamacpp")
        with LocalServer(parallel=1) as server:
            done = run(server.base_url, server.model)
        assert done.exit_code == 0, done.output
        assert "can be gated: yes" in done.stdout


class TestShown:
    def test_a_table_and_the_verdict_last(self, provider):
        done = run(provider.base_url, "top5")
        assert done.stdout.rstrip().splitlines()[-1] == "can be gated: with top_k=5"
        assert "5 of 20 alternatives" in done.stdout
        assert done.output.rstrip().splitlines()[-1] == "can be gated: with top_k=5"  # of both streams together
        assert "requests to http://127.0.0.1" in plain(done.stderr)

    def test_one_request_is_counted_as_one(self):
        with served(always(500, "{}")) as server:
            done = run(server.base_url, "m")
        assert plain(done.stderr) == f"1 request to {server.base_url}"

    def test_what_to_do_stands_under_what_was_seen(self, provider):
        done = run(provider.base_url, "refuses-logprobs")
        assert done.exit_code == 1
        assert "→ serve or choose a model with logprobs" in plain(done.stdout)
        assert done.stdout.rstrip().endswith("can be gated: no")

    def test_a_variable_that_is_named_and_not_set_is_told(self, provider, monkeypatch):
        monkeypatch.delenv("MY_KEY", raising=False)
        done = run(provider.base_url, "good", "--api-key-env", "MY_KEY")
        assert done.exit_code == 0
        assert "MY_KEY is not set" in done.stderr
        assert "is not set" not in run(provider.base_url, "good").stderr

    def test_the_key_is_sent_and_not_shown(self, provider, monkeypatch):
        monkeypatch.setenv("MY_KEY", KEY)
        for options in ([], ["--json"]):
            done = run(provider.base_url, "good", "--api-key-env", "MY_KEY", *options)
            assert KEY not in done.output


class _Served:
    """A server whose answers a test makes of the requests, and the keys that came with them."""

    def __init__(self, answer: Callable[[dict], tuple[int, str]], kind: str) -> None:
        keys: list[str | None] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                keys.append(self.headers["Authorization"])
                status, body = answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                data = body.replace("THE KEY", str(self.headers["Authorization"])).encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.keys = keys
        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self.server.server_port}/v1"


@contextmanager
def served(answer: Callable[[dict], tuple[int, str]], kind: str = "application/json") -> Iterator[_Served]:
    answering = _Served(answer, kind)
    thread = threading.Thread(target=answering.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield answering
    finally:
        answering.server.shutdown()
        answering.server.server_close()
        thread.join()


def always(status: int, body: str) -> Callable[[dict], tuple[int, str]]:
    return lambda _: (status, body)


def completion(*alternatives: float) -> str:
    """An answer of one token with these probabilities; without any, one without logprobs."""
    tops = [{"token": f"t{rank}", "logprob": math.log(each or 1e-300)} for rank, each in enumerate(alternatives)]
    position = {"token": "t0", "logprob": tops[0]["logprob"], "top_logprobs": tops} if tops else None
    message = {"role": "assistant", "content": "t0"}
    choice = {"index": 0, "message": message, "logprobs": {"content": [position]} if position else None}
    return json.dumps({"model": "m", "choices": [{**choice, "finish_reason": "stop"}]})


class TestNumbers:
    """The verdict on numbers that come and mean nothing."""

    def test_what_is_no_distribution_cannot_be_gated(self):
        with served(always(200, completion(0.9, 0.8))) as server:
            done = run(server.base_url, "m", "--top-k", "2")
        assert (done.exit_code, "add up to 1.700" in plain(done.stdout)) == (1, True)
        assert done.stdout.rstrip().endswith("can be gated: no")

    def test_logprobs_from_after_sampling_cannot_be_gated(self):
        with served(always(200, completion(1.0, 0.0))) as server:
            done = run(server.base_url, "m", "--top-k", "2")
        assert done.stdout.rstrip().endswith("can be gated: no")

    def test_unless_a_temperature_above_0_helps(self):
        def answer(request: dict) -> tuple[int, str]:
            return 200, completion(0.7, 0.3) if request.get("temperature") else completion(1.0, 0.0)

        with served(answer) as server:
            done = run(server.base_url, "m", "--top-k", "2")
        assert done.exit_code == 0
        assert done.stdout.rstrip().endswith("can be gated: with a temperature above 0")


class TestTrouble:
    @pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "http://[oops"])
    def test_an_endpoint_that_cannot_be_reached(self, url):
        done = run(url, "m")
        assert done.exit_code == 1
        assert "could not be reached" in plain(done.stdout) or "no answer" in done.stdout
        assert "check --base-url" in plain(done.stdout)
        assert done.stdout.rstrip().endswith("can be gated: no")

    @pytest.mark.parametrize("url", ["me:hidden-word@127.0.0.1:9/v1", "nonsense", "ftp://127.0.0.1/v1"])
    def test_a_url_without_http_is_told_so_before_anything_is_asked(self, url):
        done = run(url, "m")
        assert (done.exit_code, done.stdout) == (2, "")
        assert "--base-url begins with http:// or https://" in plain(done.stderr)
        assert "hidden-word" not in done.output

    @pytest.mark.parametrize(
        ("status", "words"),
        [
            (401, "the key was refused (HTTP 401)"),
            (404, "there is no such model or path (HTTP 404)"),
            (429, "too many requests, or no credit left (HTTP 429)"),
            (500, "the server failed (HTTP 500)"),
            (400, "the request was refused (HTTP 400)"),
        ],
    )
    def test_a_status_in_words_and_after_one_request(self, status, words):
        with served(always(status, '{"error": {"message": "THE KEY"}}')) as server:
            done = run(server.base_url, "m", "--json")
        (finding,) = json.loads(done.stdout)["findings"]
        assert (finding["found"], done.exit_code, len(server.keys)) == (words, 1, 1)

    def test_a_redirection_is_told_and_does_not_take_the_key_along(self):
        with served(always(307, "")) as server:
            done = run(server.base_url, "m", "--json")
        (finding,) = json.loads(done.stdout)["findings"]
        assert finding["found"] == "requests are sent on to another address (HTTP 307)"
        assert len(server.keys) == 1

    def test_an_error_within_a_stream(self):
        def answer(request: dict) -> tuple[int, str]:
            broken = 'data: {"error": {"message": "out of memory", "code": 503}}\n\n'
            return 200, broken if request.get("stream") else completion(0.7, 0.3)

        with served(answer) as server:
            done = run(server.base_url, "m", "--top-k", "2", "--json")
        found = {each["name"]: each["found"] for each in json.loads(done.stdout)["findings"]}
        assert found["streamed"] == "the server failed (HTTP 503)"

    @pytest.mark.parametrize("kind", ["text/html", "application/json"])
    def test_what_is_no_answer_of_this_api(self, kind):
        with served(always(200, "<html>welcome</html>"), kind) as server:
            done = run(server.base_url, "m", "--json")
        (finding,) = json.loads(done.stdout)["findings"]
        assert "no answer of this API" in finding["found"]

    def test_a_server_that_quotes_the_key_in_its_refusal(self, monkeypatch):
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        refusal = json.dumps({"error": {"message": "logprobs are not allowed for THE KEY"}})
        with served(lambda request: (400, refusal) if "logprobs" in request else (200, completion())) as server:
            done = run(server.base_url, "m")
        assert server.keys == [f"Bearer {KEY}"] * 3
        assert "logprobs are not allowed for Bearer ***" in plain(done.stdout)
        assert KEY not in done.output

    def test_an_answer_that_takes_too_long(self):
        def answer(request: dict) -> tuple[int, str]:
            time.sleep(1.0)
            return 200, "{}"

        with served(answer) as server:
            done = run(server.base_url, "m", "--timeout", "0.2")
        assert done.exit_code == 1
        assert "no whole answer within 0.2 s" in plain(done.stdout)

    def test_an_answer_that_nests_without_end(self):
        with served(always(200, '{"choices":' + "[" * 200_000)) as server:
            done = run(server.base_url, "m", "--json")
        (finding,) = json.loads(done.stdout)["findings"]
        assert "no answer of this API" in finding["found"]

    def test_the_client_of_no_provider_is_needed(self, provider, monkeypatch):
        for client in ("openai", "httpx", "httpx2"):
            monkeypatch.setitem(sys.modules, client, None)
        assert run(provider.base_url, "good").exit_code == 0

    def test_a_user_in_the_url_is_told_to_the_server(self):
        with served(always(500, "{}")) as server:
            run(server.base_url.replace("127", "me:hidden%20word@127"), "m")
        assert server.keys == ["Basic " + base64.b64encode(b"me:hidden word").decode()]

    def test_a_password_in_the_url_is_not_shown(self):
        done = run("http://me:hidden-word@127.0.0.1:9/v1", "m", "--json")
        assert "hidden-word" not in done.output
        assert json.loads(done.stdout)["endpoint"] == "http://127.0.0.1:9/v1"
