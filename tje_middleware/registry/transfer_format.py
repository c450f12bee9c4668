"""An export as a file: JSON Lines with a header, versions, promotions, aliases, and a checksum of all of them.

The file may come from anybody: line and file are bounded before anything is parsed, and every field has its type.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    StringConstraints,
    ValidationError,
)

from .._version import __version__
from ..calibration.key import ProfileKey
from ..calibration.profile import CalibrationProfile
from ..errors import RegistryError, UnreadableExport
from ..records.files import replaced
from .tables import ACTING, MOST_PROFILE_BYTES, acts, shown

#: The format; another one is refused.
FORMAT = 1
#: Beside a profile, a line has room for where the profile comes from.
MOST_LINE_BYTES = MOST_PROFILE_BYTES + 64 * 1024
MOST_LINES = 100_000
MOST_BYTES = 64 * 1024 * 1024
_CHECKSUM = b'{"sha256":'
_WRONG_COUNTS = "the header counts other profiles, promotions and aliases than the file has"


def _without_acting(name: str) -> str:
    if ACTING.search(name):
        raise ValueError("there is a control character in it")
    return name


_Name = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_without_acting)]
_Number = Annotated[PositiveInt, Field(le=2**31 - 1)]  # what a column holds
_Time = Annotated[
    AwareDatetime,
    # The first and the last days that Python knows cannot be shown in every time zone.
    Field(ge=datetime(1970, 1, 1, tzinfo=timezone.utc), le=datetime(2200, 1, 1, tzinfo=timezone.utc)),
]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Header(_Line):
    """The first line: how many lines of each kind follow, in this order."""

    tje_export: int = Field(default=FORMAT, ge=FORMAT, le=FORMAT)
    profiles: int = Field(ge=0)
    promotions: int = Field(ge=0)
    aliases: int = Field(ge=0)
    library_version: _Name


class ExportedVersion(_Line):
    """One version of a key with its provenance."""

    key: ProfileKey
    version: _Number
    is_active: bool
    put_at: _Time | None
    put_by: _Name | None
    source: _Name | None
    library_version: _Name | None
    records_fingerprint: _Name | None
    profile: CalibrationProfile


class ExportedPromotion(_Line):
    """One change of which version of a key was active; they are in the order in which they were made."""

    key: ProfileKey
    from_version: _Number | None
    to_version: _Number | None
    action: Literal["put", "promote", "rollback", "import", "delete", "migrate"]
    at: _Time
    by: _Name


class ExportedAlias(_Line):
    """Another name of a model."""

    alias: _Name
    model: _Name


@dataclass(frozen=True)
class Export:
    """What a file holds: versions, oldest first within a key; promotions, in their order; and aliases."""

    versions: list[ExportedVersion]
    promotions: list[ExportedPromotion]
    aliases: list[ExportedAlias]


def write_export(export: Export, target: str | os.PathLike[str] | IO[bytes]) -> None:
    """Write an export; a file is replaced when all of it is there, by one that its owner alone can read.

    Raises:
        RegistryError: it cannot be written, or would be larger than what can be imported.
    """
    header = Header(
        profiles=len(export.versions),
        promotions=len(export.promotions),
        aliases=len(export.aliases),
        library_version=__version__,
    )
    items = (header, *export.versions, *export.promotions, *export.aliases)
    lines = [item.model_dump_json().encode() + b"\n" for item in items]
    size = sum(map(len, lines))
    if len(lines) > MOST_LINES or size > MOST_BYTES - 100 or max(map(len, lines)) > MOST_LINE_BYTES:
        raise RegistryError(
            f"an export of {len(lines):,} lines and {size:,} bytes could not be imported again "
            f"(at most {MOST_LINES:,} and {MOST_BYTES:,}): export some of the keys"
        )
    lines.append(_checksum_line(hashlib.sha256(b"".join(lines))))
    if not isinstance(target, (str, os.PathLike)):
        target.writelines(lines)
        return
    path = Path(target)
    if path.exists() and not path.is_file():
        raise RegistryError(f"{path} is no file that an export could replace: name another")
    try:
        with replaced(path) as stream:
            if hasattr(os, "fchmod"):
                os.fchmod(stream.fileno(), 0o600)
            stream.writelines(lines)
    except OSError as error:
        raise RegistryError(f"{path} cannot be written: {error.strerror or error}") from error


def read_export(source: str | os.PathLike[str] | IO[bytes]) -> Export:
    """Read an export; all of it is right, or it is refused.

    Raises:
        UnreadableExport: the file cannot be read, is none, or was changed; the message names the line.
    """
    with _opened(source) as (stream, name):
        lines = _Lines(stream)
        try:
            return _export(lines)
        except ValueError as error:
            where = f"{name}, line {lines.number}:"
            if lines.number == 1:
                where = f"{name} is no file that tje registry export wrote: line 1:"
            raise UnreadableExport(f"{where} {_reason(error)}; nothing was stored") from error


_Item = TypeVar("_Item", bound=_Line)


class _Lines:
    """The lines of a file, each checked as it is read; ``number`` is that of the last one, from 1."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._size = 0
        self._before = hashlib.sha256()
        self.number = 0

    def read(self, kind: type[_Item]) -> _Item:
        """The next line, which has to be of this kind."""
        line = self._next()
        if line.startswith(_CHECKSUM):
            raise ValueError(_WRONG_COUNTS)
        self._before.update(line)
        item = kind.model_validate_json(line, strict=True)
        json.loads(line, parse_int=_refuse_many_digits, object_pairs_hook=_refuse_repetition)
        return item

    def read_end(self) -> None:
        """The last line, which has to be the checksum of those before."""
        line = self._next()
        if not line.startswith(_CHECKSUM):
            raise ValueError(_WRONG_COUNTS)
        if line != _checksum_line(self._before):
            raise ValueError("the checksum is that of another file: this one was changed")
        if self._stream.read(1):
            raise ValueError("there is something after the checksum")

    def _next(self) -> bytes:
        self.number += 1
        line = self._stream.readline(MOST_LINE_BYTES + 1)
        self._size += len(line)
        if len(line) > MOST_LINE_BYTES:
            raise ValueError(f"longer than {MOST_LINE_BYTES:,} bytes")
        if self._size > MOST_BYTES:
            raise ValueError(_too_large())
        if not line.endswith(b"\n"):
            raise ValueError("the end of the file is missing")
        return line


