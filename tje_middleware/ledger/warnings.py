"""What is logged about a ledger: seldom, however often it is so."""

from __future__ import annotations

import logging
import time

_SECONDS_BETWEEN = 60.0


class Warnings:
    """Warnings by topic, of each topic one in a while."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._warned_at: dict[str, float] = {}

    def warn(self, topic: str, message: str) -> bool:
        """Log a warning, unless one of its topic was logged a short while ago; whether it was."""
        now = time.monotonic()
        if now - self._warned_at.get(topic, float("-inf")) < _SECONDS_BETWEEN:
            return False
        self._warned_at[topic] = now
        self._logger.warning(message)
        return True

    def warn_once(self, topic: str, message: str) -> None:
        """Log a warning, unless one of its topic was logged before."""
        if topic not in self._warned_at:
            self.warn(topic, message)

    def forget(self, topic: str) -> None:
        """What was warned of is over: the next time is a first one."""
        self._warned_at.pop(topic, None)


def entries_in_words(count: int) -> str:
    """So many of them."""
    return "1 entry" if count == 1 else f"{count} entries"


def waiting(count: int) -> str:
    """So many of them wait."""
    return f"{entries_in_words(count)} {'waits' if count == 1 else 'wait'}"
