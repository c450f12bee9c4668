"""DatabaseUrl: reading the URL of a database, and showing it without its secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from ..errors import RegistryError

_SQLITE = {"sqlite", "sqlite+pysqlite"}
_POSTGRES = {"postgresql", "postgres", "postgresql+psycopg"}
_HELP = "a file is sqlite:///path/to/tje.db, a server postgresql+psycopg://user@host/database"
_HIDDEN = "***"
_SECRET_SIGNS = ("pass", "secret", "token", "key")
# The password of a URL within a text; it ends before the last @, as a password may contain one.
_PASSWORD = re.compile(r"((?:://|//|^|['\"\s])[^/?#:@\s]*:(?!//))([^\s]*)@")
_QUERY_SECRET = re.compile(r"([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)[^&#\s]*", re.IGNORECASE)
# The password of a URL that could not be read, in which anything may be a part of the password.
_PASSWORD_OF_ALL = re.compile(r"((?::?//)?[^/:@]*:)(.*)@", re.DOTALL)
_SECRET_OF_ALL = re.compile(r"\?.*", re.DOTALL)


@dataclass(frozen=True)
class DatabaseUrl:
    """A URL whose password is hidden in ``repr``, ``str``, errors and logs.

    Attributes:
        shown: The URL with its secrets hidden.
        value: The URL for the driver; a file has its absolute path, as the process may change its folder.
    """

    shown: str
    value: URL = field(repr=False)

    @classmethod
    def parse(cls, url: str) -> DatabaseUrl:
        """Read a URL.

        Raises:
            RegistryError: the URL is malformed, or names a database that is not supported.
        """
        try:
            value = make_url(url)
        except (ArgumentError, ValueError, TypeError):
            # Not chained: the cause quotes the URL with its secrets.
            raise RegistryError(f"{_unread(str(url))!r} is no registry URL; {_HELP}") from None
        if "@" in f"{value.host}{value.database}" and value.drivername not in _SQLITE:
            raise RegistryError(
                f"{_unread(url)!r} has more than one @: write those of its password as %40, and its slashes as %2F"
            )
        if value.drivername in _SQLITE:
            return cls(_shown(value, url), _with_file(value, url))
        if value.drivername in _POSTGRES:
            return cls(_shown(value, url), value.set(drivername="postgresql+psycopg"))
        raise RegistryError(f"registries are kept in SQLite or PostgreSQL, not in {value.drivername!r}; {_HELP}")

    def __str__(self) -> str:
        return self.shown

    @property
    def is_sqlite(self) -> bool:
        """Whether the URL names a SQLite file."""
        return self.value.drivername in _SQLITE

    @property
    def path(self) -> Path:
        """The file that the URL names."""
        return Path(str(self.value.database))

    @property
    def anywhere(self) -> str:
        """The URL with its secrets and an absolute path, for a process in another folder."""
        return self.value.render_as_string(hide_password=False)

    def scrubbed(self, text: str) -> str:
        """A driver's text without this URL's secrets."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            text = text.replace(secret, _HIDDEN)
        return hidden(text)

    def _secrets(self) -> set[str]:
        given = [str(self.value.password or "")]
        for name, values in self.value.query.items():
            if _is_secret(name):
                given += [values] if isinstance(values, str) else list(values)
        # A driver may quote them in the form that they have in a URL.
        return {form for secret in given if secret for form in (secret, quote(secret, safe=""), quote_plus(secret))}


def _shown(value: URL, url: str) -> str:
    """The URL as it was given, where it has no secrets; else the URL as it was read, with its secrets hidden."""
    secret_names = [name for name in value.query if _is_secret(name)]
    if value.password is None and not secret_names:
        return url
    query = {name: _HIDDEN if name in secret_names else values for name, values in value.query.items()}
    return value.set(query=query).render_as_string().replace(quote_plus(_HIDDEN), _HIDDEN)


def _is_secret(name: str) -> bool:
    return any(sign in name.lower() for sign in _SECRET_SIGNS)


def _unread(url: str) -> str:
    """A URL that could not be read, without anything that may be a secret."""
    scheme, separator, rest = url.rpartition("://") if "://" in url else ("", "", url)
    if "@" in rest:
        rest = _PASSWORD_OF_ALL.sub(rf"\g<1>{_HIDDEN}@", rest, count=1)
    return f"{scheme}{separator}{_SECRET_OF_ALL.sub(f'?{_HIDDEN}', rest)}"


def hidden(text: str) -> str:
    """A text with the passwords of the URLs in it hidden."""
    return _QUERY_SECRET.sub(rf"\g<1>{_HIDDEN}", _PASSWORD.sub(rf"\g<1>{_HIDDEN}@", text))


def _with_file(value: URL, url: str) -> URL:
    if not value.database or value.database.startswith((":memory:", "file:")):
        raise RegistryError(
            f"{_shown(value, url)!r} names no file by its path, and a registry in memory is shared with nobody; "
            f"a file is sqlite:///path/to/tje.db"
        )
    return value.set(database=str(Path(value.database).absolute()))
