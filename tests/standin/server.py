"""The HTTP side of the stand-in: what arrives is remembered, what is sent can be paced and broken off."""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType

from . import chat, completions, responses
from .answers import Answer, answer_to

_ECHOING = "-echoing"
_MOST_STOP_WORDS = 4


@dataclass(frozen=True)
class StreamRecord:
    """What became of a stream; neither finished nor disconnected while it goes on."""

    model: str
    produced: int = 0  # tokens
    finished: bool = False
    disconnected: bool = False


class StandIn:
    """A provider on a free port, as a context manager; remembers the requests and the streams it had."""

    def __init__(self) -> None:
        self.requests: list[dict] = []
        self.keys: list[str | None] = []  # that came with requests for the list of models
        self._failures: Counter[str] = Counter()
        self._streams: list[StreamRecord] = []
        self._changed = threading.Condition()
        self._server = _Server(self)
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
        self._server.hang_up()

    def asked_for_logprobs(self) -> list[int | None]:
        """Of every request so far, how many alternatives it asked for; None where it asked for no logprobs."""
        asking = [request.get("logprobs") or responses.wants_logprobs(request) for request in self.requests]
        return [
            request.get("top_logprobs") if asks else None for request, asks in zip(self.requests, asking, strict=True)
        ]

    @property
    def streams(self) -> list[StreamRecord]:
        """Every stream so far as it stands now, in the order they began."""
        with self._changed:
            return list(self._streams)

    def wait_for_disconnect(self, timeout: float = 5.0, count: int = 1) -> bool:
        """Wait until so many clients have left their streams; False when that takes more than ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: sum(each.disconnected for each in self._streams) >= count, timeout)

    def begin_stream(self, model: str) -> int:
        """Remember a stream; its number."""
        with self._changed:
            self._streams.append(StreamRecord(model))
            return len(self._streams) - 1

    def note(self, stream: int, *, tokens: int = 0, **what: bool) -> None:
        """Note what became of a stream."""
        with self._changed:
            record = self._streams[stream]
            self._streams[stream] = replace(record, produced=record.produced + tokens, **what)
            self._changed.notify_all()

    def fails(self, model: str) -> bool:
        """Whether this request to the model fails: each request counts."""
        flaky = re.fullmatch(r"flaky-(\d+)", model)
        if not flaky:
            return model == "broken"
        with self._changed:
            self._failures[model] += 1
            return self._failures[model] <= int(flaky[1])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024  # connections that wait to be taken; the default of 5 resets the others

    def __init__(self, standin: StandIn) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.standin = standin
        self._open: set[socket.socket] = set()

    def process_request(self, request, client_address) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that clients keep: the port may be another stand-in's next."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that leaves is no error
            super().handle_error(request, client_address)


def _refusal(question: dict) -> str | None:
    """What a model says that does not take an option, or does not give the logprobs that it is asked for."""
    if isinstance(question.get("stop"), list) and len(question["stop"]) > _MOST_STOP_WORDS:
        return f"stop takes at most {_MOST_STOP_WORDS} words."
    if question["model"] == "reasons":
        if "max_tokens" in question:
            return "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
        if question.get("temperature", 1) != 1:
            return "Unsupported value: 'temperature' does not support 0. Only the default (1) is supported."
    if not question.get("logprobs"):
        return None
    if question["model"] == "at-most-5" and (question.get("top_logprobs") or 0) > 5:
        return "Invalid value for 'top_logprobs': must be less than or equal to 5."
    if question["model"].removesuffix(_ECHOING) == "refuses-logprobs":
        return "logprobs are not supported with reasoning models."
    if question["model"] == "like-llama-cpp" and question.get("stream") and question.get("tools"):
        return "logprobs is not supported with tools + stream"
    return None


def _form(path: str) -> ModuleType:
    """The form in which requests to a path come, and their answers go."""
    if path.endswith("/responses"):
        return responses
    return chat if path.endswith("/chat/completions") else completions


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without it the headers wait for an acknowledgement that comes 40 ms later.
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self.server.standin.keys.append(self.headers["Authorization"])
        self._send(200, {"object": "list", "data": [{"id": "standin", "object": "model"}]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.standin.requests.append(request)
        form = _form(self.path)
        question = request if form is chat else form.as_chat(request)
        if self.server.standin.fails(request["model"]):
            self._refuse(500, "the server is broken", "server_error")
            return
        refusal = _refusal(question)
        if refusal is not None:
            quoted = f" The request was: {json.dumps(request)}" if request["model"].endswith(_ECHOING) else ""
            self._refuse(400, refusal + quoted, "invalid_request_error")
            return
        try:
            answer = answer_to(question)
        except ValueError as mistake:
            self._refuse(400, f"the stand-in cannot answer so: {mistake}", "invalid_request_error")
            return
        if not request.get("stream"):
            self._send(200, responses.response(answer) if form is responses else form.completion(answer))
        elif form is chat:
            self._stream(answer, chat.frames(answer, request), ending=b"data: [DONE]\n\n")
        else:
            self._stream(answer, form.frames(answer), ending=b"" if form is responses else b"data: [DONE]\n\n")

    def _refuse(self, status: int, message: str, kind: str) -> None:
        self._send(status, {"error": {"message": message, "type": kind}})

    def _send(self, status: int, body: dict) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, answer: Answer, frames: list[tuple[dict, int]], ending: bytes) -> None:
        standin = self.server.standin
        stream = standin.begin_stream(answer.model)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        try:
            self.end_headers()
            for event, tokens in frames:
                if tokens and self._client_leaves(within=answer.pace * tokens):
                    standin.note(stream, disconnected=True)
                    self.close_connection = True
                    return
                # Noted before they are sent, so that who has read them finds them noted.
                standin.note(stream, tokens=tokens)
                self.wfile.write(_chunk(_server_sent(event)))
            standin.note(stream, finished=True)
            self.wfile.write((_chunk(ending) if ending else b"") + b"0\r\n\r\n")
        except ConnectionError:
            standin.note(stream, finished=False, disconnected=True)
            self.close_connection = True

    def _client_leaves(self, within: float) -> bool:
        """Whether the client hangs up in so many seconds, known as soon as it does."""
        self.connection.settimeout(within)
        try:
            return self.connection.recv(1, socket.MSG_PEEK) == b""
        except (TimeoutError, BlockingIOError):
            return False
        finally:
            self.connection.settimeout(None)

    def log_message(self, *_: object) -> None:
        pass


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _server_sent(event: dict) -> bytes:
    kind = f"event: {event['type']}\n" if "type" in event else ""
    return f"{kind}data: {json.dumps(event)}\n\n".encode()
