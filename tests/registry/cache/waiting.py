"""What a registry does in the background."""

from __future__ import annotations

import threading

from tests.waiting import wait_until
from tje_middleware import CalibrationRegistry, ProfileKey


def background_threads() -> list[str]:
    """The names of the threads that a registry has started."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("tje-registry")]


def until_known(registry: CalibrationRegistry, key: ProfileKey) -> None:
    """Have a registry know a key's profile, however long a busy machine takes for the first look-up."""
    wait_until(lambda: registry.lookup(key).profile is not None)
