"""What holds for every test."""

from __future__ import annotations

import pytest

from tests.postgres import postgres, postgres_of_this_run, postgres_to_stop  # noqa: F401 (fixtures)
from tje_middleware.signals import SIGNALS


@pytest.fixture(autouse=True)
def _signals_of_a_test_are_its_own():
    before = dict(SIGNALS)
    yield
    SIGNALS.clear()
    SIGNALS.update(before)
