"""A model behind an OpenAI-compatible endpoint, and what one of its answers holds."""

from __future__ import annotations

import base64
import gzip
import json
import re
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import Any, TypeVar
from urllib.error import URLError
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, ProxyHandler, Request

from ..._version import __version__
from ...errors import UnknownShape
from ...logprobs.evidence import Evidence, StreamedEvidence, read
from ...logprobs.fields import field, is_sequence, text_of

_REASONING = ("reasoning_content", "reasoning")
_MIB = 2**20
#: More than this is not read of one answer (bytes, unpacked); one with all that is asked for takes some 100 kB.
MOST_BYTES = 16 * _MIB
_PIECE = 2**16  # bytes that are read at once
# How a stream says that it is over, at the end of what has been read; a server may keep the connection open after it.
_STREAM_ENDS = re.compile(rb"data: ?\[DONE\]\s*$")
_STREAM_END_BYTES = 32

T = TypeVar("T")


class StatusError(Exception):
    """The server answered with an error, of which ``status_code`` is the HTTP status."""

    def __init__(self, status_code: int, said: str) -> None:
        super().__init__(f"HTTP {status_code}: {said}")
        self.status_code = status_code


class TooLongError(Exception):
    """An answer is longer than ``MOST_BYTES``."""


@dataclass(frozen=True)
class Answer:
    """One answer, as far as it is looked at; what is not known is None.

    Attributes:
        evidence: Its logprobs, or why there are none.
        text: What it says.
        reasoning: What it thought, where that is returned apart.
        arguments: Of the tool that it calls; None where it calls none.
        model: The name under which it came.
        reasoning_tokens: How many tokens of thinking the provider counts (tokens).
        has_usage: Whether it says what it cost.
    """

    evidence: Evidence
    text: str
    reasoning: str | None
    arguments: str | None
    model: str | None
    reasoning_tokens: int | None
    has_usage: bool

    @classmethod
    def of(cls, payload: object) -> Answer:
        """The answer that a whole payload is, of chat completions or of completions.

        Raises:
            UnknownShape: it is neither, such as a web page.
        """
        evidence = read(payload)
        if isinstance(evidence, UnknownShape):
            raise evidence
        choice = _first_choice(payload)
        return cls._of(evidence, field(choice, "message") or {"content": field(choice, "text")}, payload)

    @classmethod
    def of_stream(cls, chunks: Iterable[object]) -> Answer:
        """The answer that a stream's chunks are together."""
        streamed, texts, thoughts, calls = StreamedEvidence(), list[str](), list[str](), list[object]()
        told: dict[str, object] = {}
        for chunk in chunks:
            streamed.add(chunk)
            told = {name: field(chunk, name) or told.get(name) for name in ("model", "usage")}
            delta = field(_first_choice(chunk), "delta")
            texts.append(text_of(field(delta, "content")) or "")
            thoughts.append(text_of(field(delta, *_REASONING)) or "")
            more = field(delta, "tool_calls")
            calls.extend(more if is_sequence(more) else ())
        message = {"content": "".join(texts), "tool_calls": calls or None}
        evidence = streamed.of({"choices": [{"message": message}]})
        return cls._of(evidence, {**message, "reasoning": "".join(thoughts) or None}, told)

    @classmethod
    def _of(cls, evidence: Evidence, message: object, payload: object) -> Answer:
        calls, usage = field(message, "tool_calls"), field(payload, "usage")
        thought = field(field(usage, "completion_tokens_details"), "reasoning_tokens")
        return cls(
            evidence=evidence,
            text=text_of(field(message, "content")) or "",
            reasoning=text_of(field(message, *_REASONING)),
            arguments="".join(map(_arguments, calls)) if calls and is_sequence(calls) else None,
            model=text_of(field(payload, "model")),
            reasoning_tokens=thought if isinstance(thought, int) else None,
            has_usage=field(usage, "completion_tokens") is not None,
        )


class Endpoint:
    """Asks one model, and counts how often; an answer may take ``timeout`` seconds. The key is shown nowhere.

    It speaks HTTP by the standard library: what is read of an answer has to be bounded, which the clients of
    providers do not offer, and what a client is built on changes with its releases.
    """

    def __init__(self, base_url: str, model: str, api_key: str, timeout: float) -> None:
        self.model = model
        self.timeout = timeout
        self.requests = 0
        self._base_url = base_url
        self._api_key = api_key

    def chat(self, question: str, options: Mapping[str, Any]) -> Answer:
        """An answer of chat completions, maybe as a stream; ``trouble`` says in words what this raises."""
        return self._answer("chat/completions", {"messages": [{"role": "user", "content": question}], **options})

    def complete(self, prompt: str, options: Mapping[str, Any]) -> Answer:
        """An answer of completions."""
        return self._answer("completions", {"prompt": prompt, **options})

    def _answer(self, path: str, asked: Mapping[str, Any]) -> Answer:
        self.requests += 1
        url = urlsplit(self._base_url)
        user, _, host = url.netloc.rpartition("@")
        secret = f"Basic {base64.b64encode(unquote(user).encode()).decode()}" if user else f"Bearer {self._api_key}"
        request = Request(
            urlunsplit((url.scheme, host, f"{url.path.rstrip('/')}/{path}", url.query, "")),
            data=json.dumps({"model": self.model, **asked}).encode(),
            headers={
                "Authorization": secret,
                "Content-Type": "application/json",
                "User-Agent": f"tje-middleware/{__version__}",  # some providers turn Python's own away
            },
        )
        body = within(self.timeout, lambda: _body(request, self.timeout))
        return Answer.of_stream(_chunks(body)) if asked.get("stream") else Answer.of(json.loads(body))


