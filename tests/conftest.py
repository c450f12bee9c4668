"""What holds for every test."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.postgres import (
    postgres,  # noqa: F401 (fixtures)
    postgres_of_this_run,  # noqa: F401 (fixtures)
    postgres_to_stop,  # noqa: F401 (fixtures)
)
from tje_middleware.registry import cache
from tje_middleware.signals import SIGNALS

# No test is timed: a busy machine takes longer than usual for the same example.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _signals_of_a_test_are_its_own():
    before = dict(SIGNALS)
    yield
    SIGNALS.clear()
    SIGNALS.update(before)


@pytest.fixture(autouse=True)
def _a_busy_machine_may_take_its_time(request):
    """A profile that was not read before is waited for, where the waiting itself is not what is tested."""
    before = cache._LOOKUP_PATIENCE_SECONDS
    if "cache" not in request.node.path.parts:
        cache._LOOKUP_PATIENCE_SECONDS = 20.0
    yield
    cache._LOOKUP_PATIENCE_SECONDS = before
