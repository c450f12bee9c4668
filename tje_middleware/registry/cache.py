"""Looking profiles up on the decision path: from memory, and at first by one reading for all who ask."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from .. import _process
from .._process import ForkAware, tell_of_forks
from ..calibration.key import ProfileKey
from ..calibration.profile import Alarm
from ..errors import RegistryError
from ..gate.sources import ProfileLookup
from ..storage import Database
from .known import Readings
from .refresh import Refresher

_log = logging.getLogger("tje_middleware.registry")

# A decision does not wait longer than this for a key that nobody has asked for before.
_LOOKUP_PATIENCE_SECONDS = 0.5
_MOST_ALARMS = 1000
_CLOSING_SECONDS = 1.0


class Following(Readings, ForkAware):
    """What a process follows of a registry.

    A look-up of a known key is a read of :attr:`Known.answers` and no more. One of another key waits a little for
    the one reading that is made for all who ask. A thread keeps what is known fresh from the first look-up on
    until :meth:`stop`, or until nobody has this object any more. In a forked child, what was known stays known.
    """

    def __init__(self, database: Database, refresh_seconds: float) -> None:
        super().__init__(database, refresh_seconds)
        self._refresher: Refresher | None = None
        _process.tell_of_exit(self)
        tell_of_forks(self)

    def lookup(self, key: ProfileKey) -> ProfileLookup:
        """The answer about a key that is not known yet."""
        flight = self._board(key)
        if isinstance(flight, ProfileLookup):
            return flight
        try:
            return flight.result(_LOOKUP_PATIENCE_SECONDS)
        except FutureTimeoutError:
            return self._not_yet(key)

    async def alookup(self, key: ProfileKey) -> ProfileLookup:
        """As :meth:`lookup`; the event loop goes on meanwhile."""
        flight = self._board(key)
        if isinstance(flight, ProfileLookup):
            return flight
        landing = asyncio.wrap_future(flight)
        try:
            landed, _ = await asyncio.wait({landing}, timeout=_LOOKUP_PATIENCE_SECONDS)
            return landing.result() if landed else self._not_yet(key)
        finally:
            landing.cancel()  # the flight itself goes on

    def refresh(self, key: ProfileKey | None = None) -> None:
        """Read what this process has just changed, so that its look-ups see it at once: of one key, or of all.

        Never raises: what was changed is stored, and is read again later where that fails now.
        """
        try:
            self._read(list(self.known.last()) if key is None else self.known.touched_by(key))
        except Exception as error:
            if not isinstance(error, RegistryError):
                _log.exception("what was just changed could not be read again yet")
            with self._lock:
                if self._refresher is not None:
                    self._refresher.hurry()

    def report_alarm(self, key: ProfileKey, alarm: Alarm) -> None:
        """Show an alarm at once in this process, and have it stored soon."""
        answer = self.known.last().get(key)
        if answer is not None and answer.profile is not None:
            key = answer.profile.key  # another one where the key's model is an alias
        self.known.report(key, alarm)
        with self._lock:
            if len(self.unstored_alarms) < _MOST_ALARMS:
                self.unstored_alarms[key, alarm.version, alarm.kind] = alarm
            if (refresher := self._attend()) is not None:
                refresher.wake(reporting=self)
        _process.flush_at_the_end_of_this_process()

    def stop(self) -> None:
        """End the thread and its connection; a look-up starts them again. Waits a little for alarms to be stored."""
        self._wait_for_alarms(_CLOSING_SECONDS)
        with self._lock:
            refresher, self._refresher = self._refresher, None
            self.known.leave()
        if refresher is not None:
            refresher.stop()

    def leave_soon(self) -> None:
        """Begin to store alarms, at the end of the process."""
        with self._lock:
            if self.unstored_alarms and (refresher := self._attend()) is not None:
                refresher.leave()

    def leave(self, timeout: float) -> None:
        """Wait until alarms are stored, at the end of the process, for at most ``timeout`` seconds."""
        self._wait_for_alarms(timeout)
        if left := len(self.unstored_alarms):
            what = f"{left} alarm{'s' if left > 1 else ''}"
            _log.warning("%s: %s could not be stored before the process ended", self.database.url, what)

    def after_fork_in_child(self) -> None:
        """Go on with what is known; threads, those who wait and alarms are the parent's."""
        self._refresher = None
        self._lock = threading.RLock()
        self.flights, self.unstored_alarms = {}, {}
        self.known.start_anew_in_a_child()

    def _attend_no_more(self, refresher: Refresher) -> None:
        """A thread has ended, whether it was told to or broke: the next look-up starts another."""
        with self._lock:
            if self._refresher is refresher:
                self._refresher = None
                self.known.leave()

    def _wait_for_alarms(self, seconds: float) -> None:
        """Wait until the alarms are stored, if there is a thread that does so."""
        until = time.monotonic() + seconds
        while self.unstored_alarms and self._refresher is not None and time.monotonic() < until:
            time.sleep(0.01)

    def _board(self, key: ProfileKey) -> ProfileLookup | Future[ProfileLookup]:
        """The answer where it is known after all, or the flight that will bring it."""
        with self._lock:
            refresher = self._attend()
            if refresher is None:
                return self.known.not_yet(
                    key, f"{self.database.url} cannot be asked: no thread could be started for it"
                )
            if (known := self.known.answers.get(key)) is not None:
                return known
            flight = self.flights.get(key)
            if flight is None:
                flight = self.flights[key] = Future()
                flight.set_running_or_notify_cancel()  # nobody who waits may cancel it for the others
                refresher.wake()
        return flight

    def _attend(self) -> Refresher | None:
        """The thread that keeps the answers fresh, started where there is none; None where it cannot be."""
        if self._refresher is None:
            refresher = Refresher(self, weakref.WeakMethod(self._attend_no_more))
            if refresher.start():
                self._refresher = refresher
                # In a forked child, or after a pause, answers a little too old serve until they are read anew.
                self.known.attend(2 * self.refresh_seconds)
        return self._refresher

    def _not_yet(self, key: ProfileKey) -> ProfileLookup:
        return self.known.not_yet(
            key,
            f"{self.database.url} has not answered within {_LOOKUP_PATIENCE_SECONDS:g} seconds whether there is a "
            f"profile for {key}; it is still being asked",
        )
