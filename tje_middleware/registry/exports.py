"""What a registry holds as a file, to be kept or imported elsewhere."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from pydantic import ValidationError
from sqlalchemy import select

from .._version import __version__
from ..calibration.key import ProfileKey
from ..errors import RegistryDamaged, RegistryError
from ..records.files import replaced
from ..storage import Read
from . import aliases as _aliases
from . import promotions as _promoting
from . import transfer_format
from . import versions as _versions
from .lookup import nothing
from .tables import KEYS
from .transfer_format import ExportedAlias, ExportedPromotion, ExportedVersion, Header


@dataclass(frozen=True)
class Items:
    """The lines of an export but its checksum."""

    header: Header
    versions: list[ExportedVersion]
    promotions: list[ExportedPromotion]
    aliases: list[ExportedAlias]


def items(read: Read, keys: Collection[ProfileKey] | None, shown: str) -> Items:
    """The header, the versions of these keys or all with what was active when, and the aliases of their models.

    Raises:
        ProfileNotFound: one of the keys has no version.
        RegistryDamaged: a profile cannot be read.
    """
    wanted = _every_key(read, shown) if keys is None else list(dict.fromkeys(keys))
    versions = [_exported(read, key, shown) for key in wanted]
    for key, found in zip(wanted, versions, strict=True):
        if not found and keys is not None:
            raise nothing(read, key, shown)
    models = {key.model for key in wanted}
    aliases = [
        ExportedAlias(alias=name, model=model)
        for name, model in _aliases.all_of(read).items()
        if keys is None or model in models
    ]
    flat = [version for found in versions for version in found]
    log = [one for key, found in zip(wanted, versions, strict=True) for one in _log(read, key, found, shown)]
    header = Header(profiles=len(flat), promotions=len(log), aliases=len(aliases), library_version=__version__)
    return Items(header, flat, log, aliases)


def write(found: Items, target: str | os.PathLike[str] | IO[bytes]) -> None:
    """Write items and their checksum; a file is replaced when all of it is there, by one for its owner alone.

    Raises:
        RegistryError: it cannot be written, or would be larger than what can be imported.
    """
    lines = [
        transfer_format.line_of(item) for item in (found.header, *found.versions, *found.promotions, *found.aliases)
    ]
    if (
        len(lines) >= transfer_format.MOST_LINES
        or sum(map(len, lines)) > transfer_format.MOST_BYTES - 100
        or max(map(len, lines)) > transfer_format.MOST_LINE_BYTES
    ):
        raise RegistryError(
            f"an export of {len(lines):,} lines and {sum(map(len, lines)):,} bytes could not be imported again "
            f"(at most {transfer_format.MOST_LINES:,} and {transfer_format.MOST_BYTES:,}): export some of the keys"
        )
    lines.append(transfer_format.checksum_line(hashlib.sha256(b"".join(lines))))
    with _opened(target) as stream:
        stream.writelines(lines)


@contextmanager
def _opened(target: str | os.PathLike[str] | IO[bytes]) -> Iterator[IO[bytes]]:
    if not isinstance(target, (str, os.PathLike)):
        yield target
        return
    path = Path(target)
    if path.exists() and not path.is_file():
        raise RegistryError(f"{path} is no file that an export could replace: name another")
    try:
        with replaced(path) as stream:
            if hasattr(os, "fchmod"):  # as private as the database
                os.fchmod(stream.fileno(), 0o600)
            yield stream
    except OSError as error:
        raise RegistryError(f"{path} cannot be written: {error.strerror or error}") from error


def _every_key(read: Read, shown: str) -> list[ProfileKey]:
    keys = []
    for row in read(select(KEYS.c.key).order_by(KEYS.c.key)):
        key = _versions.key_of(row.key)
        if key is None:
            raise RegistryDamaged(
                f"{shown} holds a key that cannot be read ({row.key[:80]}): it comes from another release of "
                f"tje-middleware: export with that release"
            )
        keys.append(key)
    return keys


def _exported(read: Read, key: ProfileKey, shown: str) -> list[ExportedVersion]:
    return [_line(_versions.stored(row, shown, ()), shown) for row in _versions.all_of(read, key)]


def _log(read: Read, key: ProfileKey, versions: Sequence[ExportedVersion], shown: str) -> Iterator[ExportedPromotion]:
    """What was active when, of the versions that there are."""
    there = {version.version for version in versions}
    for one in _promoting.promotions(read, key):
        before, after = (number if number in there else None for number in (one.from_version, one.to_version))
        if after != one.to_version or before == after:  # all of it is about what was deleted
            continue
        try:
            yield ExportedPromotion(key=key, **{**asdict(one), "from_version": before})
        except ValidationError as error:
            said = error.errors()[0]["msg"]
            raise RegistryDamaged(f"{shown}: a promotion of {key} cannot be exported: {said}") from error


def _line(stored: _versions.StoredVersion, shown: str) -> ExportedVersion:
    try:
        return ExportedVersion(
            key=stored.profile.key,
            version=stored.version,
            is_active=stored.is_active,
            put_at=stored.put_at,
            put_by=stored.put_by,
            source=stored.source,
            library_version=stored.library_version,
            records_fingerprint=stored.records_fingerprint,
            profile=stored.profile,
        )
    except ValidationError as error:
        where = f"version {stored.version} of {stored.profile.key}"
        raise RegistryDamaged(f"{shown}: {where} cannot be exported: {error.errors()[0]['msg']}") from error
