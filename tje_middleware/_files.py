"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO


@contextmanager
def replaced(path: str | PathLike[str]) -> Iterator[IO[bytes]]:
    """A new file beside ``path`` that takes its place when the block ends well; until then the old one stays.

    Raises:
        OSError: the file cannot be written.
    """
    target = Path(os.path.realpath(path))  # through a link, so that the link stays
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    stream = unfinished.open("xb")
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
