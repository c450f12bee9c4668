"""A model behind an OpenAI-compatible endpoint, and what one of its answers holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from ...errors import UnknownShape
from ...logprobs.evidence import Evidence, StreamedEvidence, read
from ...logprobs.fields import field, is_sequence, text_of
from .finding import Manner

_REASONING = ("reasoning_content", "reasoning")


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
        choices = field(payload, "choices")
        choice = choices[0] if is_sequence(choices) and choices else None
        message = field(choice, "message")
        calls = field(message, "tool_calls")
        text = text_of(field(message, "content")) if message is not None else text_of(field(choice, "text"))
        evidence = read(payload)
        if isinstance(evidence, UnknownShape):
            raise evidence
        return cls(
            evidence=evidence,
            text=text or "",
            reasoning=text_of(field(message, *_REASONING)),
            arguments=_arguments(calls) if calls and is_sequence(calls) else None,
            model=text_of(field(payload, "model")),
            **_usage(field(payload, "usage")),
        )

    @classmethod
    def of_stream(cls, chunks: Iterable[object]) -> Answer:
        """The answer that a stream's chunks are together."""
        streamed, texts, thoughts, calls = StreamedEvidence(), list[str](), list[str](), list[object]()
        model: str | None = None
        usage: object = None
        for chunk in chunks:
            streamed.add(chunk)
            model = model or text_of(field(chunk, "model"))
            usage = field(chunk, "usage") or usage
            choices = field(chunk, "choices")
            delta = field(choices[0], "delta") if is_sequence(choices) and choices else None
            texts.append(text_of(field(delta, "content")) or "")
            thoughts.append(text_of(field(delta, *_REASONING)) or "")
            more = field(delta, "tool_calls")
            calls.extend(more if is_sequence(more) else ())
        text = "".join(texts)
        whole = {"choices": [{"message": {"content": text, "tool_calls": calls or None}}]}
        return cls(
            evidence=streamed.of(whole),
            text=text,
            reasoning="".join(thoughts) or None,
            arguments=_arguments(calls) if calls else None,
            model=model,
            **_usage(usage),
        )


class Endpoint:
    """Asks one model, and counts how often.

    Args:
        base_url: Of the OpenAI-compatible API.
        model: The model's name.
        api_key: The key; it is sent there and shown nowhere.
        timeout: What one whole answer may take (seconds).

    Raises:
        ImportError: the package ``openai`` is not installed.
    """

    def __init__(self, base_url: str, model: str, api_key: str, timeout: float) -> None:
        from openai import DefaultHttpxClient, OpenAI  # noqa: PLC0415 (an extra)

        from .endpoint import limiting  # noqa: PLC0415 (needs httpx, which comes with openai)

        self.model = model
        self.timeout = timeout
        self.requests = 0
        # A hook, as a transport of our own would not go by the environment's proxies.
        limited = DefaultHttpxClient(event_hooks={"response": [limiting(timeout)]})
        self._client = OpenAI(base_url=base_url, api_key=api_key, timeout=timeout, max_retries=0, http_client=limited)

    def chat(self, question: str, options: Manner) -> Answer:
        """An answer of chat completions.

        Raises:
            Exception: whatever the client raises; ``trouble`` says it in words.
        """
        asked = self._client.chat.completions
        return self._in_time(
            lambda: Answer.of(asked.create(model=self.model, messages=_messages(question), **options))
        )

    def chat_streamed(self, question: str, options: Manner) -> Answer:
        """The same as a stream."""
        options = {**options, "stream": True}

        def ask() -> Answer:
            asked = self._client.chat.completions
            with asked.create(model=self.model, messages=_messages(question), **options) as stream:
                return Answer.of_stream(stream)

        return self._in_time(ask)

    def complete(self, prompt: str, options: Manner) -> Answer:
        """An answer of completions."""
        asked = self._client.completions
        return self._in_time(lambda: Answer.of(asked.create(model=self.model, prompt=prompt, **options)))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _in_time(self, ask: Callable[[], Answer]) -> Answer:
        from .endpoint import within  # noqa: PLC0415 (needs httpx, which comes with openai)

        self.requests += 1
        return within(self.timeout, ask)


