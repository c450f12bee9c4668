"""Which stream's code is running right now: what it calls lazily is called as a part of its own call."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Mapping
from types import AsyncGeneratorType, FrameType, GeneratorType
from typing import Any, TypeAlias, TypeGuard

Stream: TypeAlias = "GeneratorType[Any, Any, Any] | AsyncGeneratorType[Any, Any]"


def is_stream(result: object) -> TypeGuard[Stream]:
    """Whether what a method gave back is a stream that nobody has read from yet."""
    return isinstance(result, (GeneratorType, AsyncGeneratorType))


def is_over(stream: Stream | None) -> bool:
    """Whether nothing more can come of it: it was read to its end, was closed, has failed, or is gone."""
    return stream is None or (stream.gi_frame if isinstance(stream, GeneratorType) else stream.ag_frame) is None


def running_stream(streams: Mapping[str, weakref.ref[Stream]]) -> str | None:
    """The name of the innermost stream that the caller is called by; None where it is called by none.

    No context tells: a generator runs in the context of whoever reads from it, which is that of anything else that
    the reader does between two reads. The stack tells: frames of the stream are on it only while it runs.
    """
    # Of several names of one stream the first is the innermost: who passed it on has named it later.
    running = {
        frame: name
        for name, stream in reversed(list(streams.items()))
        if (frame := _running_frame(stream())) is not None
    }
    caller: FrameType | None = sys._getframe(1) if running else None
    while caller is not None and caller not in running:
        caller = caller.f_back
    return None if caller is None else running[caller]


def _running_frame(stream: Stream | None) -> FrameType | None:
    # Asked first whether it runs: the frame of one that rests would have to be made up.
    if isinstance(stream, GeneratorType):
        return stream.gi_frame if stream.gi_running else None
    if isinstance(stream, AsyncGeneratorType):
        return stream.ag_frame if stream.ag_running else None
    return None
