"""A child process that reports one line when it is ready and ends with its parent."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from typing import IO

_LOG_LINES = 200
_PATIENCE = 2.0  # seconds that the child has to end by itself, and again after a polite signal


class Child:
    """A running child process; it ends when its standard input is closed, as it is when this process ends."""

    def __init__(self, command: Sequence[str]) -> None:
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._first_line: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        # Threads, because neither pipe may ever be full: the child would block in the middle of a request.
        self._readers = [
            threading.Thread(target=_pass_first_line, args=(self._process.stdout, self._first_line), daemon=True),
            threading.Thread(target=_keep_tail, args=(self._process.stderr, self._log), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def first_line(self, timeout: float) -> str:
        """Wait so many seconds for the first line of standard output; empty if the child ended without one.

        Raises:
            TimeoutError: Nothing was said in time.
        """
        try:
            return self._first_line.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None

    def wait(self) -> int:
        """Block until the process ends; its exit status, negative for a signal."""
        return self._process.wait()

    def log(self) -> list[str]:
        """The last lines of standard error; complete once the process has ended."""
        if not self.alive:
            for reader in self._readers:
                reader.join(_PATIENCE)
        return list(self._log)

    def stop(self) -> None:
        """End the process and take its exit status: no orphan and no zombie stays. Twice is once."""
        if os.getpid() != self._owner:
            return  # a fork of the owner runs the same exit handlers, but the child is not its own to end
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        for insist in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(_PATIENCE)
                break
            except subprocess.TimeoutExpired:
                insist()
        self._process.wait()
        for reader in self._readers:
            reader.join(_PATIENCE)


def _pass_first_line(stream: IO[bytes], sink: queue.SimpleQueue[str]) -> None:
    with stream:
        sink.put(stream.readline().decode("utf-8", "replace"))
        while stream.read(4096):
            pass


def _keep_tail(stream: IO[bytes], sink: deque[str]) -> None:
    with stream:
        for line in stream:
            sink.append(line.decode("utf-8", "replace").rstrip())
