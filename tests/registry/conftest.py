"""A registry on each of the databases."""

from __future__ import annotations

import pytest

from tje_middleware import CalibrationRegistry


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/tje.db"
    return request.getfixturevalue("postgres").url()


@pytest.fixture
def registry(url):
    with CalibrationRegistry(url) as opened:
        yield opened


@pytest.fixture
def other_url(request, url, tmp_path):
    """The URL of a second empty database of the same kind."""
    if url.startswith("sqlite"):
        return f"sqlite:///{tmp_path}/other.db"
    return request.getfixturevalue("postgres").url()