def trouble(error: Exception, timeout: float) -> tuple[str, str]:
    """What went wrong and what to do about it, without the error's text: it may quote keys and requests."""
    status = getattr(error, "status_code", None)
    name = type(error).__name__
    too_long = _too_long(error)
    if too_long is not None:
        return f"the answer was not read to its end: it is {too_long}", "check --base-url (most end in /v1)"
    if "Timeout" in name:
        return f"there was no whole answer within {timeout:g} s", "is the model loaded? --timeout gives it longer"
    if status in {401, 403}:
        return f"the key was refused (HTTP {status})", "put a key into the variable that --api-key-env names"
    if status == 404:
        return "there is no such model or path (HTTP 404)", "check --model, and --base-url (most end in /v1)"
    if status == 429:
        return "too many requests, or no credit left (HTTP 429)", "try again later"
    if status is not None:
        return (
            f"the request was refused (HTTP {status})" if status < 500 else f"the server failed (HTTP {status})",
            "",
        )
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


def _too_long(error: Exception) -> str | None:
    from .endpoint import TooLongError  # noqa: PLC0415 (needs httpx, which comes with openai)

    # The client wraps what is raised while it reads an answer, and not what is while it reads a stream.
    return next((str(each) for each in (error, error.__cause__) if isinstance(each, TooLongError)), None)


def _messages(question: str) -> Any:  # noqa: ANN401 (the client's own types, which are an extra)
    return [{"role": "user", "content": question}]


def _arguments(calls: Iterable[object]) -> str:
    return "".join(text_of(field(field(call, "function"), "arguments")) or "" for call in calls)


def _usage(usage: object) -> dict[str, Any]:
    counted = field(field(usage, "completion_tokens_details"), "reasoning_tokens")
    return {
        "reasoning_tokens": counted if isinstance(counted, int) else None,
        "has_usage": field(usage, "completion_tokens") is not None,
    }


_MIB = 2**20
#: More than this is not read of one answer (bytes, unpacked); one with all that is asked for takes some 100 kB.
MOST_BYTES = 16 * _MIB

T = TypeVar("T")


class TooLongError(Exception):
    """An answer is longer than ``MOST_BYTES``."""

    def __init__(self) -> None:
        super().__init__(f"more than {MOST_BYTES // _MIB} MiB")


def within(timeout: float, ask: Callable[[], T]) -> T:
    """What ``ask`` returns or raises, if it does so in time.

    It runs in a thread of its own, as looking up a name and reading headers know no deadline.

    Args:
        timeout: How long it is waited for (seconds); the thread is left to itself then, and holds up no exit.
        ask: Asks.

    Raises:
        TimeoutError: the time is over.
    """
    asked = Future[T]()
    Thread(target=_settle, args=(asked, ask), name="tje-doctor", daemon=True).start()
    return asked.result(timeout)


def limiting(timeout: float) -> Callable[[httpx.Response], None]:
    """A hook of the client for responses, which bounds what is read of each: answers, refusals and redirections.

    Args:
        timeout: How long a body is read (seconds): it ends the thread that ``within`` has left to itself.
    """

    def limit(response: httpx.Response) -> None:
        # Unpacked here, as little may unpack to a lot.
        packed = httpx.Response(response.status_code, headers=response.headers, stream=response.stream)
        response.headers.pop("Content-Encoding", None)
        response.stream = _Limited(packed, time.monotonic() + timeout)

    return limit


class _Limited(httpx.SyncByteStream):
    """The body of a response, as far as the limits let it come."""

    def __init__(self, response: httpx.Response, end: float) -> None:
        self._response = response
        self._end = end

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for chunk in self._response.iter_bytes():
            size += len(chunk)
            if size > MOST_BYTES:
                raise TooLongError
            if time.monotonic() > self._end:
                raise httpx.ReadTimeout("the answer is not whole in time")
            yield chunk

    def close(self) -> None:
        self._response.close()


def _settle(asked: Future[T], ask: Callable[[], T]) -> None:
    try:
        asked.set_result(ask())
    except BaseException as error:  # it is raised where the answer is waited for
        asked.set_exception(error)
