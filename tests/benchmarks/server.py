"""A server that has its answers ready as bytes: what a call takes beside it is the client's time.

Run as a module it says its base URL in one line and serves until its standard input ends.
"""

from __future__ import annotations

import json
import random
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.benchmarks.drafts import payloads
from tests.benchmarks.timing import NotMeasuredError
from tje_middleware.local.child import Child

_STARTUP_SECONDS = 60


def response(draft: dict[str, Any], *, logprobs: bool) -> bytes:
    """The body of an answer, with or without its logprobs."""
    usage = {"prompt_tokens": 10, "completion_tokens": 1_000, "total_tokens": 1_010}
    body = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", **deepcopy(draft), "usage": usage}
    body["choices"][0]["finish_reason"] = "stop"
    if not logprobs:
        del body["choices"][0]["logprobs"]
    return json.dumps(body).encode()


@contextmanager
def server_in_a_thread() -> Iterator[str]:
    """The base URL of a server in this process, which takes turns with the client."""
    bodies = {asked: [response(draft, logprobs=asked) for draft in payloads()] for asked in (False, True)}
    # Drawn, not in turn: of calls that alternate with others every gate is to see all of the drafts.
    rng = random.Random(0)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = rng.choice(bodies[bool(request.get("logprobs"))])
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


@contextmanager
def server_in_a_process() -> Iterator[str]:
    """The base URL of a server in a process of its own, as a provider is.

    Raises:
        NotMeasuredError: it does not start.
    """
    child = Child([sys.executable, "-m", "tests.benchmarks.server"])
    try:
        url = child.first_line(_STARTUP_SECONDS).strip()
        if not url:
            raise NotMeasuredError("the server did not start: " + "\n".join(child.log()))
        yield url
    finally:
        child.stop()


if __name__ == "__main__":
    with server_in_a_thread() as base_url:
        print(base_url, flush=True)
        sys.stdin.read()
