from __future__ import annotations

from pathlib import Path

import pytest

from tests.samples import profile
from tje_middleware import CalibrationRegistry


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path: Path) -> str:
    is_file = request.param == "sqlite"
    return f"sqlite:///{tmp_path}/tje.db" if is_file else request.getfixturevalue("postgres").url_with_password()


@pytest.fixture
def store(url):
    """A registry whose key has two versions that were active and a candidate."""
    with CalibrationRegistry(url) as made:
        made.put(profile(0.5), by="ada")
        made.put(profile(0.6, verdict="weak"), by="ben")
        made.put(profile(0.7), candidate=True, source="recalibrated", by="eve")
        yield made
