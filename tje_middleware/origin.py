"""Who changes something in a registry, for its provenance."""

from __future__ import annotations

import getpass
import os
import platform


def whoami() -> str:
    """User, host and process, as ``user@host:pid``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container whose user has no name
        user = "?"
    return f"{user}@{platform.node()}:{os.getpid()}"