def _export(lines: _Lines) -> Export:
    header = lines.read(Header)
    if header.profiles + header.promotions + header.aliases >= MOST_LINES:
        raise ValueError(_too_large())
    found = Export([], [], [])
    seen: set[str] = set()

    def once(what: str) -> None:
        if what in seen:
            raise ValueError(f"{what} twice")
        seen.add(what)

    for _ in range(header.profiles):
        version = lines.read(ExportedVersion)
        _check_profile(version)
        once(_name(version.key, version.version))
        if version.is_active:
            once(f"an active version of {version.key!r}")
        found.versions.append(version)
    for _ in range(header.promotions):
        promotion = lines.read(ExportedPromotion)
        if promotion.to_version is not None and _name(promotion.key, promotion.to_version) not in seen:
            raise ValueError(f"a promotion of {_name(promotion.key, promotion.to_version)}, which is not before it")
        found.promotions.append(promotion)
    for _ in range(header.aliases):
        alias = lines.read(ExportedAlias)
        once(f"the alias {alias.alias!r}")
        found.aliases.append(alias)
    lines.read_end()
    found.versions.sort(key=lambda version: (version.key.model_dump_json(), version.version))
    return found


def _check_profile(version: ExportedVersion) -> None:
    if version.profile.key != version.key or version.profile.version != version.version:
        raise ValueError("the profile is of another key or version than its line")
    if acts(version.model_dump_json()):
        raise ValueError("there is a control character in a text")


def _refuse_many_digits(text: str) -> None:
    """Refuse a count that no 64-bit number holds: pydantic takes whole numbers of any size."""
    if len(text) > 19:
        raise ValueError(f"a number of {len(text)} digits")


def _refuse_repetition(pairs: list[tuple[str, object]]) -> None:
    """Refuse an object that another parser could read otherwise."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name twice in one object")


def _name(key: ProfileKey, version: int) -> str:
    return f"version {version} of {key!r}"


def _too_large() -> str:
    return f"the file has more than {MOST_BYTES:,} bytes or {MOST_LINES:,} lines"


def _checksum_line(lines: hashlib._Hash) -> bytes:
    return b'%s"%s"}\n' % (_CHECKSUM, lines.hexdigest().encode())


def _reason(error: ValueError) -> str:
    text = str(error)
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        text = ": ".join(part for part in (".".join(map(str, first["loc"])), first["msg"]) if part)
    text = shown(text)  # it may quote the file
    return text if len(text) <= 300 else f"{text[:300]}..."


@contextmanager
def _opened(source: str | os.PathLike[str] | IO[bytes]) -> Iterator[tuple[IO[bytes], str]]:
    if not isinstance(source, (str, os.PathLike)):
        yield source, "the file"
        return
    path = Path(source)
    if path.exists() and not path.is_file():  # a pipe or a device may never end
        raise UnreadableExport(f"{path} is no file that could be an export")
    try:
        with path.open("rb") as stream:
            yield stream, str(path)
    except OSError as error:
        raise UnreadableExport(f"{path} cannot be read: {error.strerror or error}") from error
