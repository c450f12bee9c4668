"""An export, read from a file that nobody vouches for: believed when all of it is right, and refused otherwise."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from ..calibration.key import ProfileKey
from ..errors import UnreadableExport
from . import transfer_format
from . import versions as _versions
from .texts import acts, shown
from .transfer_format import ExportedAlias, ExportedPromotion, ExportedVersion, Header

_END_MISSING = "the end of the file is missing"


@dataclass(frozen=True)
class Export:
    """What a file holds: versions, oldest first within a key; promotions, in their order; and aliases."""

    versions: list[ExportedVersion] = field(default_factory=list)
    promotions: list[ExportedPromotion] = field(default_factory=list)
    aliases: list[ExportedAlias] = field(default_factory=list)


def read_export(source: str | os.PathLike[str] | IO[bytes]) -> Export:
    """Read an export.

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
            raise UnreadableExport(f"{where} {_said(error)}; nothing was stored") from error


class _Lines:
    """The lines before the checksum, which holds when the last of them has been given."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.number = 0

    def __iter__(self) -> Iterator[bytes]:
        read, before = 0, hashlib.sha256()
        while True:
            self.number += 1
            line = self._stream.readline(transfer_format.MOST_LINE_BYTES + 1)
            read += len(line)
            if len(line) > transfer_format.MOST_LINE_BYTES:
                raise ValueError(f"longer than {transfer_format.MOST_LINE_BYTES:,} bytes")
            if read > transfer_format.MOST_BYTES or self.number > transfer_format.MOST_LINES:
                most = f"{transfer_format.MOST_BYTES:,} bytes or {transfer_format.MOST_LINES:,} lines"
                raise ValueError(f"the file has more than {most}")
            if not line.endswith(b"\n"):
                raise ValueError(_END_MISSING)
            if line.startswith(transfer_format.CHECKSUM):
                if line != transfer_format.checksum_line(before):
                    raise ValueError("the checksum is that of another file: this one was changed")
                if self._stream.read(1):
                    raise ValueError("there is something after the checksum")
                return
            before.update(line)
            yield line


def _export(lines: _Lines) -> Export:
    header: Header | None = None
    found = Export()
    seen: set[str] = set()
    for line in lines:
        item = _item(line, is_first=header is None)
        if isinstance(item, Header):
            header = item
            continue
        for once in _once(item):
            if once in seen:
                raise ValueError(f"{once} twice")
            seen.add(once)
        if isinstance(item, ExportedAlias):
            found.aliases.append(item)
        elif isinstance(item, ExportedPromotion):
            if item.to_version is not None and _name(item.key, item.to_version) not in seen:
                raise ValueError(f"a promotion of {_name(item.key, item.to_version)}, which is not before it")
            found.promotions.append(item)
        else:
            found.versions.append(item)
    there = (len(found.versions), len(found.promotions), len(found.aliases))
    if header is None or (header.profiles, header.promotions, header.aliases) != there:
        raise ValueError("the header counts other profiles, promotions and aliases than the file has")
    found.versions.sort(key=lambda version: (_versions.canonical(version.key), version.version))
    return found


def _item(line: bytes, *, is_first: bool) -> Header | ExportedVersion | ExportedPromotion | ExportedAlias:
    names = transfer_format.check_json(line)
    if is_first:
        return Header.model_validate_json(line)
    if "alias" in names:
        return ExportedAlias.model_validate_json(line)
    if "action" in names:
        return ExportedPromotion.model_validate_json(line)
    version = ExportedVersion.model_validate_json(line, strict=True)
    if version.profile.key != version.key or version.profile.version != version.version:
        raise ValueError("the profile is of another key or version than its line")
    if acts(version.model_dump_json()):
        raise ValueError("there is a control character in a text")
    return version


def _once(item: ExportedVersion | ExportedPromotion | ExportedAlias) -> Iterator[str]:
    """What there may be only one of in a file."""
    if isinstance(item, ExportedAlias):
        yield f"the alias {item.alias!r}"
    if not isinstance(item, ExportedVersion):
        return
    yield _name(item.key, item.version)
    if item.is_active:
        yield f"an active version of {item.key!r}"


def _name(key: ProfileKey, version: int) -> str:
    return f"version {version} of {key!r}"


def _said(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        text = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    elif isinstance(error, UnicodeDecodeError):
        text = "no UTF-8"
    else:
        text = str(error)
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
