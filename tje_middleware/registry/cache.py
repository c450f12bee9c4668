"""Looking profiles up without I/O: known ones from memory, unknown ones through one reading for all who ask."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

from .. import _process
from .._process import ForkAware, tell_of_forks
from ..calibration.key import ProfileKey
from ..calibration.profile import Alarm
from ..errors import RegistryDamaged, RegistryError, RegistryUnavailable, SchemaMismatch
from ..gate.sources import ProfileLookup
from ..storage import Database
from . import alarms
from .known import Known
from .lookup import Parsing, look
from .refresh import Refresher

_log = logging.getLogger("tje_middleware.registry")

# A decision does not wait longer than this for a key that nobody has asked for before.
_LOOKUP_PATIENCE_SECONDS = 0.5
# A locked database is said to be so before those who wait give up; in the background there is more time.
_FLIGHT_LOCK_SECONDS = 0.4
_REFRESH_LOCK_SECONDS = 1.5
# Asking without a pause helps nobody.
_LEAST_REFRESH_SECONDS = 0.05
_MOST_ALARMS = 1000
_CLOSING_SECONDS = 1.0


class Following(ForkAware):
    """What a process follows of a registry.

    A look-up of a known key is a read of :attr:`Known.answers` and no more. One of another key waits a little for
    the one reading that is made for all who ask. A thread keeps what is known fresh from the first look-up on
    until :meth:`stop`, or until nobody has this object any more. In a forked child, what was known stays known.

    Args:
        database: Where the profiles are.
        refresh_seconds: How old an answer gets, a tenth more or less, where the database tells of no changes.
    """

    def __init__(self, database: Database, refresh_seconds: float) -> None:
        self.database = database
        self.known = Known()
        self._parsing = Parsing()
        self.refresh_seconds = max(refresh_seconds, _LEAST_REFRESH_SECONDS)
        self._flights: dict[ProfileKey, Future[ProfileLookup]] = {}
        self._alarms: dict[tuple[ProfileKey, int | None, str], Alarm] = {}
        self._stored = threading.Event()
        self._reading = 0  # the number of the last reading of all keys
        self._refresher: Refresher | None = None
        # Reentrant: an alarm may be reported by a stream that the garbage collector closes, wherever that happens.
        self._lock = threading.RLock()
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
        keys = self.known.keys() if key is None else self.known.touched_by(key)
        try:
            self._read(keys, lock_seconds=_REFRESH_LOCK_SECONDS)
        except Exception as error:
            if not isinstance(error, RegistryError):
                _log.exception("what was just changed could not be read again yet")
            with self._lock:
                if self._refresher is not None:
                    self._refresher.hurry()

    def read(self, key: ProfileKey) -> ProfileLookup:
        """The answer fresh from the database; look-ups go on with it.

        Raises:
            RegistryUnavailable, RegistryDamaged, SchemaMismatch: there is none to be had.
        """
        order = self.known.begin()
        with self.database.reading() as read:
            answer = look(read, [key], self._parsing, self.database.url.shown)[key]
        if isinstance(answer, RegistryDamaged):
            raise answer
        self.known.keep(order, {key: answer})
        return answer

    def report_alarm(self, key: ProfileKey, alarm: Alarm) -> None:
        """Show an alarm at once in this process, and have it stored soon."""
        key = self.known.key_behind(key)
        self.known.report(key, alarm)
        with self._lock:
            if len(self._alarms) < _MOST_ALARMS:
                self._alarms[key, alarm.version, alarm.kind] = alarm
                self._stored.clear()
            if (refresher := self._attend()) is not None:
                refresher.report(self)
        _process.flush_at_the_end_of_this_process()

    def stop(self) -> None:
        """End the thread and its connection; a look-up starts them again. Waits a little for alarms to be stored."""
        if self._alarms and self._refresher is not None:
            self._stored.wait(_CLOSING_SECONDS)
        with self._lock:
            refresher, self._refresher = self._refresher, None
            self.known.leave()
        if refresher is not None:
            refresher.stop()

    def leave_soon(self) -> None:
        """Begin to store alarms, at the end of the process."""
        with self._lock:
            if self._alarms and (refresher := self._attend()) is not None:
                refresher.leave()

    def leave(self, timeout: float) -> None:
        """Wait until alarms are stored, at the end of the process, for at most ``timeout`` seconds."""
        if self._alarms and self._refresher is not None:
            self._stored.wait(timeout)
        if left := len(self._alarms):
            what = f"{left} alarm{'s' if left > 1 else ''}"
            _log.warning("%s: %s could not be stored before the process ended", self.database.url, what)

    def left_by(self, refresher: Refresher) -> None:
        """A thread has ended, however: the next look-up starts another."""
        with self._lock:
            if self._refresher is refresher:
                self._refresher = None
                self.known.leave()

    @property
    def is_asked(self) -> bool:
        """Whether somebody waits for a key."""
        return bool(self._flights)

    @property
    def has_alarms(self) -> bool:
        """Whether there are alarms to store."""
        return bool(self._alarms)

    def answer_flights(self) -> None:
        """Look for all keys that somebody waits for.

        Raises:
            RegistryError: the database could not be asked; whoever waits has been told.
        """
        with self._lock:
            flights = dict(self._flights)
        try:
            self._read(list(flights), lock_seconds=_FLIGHT_LOCK_SECONDS)
        finally:
            with self._lock:
                for key in flights:
                    self._flights.pop(key, None)
            for key, flight in flights.items():
                flight.set_result(self.known.last(key))

    def seek_missing(self) -> None:
        """Look again for the keys that have no profile.

        Raises:
            RegistryError: the database could not be asked.
        """
        self._read(self.known.missing(), lock_seconds=_REFRESH_LOCK_SECONDS)

    def refresh_all(self) -> None:
        """Read all known keys at one moment.

        Raises:
            RegistryError: the database could not be asked; all answers are marked stale.
        """
        self._reading = self.known.begin()
        self._read(None, lock_seconds=_REFRESH_LOCK_SECONDS, order=self._reading)

    def fail_reading(self, problem: str) -> None:
        """The reading of all keys takes too long: until it is done, all answers are stale."""
        self.known.fail(self._reading, problem)

    def store_alarms(self) -> None:
        """Store the alarms that were reported.

        Raises:
            RegistryError: the database could not be written; what is left is stored later.
        """
        for place, alarm in list(self._alarms.items()):
            try:
                alarms.store_alarm(self.database, place[0], alarm)
            except (RegistryUnavailable, RegistryDamaged, SchemaMismatch):
                raise
            except RegistryError as error:  # it never can be: its version is no more
                _log.warning("%s", error)
            self.known.stored(place[0], alarm)
            with self._lock:
                if self._alarms.get(place) is alarm:
                    del self._alarms[place]
                if not self._alarms:
                    self._stored.set()

    def after_fork_in_child(self) -> None:
        """Go on with all that is known, without the threads."""
        self._lock = threading.RLock()
        self._refresher = None
        self._flights = {}
        self._alarms = {}  # the parent stores them
        self._stored = threading.Event()
        self.known.start_anew_in_a_child()

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
            flight = self._flights.get(key)
            if flight is None:
                flight = self._flights[key] = Future()
                flight.set_running_or_notify_cancel()  # nobody who waits may cancel it for the others
                refresher.wake()
        return flight

    def _attend(self) -> Refresher | None:
        if self._refresher is None:
            try:
                refresher = Refresher(self)
            except OSError:  # out of file descriptors
                return None
            if refresher.start():
                self._refresher = refresher
                # In a forked child, or after a pause, what is not much older than it may get serves at once.
                self.known.attend(2 * self.refresh_seconds)
        return self._refresher

    def _not_yet(self, key: ProfileKey) -> ProfileLookup:
        return self.known.not_yet(
            key,
            f"{self.database.url} has not answered within {_LOOKUP_PATIENCE_SECONDS:g} seconds whether there is a "
            f"profile for {key}; it is still being asked",
        )

    def _read(self, keys: Sequence[ProfileKey] | None, *, lock_seconds: float, order: int | None = None) -> None:
        number = self.known.begin() if order is None else order
        wanted = self.known.keys() if keys is None else keys
        if not wanted:
            return
        try:
            with self.database.reading(patience=lock_seconds) as read:
                found = look(read, wanted, self._parsing, self.database.url.shown)
        except Exception as error:
            said = str(error) if isinstance(error, RegistryError) else f"{type(error).__name__}: {error}"
            self.known.fail(number, self.database.url.scrubbed(said), keys)
            raise
        self.known.keep(number, {key: one for key, one in found.items() if isinstance(one, ProfileLookup)})
        for key, one in found.items():
            if isinstance(one, RegistryDamaged):
                self.known.fail(number, str(one), [key])
