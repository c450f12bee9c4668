"""What ``tje doctor`` does not wait for and does not read: answers that never end, however they are sent."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tje_middleware.cli.doctor.endpoint import MOST_BYTES, within
from tje_middleware.cli.doctor.model import LiveModel, examine

BRIEF = 0.5  # s
PAUSE = 0.02  # s, far below the timeout: no single read takes too long
MIB = b" " * 2**20
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'

Send = Callable[["Sending", dict], None]


class Sending(BaseHTTPRequestHandler):
    """Sends what a test has it send, until the client hangs up or the test is over."""

    server: Server

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked += 1
        try:
            self.server.send(self, request)
        except OSError:  # the client hung up
            self.server.hung_up.set()

    def head(self, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def dribble(self, piece: bytes) -> None:
        while not self.server.over.wait(PAUSE):
            self.wfile.write(piece)

    def pour(self, piece: bytes) -> None:
        while not self.server.over.is_set():
            self.wfile.write(piece)
            self.server.poured += len(piece)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Counts what it was asked and what it could pour."""

    daemon_threads = True

    def __init__(self, send: Send) -> None:
        super().__init__(("127.0.0.1", 0), Sending)
        self.send = send
        self.asked = self.poured = 0
        self.over = threading.Event()
        self.hung_up = threading.Event()
        self.base_url = f"http://127.0.0.1:{self.server_port}/v1"


@contextmanager
def serving(send: Send) -> Iterator[Server]:
    server = Server(send)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def examined(server: Server, timeout: float = BRIEF) -> LiveModel:
    """What is found out; none where that goes on for ever, so that the test ends."""
    return within(20.0, lambda: examine(server.base_url, "m", api_key="none", timeout=timeout))


def words(found: LiveModel) -> dict[str, str]:
    return {finding.name: finding.found for finding in found.findings}


def completion() -> bytes:
    top = {"token": "a", "logprob": -0.1}
    tops = [{**top, "top_logprobs": [top, {"token": "b", "logprob": -3.0}]}]
    choice = {"index": 0, "message": {"role": "assistant", "content": "a"}, "logprobs": {"content": tops}}
    return json.dumps({"model": "m", "choices": [choice]}).encode()


class TestTime:
    """Each piece comes in time, and the whole never does."""

    @pytest.mark.parametrize(
        ("kind", "piece"), [("application/json", b" "), ("text/event-stream", EVENT)], ids=["bytes", "events"]
    )
    def test_an_answer_that_dribbles(self, kind, piece):
        def send(sending: Sending, _: dict) -> None:
            sending.head(kind=kind)
            sending.dribble(piece)

        with serving(send) as server:
            found = examined(server)
            assert server.hung_up.wait(10.0)
        assert words(found) == {"answer": "there was no whole answer within 0.5 s"}

    def test_headers_that_dribble(self):
        def send(sending: Sending, _: dict) -> None:
            sending.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
            sending.dribble(b"x")

        with serving(send) as server:
            found = examined(server)
        assert words(found) == {"answer": "there was no whole answer within 0.5 s"}

    def test_a_refusal_that_dribbles(self):
        def send(sending: Sending, _: dict) -> None:
            sending.head(status=400)
            sending.dribble(b" ")

        with serving(send) as server:
            found = examined(server)
        assert (words(found), server.asked) == ({"answer": "there was no whole answer within 0.5 s"}, 1)

    def test_streams_and_completions_that_dribble_beside_answers_that_do_not(self):
        def send(sending: Sending, request: dict) -> None:
            if request.get("stream"):
                sending.head(kind="text/event-stream")
                sending.dribble(EVENT)
            elif "prompt" in request:
                sending.head()
                sending.dribble(b" ")
            else:
                sending.head()
                sending.wfile.write(completion())

        with serving(send) as server:
            found = examined(server)
        late = {check for check, said in words(found).items() if "no whole answer within" in said}
        assert late == {"streamed", "tool calls streamed", "completions"}
        assert found.can_be_gated

    def test_a_stream_that_says_it_is_over_is_not_waited_for(self):
        def send(sending: Sending, request: dict) -> None:
            if request.get("stream"):
                sending.head(kind="text/event-stream")
                sending.wfile.write(EVENT + b"data: [DONE]\n\n")
                sending.server.over.wait()
            else:
                sending.head()
                sending.wfile.write(completion())

        with serving(send) as server:
            found = examined(server)
        assert words(found)["streamed"] == "the answer came without logprobs"


class TestSize:
    @pytest.mark.parametrize("status", [200, 400, 500])
    def test_an_answer_or_a_refusal_that_is_too_long(self, status):
        def send(sending: Sending, _: dict) -> None:
            sending.head(status=status)
            sending.pour(MIB)

        with serving(send) as server:
            found = examined(server, timeout=60.0)
            assert server.hung_up.wait(10.0)
        assert words(found) == {"answer": "the answer was not read to its end: it is more than 16 MiB"}
        assert server.poured < 2 * MOST_BYTES  # the rest is what lies in buffers

    def test_one_that_unpacks_to_too_much(self):
        packed = gzip.compress(MIB * 64)
        assert len(packed) < 2**17

        def send(sending: Sending, _: dict) -> None:
            sending.head(Content_Encoding="gzip", Content_Length=str(len(packed)))
            sending.wfile.write(packed)

        with serving(send) as server:
            found = examined(server, timeout=60.0)
        assert "more than 16 MiB" in words(found)["answer"]

    def test_a_stream_that_is_too_long(self):
        def send(sending: Sending, request: dict) -> None:
            sending.head(kind="text/event-stream" if request.get("stream") else "application/json")
            if request.get("stream"):
                sending.pour(b": " + MIB)  # one comment, without an end
            else:
                sending.wfile.write(completion())

        with serving(send) as server:
            found = examined(server, timeout=60.0)
        assert "more than 16 MiB" in words(found)["streamed"]

    def test_an_answer_that_comes_packed_is_read(self):
        packed = gzip.compress(completion())

        def send(sending: Sending, _: dict) -> None:
            sending.head(Content_Encoding="gzip", Content_Length=str(len(packed)))
            sending.wfile.write(packed)

        with serving(send) as server:
            found = examined(server, timeout=60.0)
        assert "logprobs" in words(found)
        assert found.top_k == 2
