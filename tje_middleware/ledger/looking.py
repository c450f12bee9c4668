"""Looking at what feedback says, between two batches: what waits to be written must not wait for that."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from ..errors import RegistryError, RegistryUnavailable
from ..storage import Database
from .patience import waiting_at_most

logger = logging.getLogger(__name__)

#: Looks at the feedback about decisions of these ids.
Look = Callable[[Database, Sequence[str]], None]

_SECONDS_OF_LOOK = 0.5
_SECONDS_BETWEEN_LOOKS = 2.0
_LOOKS = 5
_MOST = 500


class Looking:
    """Feedback that was written and is still to be looked at; a look that fails is tried again a few times.

    Args:
        look: What is done with it.
    """

    def __init__(self, look: Look) -> None:
        self._look = look
        self._ids: list[str] = []  # newest last
        self._done = threading.Event()
        self._done.set()
        self._failed = 0
        self._not_before = 0.0

    def add(self, decision_ids: Sequence[str]) -> None:
        """Feedback about these decisions has been written."""
        if decision_ids:
            self._done.clear()
            self._ids = [*self._ids, *decision_ids][-_MOST:]

    @property
    def is_left(self) -> bool:
        """Whether there is feedback to look at."""
        return bool(self._ids)

    @property
    def is_due(self) -> bool:
        """Whether there is, and now."""
        return bool(self._ids) and time.monotonic() >= self._not_before

    def wait(self, timeout: float) -> None:
        """Wait until nothing is left, for at most so long (seconds)."""
        self._done.wait(timeout)

    def look(self, database: Database) -> None:
        """Look at what is left, without waiting long for whoever else changes the database."""
        try:
            with waiting_at_most(_SECONDS_OF_LOOK):
                self._look(database, self._ids)
        except RegistryError as error:
            self._failed += 1
            if isinstance(error, RegistryUnavailable) and self._failed < _LOOKS:
                self._not_before = time.monotonic() + _SECONDS_BETWEEN_LOOKS
                return
            # Nothing is lost: the next feedback is looked at together with this one.
            logger.info("what feedback says of the gate's promises could not be looked at: %s", error)
        except Exception:
            logger.exception("what feedback says of the gate's promises could not be looked at")
        self._ids = []
        self._failed = 0
        self._done.set()
