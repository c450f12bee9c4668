"""The tables of the registry, and which texts and keys may stand in them."""

from __future__ import annotations

import re

from sqlalchemy import Column, Index, Integer, PrimaryKeyConstraint, String, Table, Text

from ..calibration.key import ProfileKey
from ..errors import RegistryError
from ..storage.schema import COUNTED, METADATA, UtcDateTime

# One row a version, never changed. The key is its canonical JSON, so that a key's optional parts take part in
# uniqueness.
PROFILES = Table(
    "tje_profiles",
    METADATA,
    Column("key", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("put_at", UtcDateTime),  # NULL in rows of before migration 0002, as are the next four
    Column("put_by", String),
    Column("source", String),
    Column("library_version", String),
    Column("records_fingerprint", String),
    PrimaryKeyConstraint("key", "version"),
)

# One row a key: which version is active, and the last number given, so that no number is given twice.
KEYS = Table(
    "tje_keys",
    METADATA,
    Column("key", String, primary_key=True),
    Column("last_version", Integer, nullable=False),
    Column("active_version", Integer),  # NULL: candidates only
)

# What was active when; a rollback goes back along it.
PROMOTIONS = Table(
    "tje_promotions",
    METADATA,
    Column("id", COUNTED, primary_key=True, autoincrement=True),
    Column("key", String, nullable=False),
    Column("from_version", Integer),
    Column("to_version", Integer),
    Column("action", String, nullable=False),  # put, promote, rollback, import, delete, migrate
    Column("at", UtcDateTime, nullable=False),
    Column("by", String, nullable=False),
    Index("tje_promotions_by_key", "key", "id"),
)

ALIASES = Table(
    "tje_aliases",
    METADATA,
    Column("alias", String, primary_key=True),
    Column("model", String, nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("by", String, nullable=False),
)

# An alarm about one version of a key holds until it is dismissed or another version is promoted.
ALARMS = Table(
    "tje_alarms",
    METADATA,
    Column("id", COUNTED, primary_key=True, autoincrement=True),
    Column("key", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("kind", String, nullable=False),  # drift, risk
    Column("detail", Text, nullable=False),
    Column("evidence", Text, nullable=False),  # JSON, numbers only
    Column("raised_at", UtcDateTime, nullable=False),
    Column("raised_by", String, nullable=False),
    Column("dismissed_at", UtcDateTime),
    Column("dismissed_by", String),
    Index("tje_alarms_by_key", "key", "version"),
)

#: A larger profile is refused, as it could not be exported.
MOST_PROFILE_BYTES = 4 * 1024 * 1024 - 64 * 1024
# PostgreSQL's indexes take no more than about 2,700 bytes of a text.
_MOST_BYTES = 2000
# Characters by which a text could deceive whoever reads it on a terminal: control characters, ends of lines, and
# those that turn the direction of what follows.
_ACTING = "\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
ACTING = re.compile(rf"[\x00-\x1f{_ACTING}]")
# The same in JSON as pydantic writes it, where texts may have line breaks and tabs.
_ACTING_IN_JSON = re.compile(rf"[{_ACTING}]|(?<!\\)(?:\\\\)*\\(?:[bfr]|u00[01])")


def storable(what: str, value: str) -> str:
    """A name that every database can keep, and find again.

    Raises:
        RegistryError: it is empty, too long, or has characters that cannot be stored or shown.
    """
    if not value:
        raise RegistryError(f"{what} is empty")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise RegistryError(f"{what} is no text that can be stored: {value!r}") from None
    if ACTING.search(value):
        raise RegistryError(f"{what} has a control character: {value!r}")
    if size > _MOST_BYTES:
        raise RegistryError(
            f"{what} has {size:,} bytes, and at most {_MOST_BYTES:,} can be looked up: shorten it ({value[:40]!r}...)"
        )
    return value


def storable_key(key: ProfileKey) -> str:
    """A key as the database knows it; RegistryError where one of its names, or all of it, cannot be stored."""
    for name in ("model", "task", "signal"):
        storable(f"the {name}'s name", getattr(key, name))
    if key.prompt_fingerprint:
        storable("the prompt's fingerprint", key.prompt_fingerprint)
    return storable("the key", key.model_dump_json())


def acts(document: str) -> bool:
    """Whether a text in a JSON document of pydantic's would be obeyed by a terminal."""
    return _ACTING_IN_JSON.search(document) is not None


def shown(text: str) -> str:
    """A text of somebody else's as it may be shown."""
    return ACTING.sub(" ", text)
