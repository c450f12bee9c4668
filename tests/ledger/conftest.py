from __future__ import annotations

import pytest

from tje_middleware.storage import Database


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'tje.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def any_url(request, url):
    """Of an empty database of each kind."""
    return url if request.param == "sqlite" else request.getfixturevalue("postgres").url()


@pytest.fixture
def rows():
    """What a table of a database holds."""

    def held(url, table):
        database = Database(url)
        try:
            with database.reading() as read:
                return [dict(row._mapping) for row in read(table.select())]
        finally:
            database.close()

    return held
