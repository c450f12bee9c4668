"""Warnings that are given once per cause, at the line of the user's that led to them."""

from __future__ import annotations

import sys
import threading
import warnings

from .errors import TjeWarning

#: Ours, and those that carry a user's call to us: a warning is about the user's line.
_PASSED_OVER = frozenset(
    [
        "tje_middleware",
        "langchain_tje",
        "llama_index_tje",
        "langchain",
        "langchain_core",
        "langgraph",
        "langsmith",
        "llama_index",
        "llama_index_instrumentation",
        "workflows",
        "wrapt",
        "contextvars",
        "concurrent",
        "threading",
        "asyncio",
    ]
)


class SaidOnce:
    """Remembers what was warned of; threads may share it. In another process nothing was said yet."""

    def __init__(self) -> None:
        self._topics: set[str] = set()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[SaidOnce], tuple[()]]:
        return type(self), ()

    def __call__(self, topic: str, message: str) -> None:
        """Warn with TjeWarning, unless the topic was warned of before."""
        with self._lock:
            if topic in self._topics:
                return
            self._topics.add(topic)
        warnings.warn(f"{message} (said once)", TjeWarning, stacklevel=_frames_of_ours())


def _frames_of_ours() -> int:
    """The stacklevel, for a warning in the calling function, of the first caller of all these."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _PASSED_OVER:
        frame, level = frame.f_back, level + 1
    return level
