"""What a process knows of a registry's keys, and the readings of the database that it knows it from."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import NamedTuple

from ..calibration.key import ProfileKey
from ..calibration.profile import Alarm
from ..errors import RegistryDamaged, RegistryError, RegistryUnavailable, SchemaMismatch
from ..gate.sources import ProfileLookup
from ..storage import Database
from .alarms import store_alarm
from .lookup import Parsed, look

_log = logging.getLogger("tje_middleware.registry")

# A locked database is said to be so before those who wait for a key give up.
_FLIGHT_LOCK_SECONDS = 0.4
# In the background there is more time.
_LOCK_SECONDS = 1.5
# Asking without a pause helps nobody.
_LEAST_REFRESH_SECONDS = 0.05


class _Seen(NamedTuple):
    """The last answer about a key: of which reading, and when (seconds of the monotonic clock)."""

    answer: ProfileLookup
    order: int
    at: float


class _Reported(NamedTuple):
    """An alarm that readings need not show yet: it was stored after the reading ``stored`` began; None: it is not."""

    alarm: Alarm
    stored: int | None = None


class Known:
    """The last answer about every key that was asked for.

    Readings of the database may overtake each other. Each takes a number before it begins, and the highest wins:
    it has seen all that this process had changed by then.
    """

    def __init__(self) -> None:
        #: What look-ups answer with while somebody keeps it fresh, read without a lock; otherwise empty.
        self.answers: dict[ProfileKey, ProfileLookup] = {}
        self._seen: dict[ProfileKey, _Seen] = {}
        self._reported: dict[tuple[ProfileKey, int | None], _Reported] = {}
        self._orders = itertools.count(1)
        self._attended = False
        self._lock = threading.RLock()  # an alarm may be reported wherever the garbage collector runs

    def begin(self) -> int:
        """The number of a reading that begins now."""
        return next(self._orders)

    def keep(self, order: int, answers: Mapping[ProfileKey, ProfileLookup]) -> None:
        """Remember what a reading found."""
        now = time.monotonic()
        with self._lock:
            for key, answer in answers.items():
                self._set(key, self._with_alarm(answer, order), order, now)

    def fail(self, order: int, problem: str, keys: Iterable[ProfileKey] | None = None) -> None:
        """A reading of these keys failed, by default of all: the last answers serve, marked stale.

        An answer stays as old as it was, so that it is not taken for fresh elsewhere.
        """
        with self._lock:
            for key in list(self._seen if keys is None else keys):
                seen = self._seen.get(key)
                at = seen.at if seen else time.monotonic()
                self._set(key, _stale(seen.answer if seen else None, problem), order, at)

    def not_yet(self, key: ProfileKey, problem: str) -> ProfileLookup:
        """What to answer about a key while the first reading takes too long; any reading replaces it."""
        with self._lock:
            if (known := self.answers.get(key)) is not None:
                return known
            seen = self._seen.get(key)
            answer = _stale(seen.answer if seen else None, problem)
            self._set(key, answer, seen.order if seen else 0, seen.at if seen else time.monotonic())
            return answer

    def last(self) -> dict[ProfileKey, ProfileLookup]:
        """The last answers about all keys that were asked for."""
        return {key: seen.answer for key, seen in list(self._seen.items())}

    def missing(self) -> list[ProfileKey]:
        """The keys without a profile."""
        return [key for key, answer in self.last().items() if answer.profile is None]

    def touched_by(self, key: ProfileKey) -> list[ProfileKey]:
        """The keys whose answer a change of one key may change: itself, and those whose model is an alias of its.

        A missing one counts as such where nothing but the model differs: the alias may be older than the profile.
        """

        def is_touched(other: ProfileKey, answer: ProfileLookup) -> bool:
            if answer.profile is None:
                return other.model_copy(update={"model": key.model}) == key
            return answer.profile.key == key

        found = {other for other, answer in self.last().items() if is_touched(other, answer)}
        return [key, *found - {key}]

    def oldest(self) -> float:
        """When the oldest answer was read (seconds of the monotonic clock); now, where there is none."""
        return min((seen.at for seen in list(self._seen.values())), default=time.monotonic())

    def attend(self, max_age: float) -> None:
        """From now on somebody keeps the answers fresh: look-ups are answered with those of the last seconds."""
        earliest = time.monotonic() - max_age
        with self._lock:
            self._attended = True
            for key, seen in list(self._seen.items()):
                if seen.at >= earliest and seen.order:
                    self.answers[key] = seen.answer

    def leave(self) -> None:
        """Nobody keeps the answers fresh any more: they are but remembered."""
        with self._lock:
            self._attended = False
            self.answers = {}

    def start_anew_in_a_child(self) -> None:
        """As :meth:`leave`, in a forked process, where the lock may be held by a thread that is not there."""
        self._lock = threading.RLock()
        self._reported = {}  # the parent stores them, and nobody would say here when
        self.leave()

    def report(self, key: ProfileKey, alarm: Alarm) -> None:
        """Show an alarm about a version in every answer with it, until readings show it."""
        with self._lock:
            self._reported[key, alarm.version] = _Reported(alarm)
            for other, seen in list(self._seen.items()):
                self._set(other, self._with_alarm(seen.answer, seen.order), seen.order, seen.at)

    def stored(self, key: ProfileKey, alarm: Alarm) -> None:
        """The alarm is in the database: readings that begin from now on show it, or that it was dismissed."""
        with self._lock:
            self._reported[key, alarm.version] = _Reported(alarm, next(self._orders))

    def _set(self, key: ProfileKey, answer: ProfileLookup, order: int, at: float) -> None:
        seen = self._seen.get(key)
        if seen is not None and seen.order > order:
            return
        self._seen[key] = _Seen(answer, order, at)
        if self._attended:
            self.answers[key] = answer

    def _with_alarm(self, answer: ProfileLookup, order: int) -> ProfileLookup:
        profile = answer.profile
        if profile is None or (held := self._reported.get((profile.key, profile.version))) is None:
            return answer
        if held.stored is not None and order > held.stored:
            del self._reported[profile.key, profile.version]
            return answer
        return answer if answer.alarm is not None else replace(answer, alarm=held.alarm)


def _stale(last: ProfileLookup | None, problem: str) -> ProfileLookup:
    if last is None or last.profile is None:
        return ProfileLookup(None, problem=problem)
    return replace(last, stale=True, problem=problem)


class Readings:
    """How a process reads a registry and stores its alarms; without a thread of its own.

    All who ask for a key that is not known yet wait for one reading, which is called a flight. Where the database
    tells of no changes, an answer gets ``refresh_seconds`` old, a tenth more or less.
    """

    def __init__(self, database: Database, refresh_seconds: float) -> None:
        self.database = database
        self.known = Known()
        self.refresh_seconds = max(refresh_seconds, _LEAST_REFRESH_SECONDS)
        #: Who waits for which key.
        self.flights: dict[ProfileKey, Future[ProfileLookup]] = {}
        #: Alarms that are not in the database yet, by key, version and kind.
        self.unstored_alarms: dict[tuple[ProfileKey, int | None, str], Alarm] = {}
        #: The number of the last reading of all keys.
        self.last_reading = 0
        # Reentrant: an alarm may be reported by a stream that the garbage collector closes, wherever that happens.
        self._lock = threading.RLock()
        self._parsed: Parsed = {}

    def read(self, key: ProfileKey) -> ProfileLookup:
        """The answer fresh from the database; look-ups go on with it.

        Raises:
            RegistryUnavailable, RegistryDamaged, SchemaMismatch: there is none to be had.
        """
        order = self.known.begin()
        with self.database.reading() as read:
            answer = look(read, [key], self._parsed, self.database.url.shown)[key]
        if isinstance(answer, RegistryDamaged):
            raise answer
        self.known.keep(order, {key: answer})
        return answer

    # What follows raises RegistryError where the database cannot be asked, after those who wait have been told.

    def answer_flights(self) -> None:
        """Look for all keys that somebody waits for."""
        with self._lock:
            flights = dict(self.flights)
        try:
            self._read(list(flights), lock_seconds=_FLIGHT_LOCK_SECONDS)
        finally:
            with self._lock:
                for key in flights:
                    self.flights.pop(key, None)
            answers = self.known.last()
            for key, flight in flights.items():
                flight.set_result(answers[key])

    def seek_missing(self) -> None:
        """Look again for the keys that have no profile."""
        self._read(self.known.missing())

    def refresh_all(self) -> None:
        """Read all known keys at one moment."""
        self.last_reading = self.known.begin()
        self._read(None, order=self.last_reading)

    def store_alarms(self) -> None:
        """Store the alarms that were reported; what is left where that fails is stored later."""
        for place, alarm in list(self.unstored_alarms.items()):
            try:
                store_alarm(self.database, place[0], alarm)
            except (RegistryUnavailable, RegistryDamaged, SchemaMismatch):
                raise
            except RegistryError as error:  # its version was deleted, so that trying again is of no use
                _log.warning("%s", error)
            self.known.stored(place[0], alarm)
            with self._lock:
                if self.unstored_alarms.get(place) is alarm:
                    del self.unstored_alarms[place]

    def _read(self, keys: Sequence[ProfileKey] | None, order: int = 0, lock_seconds: float = _LOCK_SECONDS) -> None:
        """Read these keys, or all, and keep what was found or why it was not; 0: with a number of its own."""
        number = order or self.known.begin()
        wanted = list(self.known.last()) if keys is None else keys
        if not wanted:
            return
        try:
            with self.database.reading(patience=lock_seconds) as read:
                found = look(read, wanted, self._parsed, self.database.url.shown)
        except Exception as error:
            said = str(error) if isinstance(error, RegistryError) else f"{type(error).__name__}: {error}"
            self.known.fail(number, self.database.url.scrubbed(said), keys)
            raise
        self.known.keep(number, {key: one for key, one in found.items() if isinstance(one, ProfileLookup)})
        for key, one in found.items():
            if isinstance(one, RegistryDamaged):
                self.known.fail(number, str(one), [key])
