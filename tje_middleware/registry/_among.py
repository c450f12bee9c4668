"""Queries about many keys at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import ColumnElement, Row, Select

from ..database import Read
from ..keys import ProfileKey
from . import _versions

# A query takes so many values everywhere: SQLite before 3.32 has room for 999.
_MOST_AT_ONCE = 500


def among(
    read: Read, query: Select[Any], column: ColumnElement[str], keys: Iterable[ProfileKey]
) -> Iterator[Row[Any]]:
    """The rows of a query whose column is one of these keys, read with as few queries as there can be."""
    wanted = [_versions.canonical(key) for key in keys]
    for start in range(0, len(wanted), _MOST_AT_ONCE):
        yield from read(query.where(column.in_(wanted[start : start + _MOST_AT_ONCE])))
