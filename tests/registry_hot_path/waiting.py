"""Waiting for what happens in the background, without a clock to fail on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tje_middleware import CalibrationRegistry, ProfileKey


def wait_until(true: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until something is true; fails when it has not become so for far longer than it takes."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def background_threads() -> list[str]:
    """The names of the threads that a registry has started."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tje-registry")]


def until_known(registry: CalibrationRegistry, key: ProfileKey) -> None:
    """Have a registry know a key's profile, however long a busy machine takes for the first look-up."""
    wait_until(lambda: registry.lookup(key).profile is not None)
