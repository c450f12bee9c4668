"""The lines of an export: a header, versions, promotions and aliases, and a checksum over all lines before it.

What comes from a file is believed in nothing: sizes and depths are bounded before anything is parsed, and every
field has its type.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from datetime import datetime, timezone
from typing import Annotated, Literal, NoReturn

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, PositiveInt, StringConstraints

from ..calibration.key import ProfileKey
from ..calibration.profile import CalibrationProfile
from .texts import ACTING

#: The format; another one is refused.
FORMAT = 1
#: A line of a file that is imported has at most so many bytes,
MOST_LINE_BYTES = 4 * 1024 * 1024
#: a file at most so many lines,
MOST_LINES = 100_000
#: and at most so many bytes altogether.
MOST_BYTES = 64 * 1024 * 1024
#: and a profile leaves room on its line for where it comes from.
MOST_PROFILE_BYTES = MOST_LINE_BYTES - 64 * 1024
#: Higher numbers of versions are not kept by an import: there would be no room for those that follow.
MOST_VERSIONS = 1_000_000
#: How the last line begins.
CHECKSUM = b'{"sha256":'
#: Brackets within brackets; a profile has six.
MOST_DEPTH = 32


def _without_acting(name: str) -> str:
    if ACTING.search(name):
        raise ValueError("there is a control character in it")
    return name


_STRICT = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
_Name = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_without_acting)]
_Number = Annotated[PositiveInt, Field(le=2**31 - 1)]  # what a column holds
_Time = Annotated[
    AwareDatetime,
    # What lies further off has no place in every zone.
    Field(ge=datetime(1970, 1, 1, tzinfo=timezone.utc), le=datetime(2200, 1, 1, tzinfo=timezone.utc)),
]


class Header(BaseModel):
    """The first line."""

    model_config = _STRICT

    tje_export: int = Field(default=FORMAT, ge=FORMAT, le=FORMAT)
    profiles: int = Field(ge=0, le=MOST_LINES)
    promotions: int = Field(ge=0, le=MOST_LINES)
    aliases: int = Field(ge=0, le=MOST_LINES)
    library_version: _Name


class ExportedVersion(BaseModel):
    """One version of a key with its provenance."""

    model_config = _STRICT

    key: ProfileKey
    version: _Number
    is_active: bool
    put_at: _Time | None
    put_by: _Name | None
    source: _Name | None
    library_version: _Name | None
    records_fingerprint: _Name | None
    profile: CalibrationProfile


class ExportedPromotion(BaseModel):
    """One change of which version of a key was active; they are in the order in which they were made."""

    model_config = _STRICT

    key: ProfileKey
    from_version: _Number | None
    to_version: _Number | None
    action: Literal["put", "promote", "rollback", "import", "delete", "migrate"]
    at: _Time
    by: _Name


class ExportedAlias(BaseModel):
    """Another name of a model."""

    model_config = _STRICT

    alias: _Name
    model: _Name


def line_of(item: BaseModel) -> bytes:
    """An item as a line."""
    return item.model_dump_json().encode() + b"\n"


def checksum_line(lines: hashlib._Hash) -> bytes:
    """The last line, from the SHA-256 of all before it."""
    return b'%s"%s"}\n' % (CHECKSUM, lines.hexdigest().encode())


def check_json(line: bytes) -> dict[str, object]:
    """The object on a line, if it is JSON as strict as it was written.

    Raises:
        ValueError: it is none, too deep, or has a number that is none, is too long, or a name twice.
    """
    depth = 0
    # Without escapes and strings, as the brackets in them are text.
    structure = _STRING.sub(b"", line.replace(rb"\\", b"").replace(rb"\"", b""))
    for bracket in structure.translate(None, delete=_NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > MOST_DEPTH:
            raise ValueError(f"more than {MOST_DEPTH} brackets within brackets")
    item = json.loads(
        line.decode(),
        object_pairs_hook=_once_each,
        parse_constant=_no_number,
        parse_int=_whole,
        parse_float=_finite,
    )
    if not isinstance(item, dict):
        raise ValueError("no object in braces")  # noqa: TRY004 (of a file's contents, not of an argument)
    return item


_STRING = re.compile(rb'"[^"]*"?')
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _once_each(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice in one object")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _whole(text: str) -> int:
    if len(text) > 19:  # as long as a 64-bit one
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is larger than any number")
    return number
