"""The embedded model: llama.cpp's OpenAI-compatible server in a child process."""

from __future__ import annotations

import json
import re
import sys
import weakref
from importlib.util import find_spec
from pathlib import Path

from ..errors import LocalModelError
from .child import Child
from .weights import DEFAULT_WEIGHTS, resolve_weights

_QUOTED_LINES = 4
_LOG_PREFIX = re.compile(r"^[\d.]+ [A-Z] +")  # "0.00.071.712 E ": llama.cpp's clock and level
_CONSEQUENCE = re.compile(r"failed to load model\b(?! from)|exiting due to|^main:|^\s*$")


class LocalServer:
    """An OpenAI-compatible server on 127.0.0.1 whose answers carry real logprobs.

    The model runs in a child process: what goes wrong in C++ cannot take this process down, and the child ends
    with this process however that ends.

    Example:
        >>> with LocalServer() as server:                                    # doctest: +SKIP
        ...     llm = ChatOpenAI(base_url=server.base_url, model=server.model, api_key="none")

    Args:
        model: A GGUF path, a hub id (``org/repo`` or ``org/repo:file.gguf``), or None for the default weights.
        port: The TCP port; 0 takes a free one.
        parallel: Requests answered at once; more wait their turn.
        threads: CPU threads.
        context: Tokens per request, prompt and answer together. Memory grows with ``parallel * context``.
        startup_timeout: Seconds that the model has to load.

    Raises:
        LocalModelError: A number is out of its range.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        port: int = 0,
        parallel: int = 8,
        threads: int = 2,
        context: int = 2048,
        startup_timeout: float = 60.0,
    ) -> None:
        for name, number in (("parallel", parallel), ("threads", threads), ("context", context)):
            if number < 1:
                raise LocalModelError(f"{name} must be at least 1, not {number}.")
        if not 0 <= port <= 65535:
            raise LocalModelError(f"port must lie between 0 and 65535, not {port}.")
        self._source = model
        self._numbers = {"port": port, "parallel": parallel, "threads": threads, "context": context}
        self._startup_timeout = startup_timeout
        self._child: Child | None = None
        self._finalizer: weakref.finalize[[], LocalServer] | None = None
        self._base_url = ""
        self._model = ""

    @property
    def base_url(self) -> str:
        """The URL for OpenAI clients, ``http://127.0.0.1:PORT/v1``.

        Raises:
            LocalModelError: The server is not started.
        """
        self._require_started()
        return self._base_url

    @property
    def model(self) -> str:
        """The model's name, to send in requests; responses carry it too.

        Raises:
            LocalModelError: The server is not started.
        """
        self._require_started()
        return self._model

    @property
    def pid(self) -> int | None:
        """The id of the child process; None when the server is not started."""
        return self._child.pid if self._child else None

    @property
    def alive(self) -> bool:
        """Whether the child process runs."""
        return self._child is not None and self._child.alive

    def start(self) -> None:
        """Load the model; on return, requests are answered. Does nothing when the server runs already.

        Raises:
            LocalModelError: The weights were not found or not accepted, xllamacpp is missing, or the model did not
                load in time; the message quotes llama.cpp's reason.
        """
        if self.alive:
            return
        self.close()
        weights = resolve_weights(self._source)
        if find_spec("xllamacpp") is None:
            raise LocalModelError(
                'The embedded model needs xllamacpp, which is not installed: pip install "tje-middleware[local]".'
            )
        # A name to send and to see come back, never a path.
        name = DEFAULT_WEIGHTS.name if self._source is None else weights.stem
        child = Child(self._command(weights, name))
        try:
            self._base_url = self._await_ready(child, weights)
        except BaseException:
            child.stop()
            raise
        self._child, self._model = child, name
        # Runs at the exit of the interpreter too, and holds no reference to self.
        self._finalizer = weakref.finalize(self, child.stop)

    def close(self) -> None:
        """End the child process; does nothing when there is none."""
        self._child = None
        if self._finalizer is not None:
            self._finalizer()

    def wait(self) -> None:
        """Block until the server is closed or the user presses Ctrl-C, which closes it.

        Raises:
            LocalModelError: The server is not started, or its process ended by itself.
        """
        child = self._require_started()
        try:
            status = child.wait()
        except KeyboardInterrupt:
            self.close()
            return
        if self._child is child:
            raise LocalModelError(f"The embedded model ended by itself {_how(status)}.{_quote(child.log())}")

    def __enter__(self) -> LocalServer:
        """Start the server."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the server, whatever happened."""
        self.close()

    def _require_started(self) -> Child:
        if self._child is None:
            raise LocalModelError("The embedded model is not running: call start(), or use it in a with block.")
        return self._child

    def _command(self, weights: Path, name: str) -> list[str]:
        options = json.dumps({"weights": str(weights), "name": name, **self._numbers})
        return [sys.executable, "-m", "tje_middleware.local.process", options]

    def _await_ready(self, child: Child, weights: Path) -> str:
        """The base URL that the child reports, once it does."""
        try:
            line = child.first_line(self._startup_timeout)
        except TimeoutError:
            raise LocalModelError(
                f"{weights.name} did not load within {self._startup_timeout:g} s; "
                f"give it longer with startup_timeout.{_quote(child.log())}"
            ) from None
        report: dict[str, str] = json.loads(line) if line.strip() else {}
        if "base_url" in report:
            return report["base_url"]
        status = child.wait()
        reason = report.get("error") or f"its process ended {_how(status)}"
        remedy = " (on Debian or Ubuntu: apt-get install libgomp1)" if "libgomp" in reason else ""
        raise LocalModelError(f"{weights} could not be served: {reason}{remedy}{_quote(child.log())}")


def _how(status: int) -> str:
    return f"by signal {-status}" if status < 0 else f"with status {status}"


def _quote(log: list[str]) -> str:
    """The last lines of a log that say why, without those that only say that it failed."""
    lines = [_LOG_PREFIX.sub("", line) for line in log]
    telling = [line for line in lines if not _CONSEQUENCE.search(line)] or lines
    if not telling:
        return ""
    return "\nIts log ends with:\n" + "\n".join(f"  {line}" for line in telling[-_QUOTED_LINES:])