def trouble(error: Exception, timeout: float) -> tuple[str, str]:
    """What went wrong and what to do about it, without the error's text: it may quote keys and requests."""
    if isinstance(error, StatusError):
        return _trouble_of(error.status_code)
    if isinstance(error, URLError) and isinstance(error.reason, Exception):
        error = error.reason
    name = type(error).__name__
    if isinstance(error, TooLongError):
        words = f"the answer was not read to its end: it is more than {MOST_BYTES // _MIB} MiB"
        return words, "check --base-url (most end in /v1)"
    if "Timeout" in name:
        return f"there was no whole answer within {timeout:g} s", "is the model loaded? --timeout gives it longer"
    if isinstance(error, ssl.SSLCertVerificationError):
        return "the server's certificate is not trusted", "name the file of the authorities to trust in SSL_CERT_FILE"
    if isinstance(error, (ValueError, RecursionError)):  # UnknownShape, and what JSON and encodings raise
        return f"what came back is no answer of this API ({name})", "check --base-url (most end in /v1)"
    return f"the endpoint could not be reached ({name})", "check --base-url, and that the server runs"


def shown(base_url: str) -> str:
    """The URL without user, password and query."""
    try:
        parts = urlsplit(base_url)
    except ValueError:
        return "(no URL)"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if host else "(no URL)"


def within(timeout: float, ask: Callable[[], T]) -> T:
    """What ``ask`` returns or raises, if it does so within these seconds.

    It runs in a thread of its own, as looking up a name and reading headers know no deadline; where the time is over,
    the thread is left to itself, and holds up no exit.

    Raises:
        TimeoutError: the time is over.
    """
    asked = Future[T]()

    def settle() -> None:
        try:
            asked.set_result(ask())
        except BaseException as error:  # it is raised where the answer is waited for
            asked.set_exception(error)

    Thread(target=settle, name="tje-doctor", daemon=True).start()
    return asked.result(timeout)


def _body(request: Request, timeout: float) -> bytes:
    """What the server answers; it is read no longer than the timeout, which ends a thread that was left to itself.

    Raises:
        StatusError: the answer is an error, or sends the request elsewhere.
        TooLongError, TimeoutError, OSError: it is longer than ``MOST_BYTES``, not whole in time, or not to be had.
    """
    end = time.monotonic() + timeout
    # No handler follows redirections, which would take the key along.
    opener = OpenerDirector()
    for handler in (ProxyHandler(), HTTPHandler(), HTTPSHandler()):
        opener.add_handler(handler)
    with opener.open(request, timeout=timeout) as response:
        is_packed = response.headers["Content-Encoding"] == "gzip"
        pieces = gzip.GzipFile(fileobj=response) if is_packed else response
        body = bytearray()
        while piece := pieces.read1(_PIECE):
            body += piece
            if len(body) > MOST_BYTES:
                raise TooLongError
            if time.monotonic() > end:
                raise TimeoutError
            if _STREAM_ENDS.search(body, max(0, len(body) - _STREAM_END_BYTES)):
                break
    if response.status >= 300:
        raise StatusError(response.status, body.decode(errors="replace"))
    return bytes(body)


def _chunks(body: bytes) -> Iterator[object]:
    """The chunks of a stream of server-sent events."""
    for line in body.splitlines():
        name, _, data = line.partition(b":")
        if name != b"data" or data.strip() == b"[DONE]":
            continue
        chunk = json.loads(data)
        if error := field(chunk, "error"):
            code = field(error, "code")
            raise StatusError(code if isinstance(code, int) else 500, json.dumps(error))
        yield chunk


def _trouble_of(status: int) -> tuple[str, str]:
    if status < 400:
        return f"requests are sent on to another address (HTTP {status})", "name that one in --base-url"
    if status in {401, 403}:
        return f"the key was refused (HTTP {status})", "put a key into the variable that --api-key-env names"
    if status == 404:
        return "there is no such model or path (HTTP 404)", "check --model, and --base-url (most end in /v1)"
    if status == 429:
        return "too many requests, or no credit left (HTTP 429)", "try again later"
    return f"the request was refused (HTTP {status})" if status < 500 else f"the server failed (HTTP {status})", ""


def _first_choice(payload: object) -> object:
    choices = field(payload, "choices")
    return choices[0] if is_sequence(choices) and choices else None


def _arguments(call: object) -> str:
    return text_of(field(field(call, "function"), "arguments")) or ""
