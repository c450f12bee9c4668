"""The registry: profiles in a database, versioned, shared by processes and machines."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import IO

from typing_extensions import Self

from .._process import whoami
from ..calibration.key import ProfileKey
from ..calibration.profile import Alarm, CalibrationProfile
from ..errors import ProfileNotFound
from ..gate.sources import ProfileLookup
from ..storage import Database
from .alarms import StoredAlarm, dismiss_alarms, holding, store_alarm, stored_alarms
from .aliases import all_aliases, declare_alias, withdraw_alias
from .cache import Following
from .lookup import find_version, no_profile
from .overviews import ProfileDiff, diff_versions
from .promotions import Promotion, promote_version, promotion_log, remove_versions, roll_back
from .transfer import ImportReport, collect_export, store_export
from .transfer_format import read_export, write_export
from .versions import (
    StoredVersion,
    active_rows,
    add_version,
    changing,
    profile_of,
    reader,
    stored_version,
    version_rows,
)


class CalibrationRegistry:
    """Profiles under their keys, every version kept, one of them active.

    What reads or changes the database raises RegistryUnavailable where it cannot be read or written (nothing has
    changed then), RegistryDamaged where what it holds cannot be read, and SchemaMismatch where its tables are those
    of another release; ``by`` is who changes something, by default the user, host and process.

    Example:
        >>> registry = CalibrationRegistry("sqlite:///tje.db")
        >>> registry
        CalibrationRegistry('sqlite:///tje.db')

    Args:
        url: ``sqlite:///relative/path.db``, ``sqlite:////absolute/path.db`` or
            ``postgresql+psycopg://user@host/database``. Nothing is opened before the first use.
        refresh_seconds: How old an answer of :meth:`lookup` gets before it is read again, in the background; on
            PostgreSQL a change is heard of at once.

    Raises:
        RegistryError: a URL that is none, of a database that is not supported, or whose driver is not installed.
    """

    def __init__(self, url: str = "sqlite:///tje.db", *, refresh_seconds: float = 60.0) -> None:
        #: The database; a ledger that is given the registry has connections of its own to it.
        self.database = Database(url)
        #: Its URL, without its password.
        self.url = self.database.url.shown
        self._refresh_seconds = refresh_seconds
        self._following = Following(self.database, refresh_seconds)

    def put(
        self,
        profile: CalibrationProfile,
        *,
        candidate: bool = False,
        source: str = "calibrated",
        by: str | None = None,
    ) -> int:
        """Store a profile as the next version of its key, and make it the active one; returns the version.

        Args:
            profile: What calibration found.
            candidate: Leave the active version as it is: this one waits to be promoted.
            source: Where the profile comes from, in a word.
            by: Who puts it.

        Raises:
            RegistryError: the key is too long to be looked up, or a text cannot be stored.
        """
        with changing(self.database) as connection:
            version = add_version(connection, profile, active=not candidate, source=source, by=by or whoami())
        self._following.refresh(profile.key)
        return version

    def get(self, key: ProfileKey, *, version: int | None = None) -> CalibrationProfile:
        """The active profile of a key, or one version of it, fresh from the database.

        Where the key's model has none and is an alias, that of the model it stands for.

        Raises:
            ProfileNotFound: there is none; the message says what to do.
        """
        if version is None:
            found = self._following.read(key)
            if found.profile is None:
                raise ProfileNotFound(found.problem)
            return found.profile
        with self.database.reading() as read:
            row = find_version(read, key, version, self.url)
        return profile_of(row, self.url)

    def lookup(self, key: ProfileKey) -> ProfileLookup:
        """The active profile of a key for the decision path: from memory, and never raising.

        Only the first look-up of a key waits for the database, at most half a second; the background keeps fresh
        what was asked for once. While the database cannot be asked, the last profile seen in this process serves,
        marked stale.
        """
        return self._following.known.answers.get(key) or self._following.lookup(key)

    async def alookup(self, key: ProfileKey) -> ProfileLookup:
        """As :meth:`lookup`; the event loop goes on while the first look-up of a key waits."""
        return self._following.known.answers.get(key) or await self._following.alookup(key)

    def history(self, key: ProfileKey) -> Sequence[CalibrationProfile]:
        """All versions of a key, oldest first; empty where there is none."""
        with self.database.reading() as read:
            rows = version_rows(read, key)
        return [profile_of(row, self.url) for row in rows]

    def versions(self, key: ProfileKey) -> Sequence[StoredVersion]:
        """All versions of a key with their provenance and the alarms about them, oldest first."""
        with self.database.reading() as read:
            rows, alarms = version_rows(read, key), holding(read, key, self.url)
        return [stored_version(row, self.url, alarms) for row in rows]

    def list(self) -> Sequence[CalibrationProfile]:
        """The active profile of every key, ordered by key."""
        with self.database.reading() as read:
            rows = active_rows(read)
        return [profile_of(row, self.url) for row in rows]

    def promotions(self, key: ProfileKey) -> Sequence[Promotion]:
        """Which version of a key was active when, oldest first."""
        with self.database.reading() as read:
            return promotion_log(read, key)

    def diff(self, key: ProfileKey, before: int, after: int) -> ProfileDiff:
        """What differs between two versions of a key.

        Raises:
            ProfileNotFound: one of them is not there.
        """
        with self.database.reading() as read:
            of = find_version(read, key, before, self.url), find_version(read, key, after, self.url)
        first, second = (stored_version(row, self.url, ()) for row in of)
        return diff_versions(first, second)

    def promote(self, key: ProfileKey, version: int, *, replacing: int | None = None, by: str | None = None) -> None:
        """Make a version of a key the active one, for all processes.

        Args:
            key: Of the profile, by its own name.
            version: What to make active.
            replacing: The active version that the caller has seen (0: none), if nothing else may be replaced.
            by: Who promotes.

        Raises:
            ProfileNotFound: there is no such version; the message says which there are.
            StalePromotion: ``replacing`` is not the active version any more; nothing has changed.
        """
        with changing(self.database) as connection:
            promote_version(connection, key, version, replacing=replacing, by=by or whoami(), shown=self.url)
        self._following.refresh(key)

    def rollback(self, key: ProfileKey, *, replacing: int | None = None, by: str | None = None) -> int:
        """Make the version active again that was so before the active one; returns it.

        A second one goes one further back, and never to a version that was deleted.

        Raises:
            ProfileNotFound: the key has no version.
            RegistryError: there is nothing further back.
            StalePromotion: as :meth:`promote`.
        """
        with changing(self.database) as connection:
            version = roll_back(connection, key, replacing=replacing, by=by or whoami(), shown=self.url)
        self._following.refresh(key)
        return version

    def delete(self, key: ProfileKey, *, by: str | None = None) -> int:
        """Remove all versions of a key; returns how many there were. Their numbers are not given again.

        Raises:
            ProfileNotFound: there was none.
        """
        with changing(self.database) as connection:
            removed = remove_versions(connection, key, by or whoami())
            if not removed:
                raise no_profile(reader(connection), key, self.url)
        self._following.refresh(key)
        return removed

    def alias(self, name: str, model: str, *, by: str | None = None) -> None:
        """Have a name find the profiles of a model, where it has none of its own: a dated name, another provider's.

        Example:
            >>> registry = CalibrationRegistry("sqlite:///tje.db")
            >>> registry.alias("gpt-4.1-mini-2025-04-14", "gpt-4.1-mini")  # doctest: +SKIP

        Raises:
            RegistryError: it would stand for itself, for another alias or for a second model.
        """
        with changing(self.database) as connection:
            declare_alias(connection, name, model, by=by or whoami(), shown=self.url)
        self._following.refresh()

    def unalias(self, name: str) -> None:
        """Have a name stand for nothing but itself again.

        Raises:
            RegistryError: it is no alias.
        """
        with changing(self.database) as connection:
            withdraw_alias(connection, name, self.url)
        self._following.refresh()

    def aliases(self) -> Mapping[str, str]:
        """Every alias and the model that it stands for, ordered by alias."""
        with self.database.reading() as read:
            return all_aliases(read)

    def report_alarm(self, key: ProfileKey, alarm: Alarm) -> None:
        """Have an alarm about a version of a key stored, soon and for all processes; never waits, never raises.

        This process's look-ups show it at once.
        """
        self._following.report_alarm(key, alarm)

    def store_alarm(self, key: ProfileKey, alarm: Alarm) -> bool:
        """Store an alarm about a version of a key; False where one of its kind holds already.

        Raises:
            RegistryError: it is about no version, or about one that is not there.
        """
        is_new = store_alarm(self.database, key, alarm)
        self._following.refresh()  # the key may be an alias
        return is_new

    def alarms(self, key: ProfileKey | None = None, *, dismissed: bool = False) -> Sequence[StoredAlarm]:
        """The alarms about one key or all, newest first; by choice with those that were dismissed."""
        with self.database.reading() as read:
            return stored_alarms(read, self.url, key, dismissed=dismissed)

    def dismiss(self, key: ProfileKey, *, by: str | None = None) -> int:
        """Have the alarms about a key hold no more; returns how many did."""
        with changing(self.database) as connection:
            held = dismiss_alarms(connection, key, by or whoami())
        self._following.refresh(key)
        return held

    def export_to(
        self, target: str | os.PathLike[str] | IO[bytes], *, keys: Collection[ProfileKey] | None = None
    ) -> int:
        """Write every version of these keys or all, what was active when, and the aliases; returns how many versions.

        As JSON Lines with a checksum. A file is replaced when all of it is written, and is its owner's alone. Alarms
        and decisions stay here.

        Raises:
            ProfileNotFound: one of the keys has no version.
            RegistryError: the file cannot be written, or would be too large to be imported.
        """
        with self.database.reading() as read:
            export = collect_export(read, keys, self.url)
        write_export(export, target)
        return len(export.versions)

    def import_from(
        self, source: str | os.PathLike[str] | IO[bytes], *, promote: bool = False, by: str | None = None
    ) -> ImportReport:
        """Store what :meth:`export_to` wrote, all of it or nothing.

        A key that was never here keeps the numbers of its versions. Where it was, versions that say the same are
        left out and the others get the next numbers.

        Args:
            source: The file.
            promote: Whether what is active in the file becomes active here, too, for keys that are here already, and
                models that are here get its aliases; a key that is new here becomes what it is in the file.
            by: Who imports it.

        Raises:
            UnreadableExport: the file cannot be read, is none, or was changed; the message names the line.
            RegistryError: an alias in it stands for another model here.
        """
        export = read_export(source)
        with changing(self.database) as connection:
            report = store_export(connection, export, promote=promote, by=by or whoami(), shown=self.url)
        self._following.refresh()
        return report

    def close(self) -> None:
        """End the background thread and close the connections; the registry may be used again afterwards."""
        self._following.stop()
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"CalibrationRegistry({self.url!r})"

    def __reduce__(self) -> tuple[object, ...]:
        # Another process opens the database for itself; connections and locks stay here.
        return partial(type(self), refresh_seconds=self._refresh_seconds), (self.database.url.anywhere,)
