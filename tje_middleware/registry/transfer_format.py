"""An export as a file: JSON Lines with a header, versions, promotions, aliases, and a checksum of all of them.

The file may come from anybody: line and file are bounded before anything is parsed, and every field has its type.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import chain, repeat
from pathlib import Path
from typing import IO, Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from typing_extensions import Self

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


def _without_acting(name: str) -> str:
    if ACTING.search(name):
        raise ValueError("there is a control character in it")
    return name


_Name = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_without_acting)]
_Number = Annotated[int, Field(gt=0, lt=2**31)]  # what a column holds
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

    @model_validator(mode="after")
    def _check_profile(self) -> Self:
        if (self.profile.key, self.profile.version) != (self.key, self.version):
            raise ValueError("the profile is of another key or version than its line")
        if acts(self.model_dump_json()):
            raise ValueError("there is a control character in a text")
        return self


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
    lines.append(_checksum_line(lines))
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
    name, content = _content(source)
    if len(content) > MOST_BYTES:
        raise UnreadableExport(f"{name} has more than {MOST_BYTES:,} bytes; nothing was stored")
    items: list[_Line] = []
    try:
        items.extend(_items(content))  # where it raises, those before the wrong line are in the list
    except ValueError as error:
        place = f", line {len(items) + 1}" if items else " is no file that tje registry export wrote: line 1"
        raise UnreadableExport(f"{name}{place}: {_reason(error)}; nothing was stored") from error
    versions = [item for item in items if isinstance(item, ExportedVersion)]
    return Export(
        versions=sorted(versions, key=lambda version: (version.key.model_dump_json(), version.version)),
        promotions=[item for item in items if isinstance(item, ExportedPromotion)],
        aliases=[item for item in items if isinstance(item, ExportedAlias)],
    )


def _content(source: str | os.PathLike[str] | IO[bytes]) -> tuple[str, bytes]:
    """The name of a file for errors, and what it holds, up to a byte more than is allowed."""
    if not isinstance(source, (str, os.PathLike)):
        return "the file", _read(source)
    path = Path(source)
    if path.exists() and not path.is_file():  # a pipe or a device may never end
        raise UnreadableExport(f"{path} is no file that could be an export")
    try:
        with path.open("rb") as stream:
            return str(path), _read(stream)
    except OSError as error:
        raise UnreadableExport(f"{path} cannot be read: {error.strerror or error}") from error


def _read(stream: IO[bytes]) -> bytes:
    """All of a stream, up to a byte more than is allowed; an unbuffered one gives less at once than is asked for."""
    content = bytearray()
    while len(content) <= MOST_BYTES and (part := stream.read(MOST_BYTES + 1 - len(content))):
        content += part
    return bytes(content)


def _items(content: bytes) -> Iterator[_Line]:
    """What the lines say; the first that is wrong raises ValueError."""
    *lines, rest = content.split(b"\n")
    header = _item(Header, _line(lines, 0))
    count = header.profiles + header.promotions + header.aliases
    if count >= MOST_LINES:
        raise ValueError(f"the file has more than {MOST_LINES:,} lines")
    yield header
    kinds: Iterator[type[_Line]] = chain(
        repeat(ExportedVersion, header.profiles),
        repeat(ExportedPromotion, header.promotions),
        repeat(ExportedAlias, header.aliases),
    )
    seen: set[str] = set()
    for number, kind in enumerate(kinds, 1):
        item = _item(kind, _line(lines, number))
        for what in _told_once(item):
            if what in seen:
                raise ValueError(f"{what} twice")
            seen.add(what)
        if isinstance(item, ExportedPromotion) and item.to_version is not None:
            promoted = _name(item.key, item.to_version)
            if promoted not in seen:
                raise ValueError(f"a promotion of {promoted}, which is not before it")
        yield item
    checksum = _checksum_line(b"%s\n" % line for line in lines[: count + 1])
    if _line(lines, count + 1, is_checksum=True) + b"\n" != checksum:
        raise ValueError("the checksum is that of another file: this one was changed")
    if rest or len(lines) > count + 2:
        raise ValueError("there is something after the checksum")


def _line(lines: Sequence[bytes], number: int, *, is_checksum: bool = False) -> bytes:
    """A line, counted from 0, which is the checksum or is not."""
    if number >= len(lines):
        raise ValueError("the end of the file is missing")
    if len(lines[number]) >= MOST_LINE_BYTES:
        raise ValueError(f"longer than {MOST_LINE_BYTES:,} bytes")
    if lines[number].startswith(_CHECKSUM) != is_checksum:
        raise ValueError("the header counts other profiles, promotions and aliases than the file has")
    return lines[number]


_Item = TypeVar("_Item", bound=_Line)


def _item(kind: type[_Item], line: bytes) -> _Item:
    item = kind.model_validate_json(line, strict=True)
    json.loads(line, parse_int=_refuse_many_digits, object_pairs_hook=_refuse_repetition)
    return item


def _refuse_many_digits(text: str) -> None:
    """Refuse a count that no 64-bit number holds: pydantic takes whole numbers of any size."""
    if len(text) > 19:
        raise ValueError(f"a number of {len(text)} digits")


def _refuse_repetition(pairs: list[tuple[str, object]]) -> None:
    """Refuse an object that another parser could read otherwise."""
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name twice in one object")


def _told_once(item: _Line) -> Iterator[str]:
    """What no other line of the file may say."""
    if isinstance(item, ExportedVersion):
        yield _name(item.key, item.version)
        if item.is_active:
            yield f"an active version of {item.key!r}"
    elif isinstance(item, ExportedAlias):
        yield f"the alias {item.alias!r}"


def _name(key: ProfileKey, version: int) -> str:
    return f"version {version} of {key!r}"


def _checksum_line(lines: Iterable[bytes]) -> bytes:
    return b'%s"%s"}\n' % (_CHECKSUM, hashlib.sha256(b"".join(lines)).hexdigest().encode())


def _reason(error: ValueError) -> str:
    text = str(error)
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        text = ": ".join(part for part in (".".join(map(str, first["loc"])), first["msg"]) if part)
    text = shown(text)  # it may quote the file
    return text if len(text) <= 300 else f"{text[:300]}..."
