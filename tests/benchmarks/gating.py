"""What the gate adds to a LangChain call: against a local server that answers at once, logprobs on in both."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from langchain.agents import create_agent
from langchain_core.runnables import Runnable
from langchain_openai import ChatOpenAI
from langchain_tje import EntropyGatedChatModel, EntropyGateMiddleware, think_just_enough

from tests.benchmarks.entropy import payload
from tests.benchmarks.timing import Row, compared
from tje_middleware import CalibrationRecord, EntropyGate, ProfileKey, calibrate


@contextmanager
def instant_server() -> Iterator[str]:
    """The base URL of a server that has its one answer, 1,000 tokens x 20 alternatives, ready as bytes."""
    usage = {"prompt_tokens": 10, "completion_tokens": 1_000, "total_tokens": 1_010}
    response = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", **payload(), "usage": usage}
    response["choices"][0]["finish_reason"] = "stop"
    body = json.dumps(response).encode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def accepting_gate() -> EntropyGate:
    """A gate whose threshold is above the answer's entropy: it accepts the draft, so that both sides are one call."""
    records = [
        CalibrationRecord(correct=i % 2 == 0, signals={"mean_entropy": 3 + i % 2 + i / 100}) for i in range(40)
    ]
    return EntropyGate(calibrate(records, key=ProfileKey(model="m", task="t")))


def rows() -> Iterator[Row]:
    gate = accepting_gate()
    with instant_server() as url:
        chat = ChatOpenAI(base_url=url, model="m", api_key="none", temperature=0, max_retries=0)
        ungated = chat.bind(logprobs=True, top_logprobs=20)
        for what, gated in (
            ("a gated LangChain call", think_just_enough(chat, deeper=ungated, gate=gate)),
            ("a gated chat model", EntropyGatedChatModel(draft=chat, deeper=chat, gate=gate)),
        ):
            assert gated.invoke("hello").response_metadata["tje"]["route"] == "final"
            yield _runnables(what, gated, ungated, "hello", against="the same call without the gate")
        yield _runnables(
            "an agent's gated turn",
            create_agent(chat, middleware=[EntropyGateMiddleware(gate=gate, deeper=chat)]),
            create_agent(ungated),
            {"messages": [("user", "hello")]},
            against="the same agent without the gate, logprobs on",
        )


def compared_calls(what: str, gated: Callable[[], object], ungated: Callable[[], object], *, against: str) -> Row:
    """A gated call against the same one without the gate, side by side: at most a tenth more."""
    return compared(what, gated, against=against, reference=ungated, at_most=1.1, rounds=40, repeat=2)


def _runnables(what: str, gated: Runnable, ungated: Runnable, question: object, *, against: str) -> Row:
    return compared_calls(what, lambda: gated.invoke(question), lambda: ungated.invoke(question), against=against)
