"""A server in front of a model that remembers what the model answered, for recipes that ask the same."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

_PATIENCE_SECONDS = 300
_TOP = 20


@dataclass(frozen=True)
class Reply:
    """What is sent back: the status, the kind of content, and the content."""

    status: int
    kind: str
    content: bytes

    def without_logprobs(self) -> Reply:
        """The same answer as for somebody who did not ask for them."""
        answer = json.loads(self.content)
        for choice in answer["choices"]:
            del choice["logprobs"]
        return replace(self, content=json.dumps(answer).encode())


class Answers:
    """The answers of a server: what is asked again at temperature 0 is answered as before, without the model.

    An answer with logprobs also serves who asks the same without them, such as the chain without its gate.

    Args:
        address: The server's URL, without ``/v1``.
    """

    def __init__(self, address: str) -> None:
        self._client = httpx.Client(base_url=address, timeout=_PATIENCE_SECONDS, trust_env=False)
        self._known: dict[str, Reply] = {}
        self._turns: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, path: str) -> Reply:
        """What the server says, unremembered."""
        return _reply(self._client.get(path))

    def post(self, path: str, body: bytes) -> Reply:
        """The answer to a request."""
        request = json.loads(body)
        if request.get("temperature") != 0:
            return self._asked(path, request)
        measured = self._known.get(_key(path, {**request, "logprobs": True, "top_logprobs": _TOP}))
        if measured and not (request.get("logprobs") or request.get("stream")):
            return measured.without_logprobs()
        key = _key(path, request)
        with self._lock:
            turn = self._turns.setdefault(key, threading.Lock())
        with turn:  # of several who ask the same at the same time, one asks the model
            known = self._known.get(key) or self._asked(path, request)
            if known.status == HTTPStatus.OK:
                self._known[key] = known
            return known

    def _asked(self, path: str, request: dict[str, Any]) -> Reply:
        return _reply(self._client.post(path, json=request))


def _key(path: str, request: dict[str, Any]) -> str:
    return path + json.dumps(request, sort_keys=True)


def _reply(response: httpx.Response) -> Reply:
    return Reply(response.status_code, response.headers["Content-Type"], response.content)


@contextmanager
def remembered(address: str) -> Iterator[str]:
    """The URL, without ``/v1``, of a server that answers as the one at ``address`` does, and remembers."""
    answers = Answers(address)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._send(answers.get(self.path))

        def do_POST(self) -> None:
            self._send(answers.post(self.path, self.rfile.read(int(self.headers["Content-Length"]))))

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.kind)
            self.send_header("Content-Length", str(len(reply.content)))
            self.end_headers()
            self.wfile.write(reply.content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        answers.close()
