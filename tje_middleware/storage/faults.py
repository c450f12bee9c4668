"""Faults: errors of database drivers in the library's words, with a remedy."""

from __future__ import annotations

import re

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from ..errors import RegistryDamaged, RegistryError, RegistryUnavailable, SchemaMismatch
from .url import DatabaseUrl

DAMAGE_REMEDY = "the file is damaged or not a registry: move it away and calibrate anew, or restore a copy"
_NO_DATABASE_REMEDY = "name another file; if it was a registry, it is damaged: restore a copy, or calibrate anew"
_FOLDER_REMEDY = "it is a folder: name a file in it"

# Messages of the databases (regular expressions), the error to raise and its remedy; the first match counts.
_REMEDIES: tuple[tuple[tuple[str, ...], type[RegistryError], str], ...] = (
    (("not a database",), RegistryDamaged, _NO_DATABASE_REMEDY),
    (("malformed", "no such column", "no column named", "could not decode"), RegistryDamaged, DAMAGE_REMEDY),
    (
        ("readonly", "read-only"),
        RegistryUnavailable,
        "it cannot be written: check the rights of the file and its folder, or of the database's role",
    ),
    (("unable to open",), RegistryUnavailable, "check that its folder exists and may be read and written"),
    (
        ("disk is full", "disk i/o", "no space left", "disk full"),
        RegistryUnavailable,
        "the disk may be full: make room; what was stored before is intact",
    ),
    (("database is locked", "table is locked"), RegistryUnavailable, "another process holds it: try again"),
    (
        ("lock timeout", "statement timeout"),
        RegistryUnavailable,
        "another process holds it, or the server is overloaded: try again",
    ),
    (
        ("resolve host", "name or service not known", "translate host name", "getaddrinfo failed", "name resolution"),
        RegistryUnavailable,
        "check the host in the URL, and that this machine can look it up",
    ),
    (
        ("invalid connection option", "invalid uri query parameter", r"invalid \w+ value: ", "bad value for"),
        RegistryUnavailable,
        "check what follows the ? in the URL",
    ),
    (
        ("password authentication", "no password supplied", "no pg_hba.conf entry", 'role "'),
        RegistryUnavailable,
        "check the user and its password in the URL, and the role's rights",
    ),
    (("permission denied",), RegistryUnavailable, "the role may not do this: grant it, or name another role"),
    (
        (
            "connection refused",
            "could not connect",
            "timeout expired",
            "connection is bad",
            "server closed",
            "terminat",
        ),
        RegistryUnavailable,
        "check that the server runs and can be reached from here",
    ),
    ((r'database "[^"]*" does not exist',), RegistryUnavailable, "check the name of the database in the URL"),
    (
        (r"(relation|column) .*does not exist", "no such table"),
        SchemaMismatch,
        "its tables are not as this release needs them: tje registry doctor says what is wrong, and "
        "tje registry migrate brings those of an earlier release up to date",
    ),
)


def explained(url: DatabaseUrl, error: SQLAlchemyError) -> RegistryError:
    """The library's error for a driver's error, with a remedy and without secrets."""
    said = url.scrubbed(str(error.orig if isinstance(error, DBAPIError) else error)).strip()
    said = " ".join(said.split())
    if url.is_sqlite and url.path.is_dir():
        return RegistryUnavailable(f"{url}: {said}; {_FOLDER_REMEDY}")
    for signs, kind, remedy in _REMEDIES:
        if any(re.search(sign, said.lower()) for sign in signs):
            return kind(f"{url}: {said}; {remedy}")
    return RegistryUnavailable(f"{url}: {said}")


def holds_secret(url: DatabaseUrl, error: BaseException) -> bool:
    """Whether the text of an error, as a traceback prints it, contains a secret."""
    return url.scrubbed(str(error)) != str(error)
