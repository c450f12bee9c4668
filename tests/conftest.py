"""What holds for every test."""

from __future__ import annotations

import pytest

from tje_middleware.signals import SIGNALS


@pytest.fixture(autouse=True)
def _signals_of_a_test_are_its_own():
    before = dict(SIGNALS)
    yield
    SIGNALS.clear()
    SIGNALS.update(before)
