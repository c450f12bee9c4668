"""A stand-in for an OpenAI-compatible provider: real HTTP on 127.0.0.1, answers with known entropies.

What a question says decides the answer, so that a test states in one line what it needs::

    "... bits=0.5 tokens=8 ..."     every token has an entropy of 0.5 bits, and there are 8

Models: any name answers; ``refuses-logprobs`` answers requests for logprobs with status 400 as OpenAI's reasoning
models do, ``ignores-logprobs`` answers without them, ``broken`` answers every request with status 500.
"""

from __future__ import annotations

import json
import math
import re
import threading
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from scipy.optimize import brentq


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256  # connections that wait to be taken; the default of 5 resets the others


class StandIn:
    """A provider on a free port, as a context manager; remembers the requests it got."""

    def __init__(self) -> None:
        self.requests: list[dict] = []
        self.keys: list[str | None] = []  # that came with requests for the list of models
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> StandIn:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked_for_logprobs(self) -> list[int | None]:
        """Of every request so far, how many alternatives it asked for; None where it asked for no logprobs."""
        return [request.get("top_logprobs") if request.get("logprobs") else None for request in self.requests]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        requests, keys = self.requests, self.keys

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Without it the headers wait for an acknowledgement that comes 40 ms later.
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                keys.append(self.headers["Authorization"])
                self._send(200, {"object": "list", "data": [{"id": "standin", "object": "model"}]})

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                requests.append(request)
                if request["model"] == "broken":
                    self._send(500, {"error": {"message": "the server is broken", "type": "server_error"}})
                elif request["model"] == "refuses-logprobs" and request.get("logprobs"):
                    message = "logprobs are not supported with reasoning models."
                    self._send(400, {"error": {"message": message, "type": "invalid_request_error"}})
                elif request.get("stream"):
                    self._stream(request)
                else:
                    self._send(200, completion(request))

            def _send(self, status: int, body: dict) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def _stream(self, request: dict) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                for chunk in chunks(request):
                    self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                self.wfile.write(b"data: [DONE]\n\n")
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def completion(request: dict) -> dict:
    """A chat completion for a request."""
    positions = _positions(request)
    text = "".join(position["token"] for position in positions)
    return {
        "id": "chatcmpl-standin",
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text},
                "logprobs": {"content": positions, "refusal": None} if _gives_logprobs(request) else None,
            }
        ],
        "usage": _usage(len(positions)),
    }


def chunks(request: dict) -> list[dict]:
    """The same as a stream: a first chunk without content, one a token, a last one, and usage."""

    def chunk(delta: dict, logprobs: dict | None = None, finish: str | None = None) -> dict:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return {
            "id": "chatcmpl-standin",
            "object": "chat.completion.chunk",
            "created": 0,
            "model": request["model"],
            "choices": [choice],
        }

    positions = _positions(request)
    tokens = [
        chunk({"content": each["token"]}, {"content": [each], "refusal": None} if _gives_logprobs(request) else None)
        for each in positions
    ]
    usage = {**chunk({}), "choices": [], "usage": _usage(len(positions))}
    return [chunk({"role": "assistant", "content": ""}), *tokens, chunk({}, finish="stop"), usage]


def _gives_logprobs(request: dict) -> bool:
    return bool(request.get("logprobs")) and request["model"] != "ignores-logprobs"


def _usage(tokens: int) -> dict:
    return {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens}


def _positions(request: dict) -> list[dict]:
    question = _text(request["messages"][-1]["content"])
    if (request.get("response_format") or {}).get("type") in {"json_schema", "json_object"}:
        tokens = ['{"', "answer", '": ', '"', "yes", '"}']
    else:
        count = re.search(r"tokens=(\d+)", question)
        tokens = [f"w{number} " for number in range(int(count[1]) if count else 4)]
    bits = re.search(r"bits=([\d.]+)", question)
    row = distribution(float(bits[1]) if bits else 0.5)
    return [
        {
            "token": token,
            "logprob": row[0],
            "bytes": list(token.encode()),
            "top_logprobs": [
                {"token": token if rank == 0 else f"x{rank}", "logprob": logprob, "bytes": None}
                for rank, logprob in enumerate(row[: request.get("top_logprobs") or 0])
            ],
        }
        for token in tokens
    ]


def _text(content: object) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


@lru_cache(maxsize=1024)
def distribution(bits: float, alternatives: int = 20) -> tuple[float, ...]:
    """Natural logprobs of one likely and 19 equally unlikely alternatives, ``bits`` of entropy together."""
    others = alternatives - 1

    def excess(top: float) -> float:
        rest = 1 - top
        return -top * math.log2(top) - rest * math.log2(rest / others) - bits

    if not 0 < bits < math.log2(alternatives):
        raise ValueError(f"an entropy between 0 and {math.log2(alternatives):.3f} bits, not {bits}")
    top = brentq(excess, 1 / alternatives, 1 - 1e-12, xtol=1e-15)
    return (math.log(top), *[math.log((1 - top) / others)] * others)
