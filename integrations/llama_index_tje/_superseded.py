"""Gates within one another: what a rejected draft cost is counted by all, and speaks for nobody's answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from tje_middleware.capture import ModelCall, RunId
from tje_middleware.scope import Scoped, innermost, scope

from ._capture.captured import CapturedEntropy
from ._capture.handler import capture_entropy


class Superseded(Scoped):
    """The calls within one draft whose answer was replaced by another one, by a gate further in."""

    def __init__(self) -> None:
        self._runs: set[RunId] = set()

    def without(self, calls: Iterable[ModelCall]) -> tuple[ModelCall, ...]:
        """The calls that may speak for the draft."""
        return tuple(call for call in calls if call.run_id not in self._runs)

    def add(self, calls: Iterable[ModelCall]) -> None:
        """Take calls whose answer was replaced."""
        runs = {call.run_id for call in calls}
        within: Scoped | None = self
        while isinstance(within, Superseded):
            within._runs |= runs
            within = within._around


_replacing: ContextVar[Superseded | None] = ContextVar("tje_superseded", default=None)


@contextmanager
def superseding() -> Iterator[Superseded]:
    """Around a draft: hears of the calls in it that were made for nothing."""
    with scope(_replacing, lambda _around: Superseded()) as superseded:
        yield superseded


@contextmanager
def replaceable() -> Iterator[CapturedEntropy | None]:
    """Around a call whose answer may be replaced: listens to it, where a gate around this one would want to know."""
    if innermost(_replacing.get()) is None:
        yield None
        return
    with capture_entropy() as captured:
        yield captured


def supersede(calls: Iterable[ModelCall]) -> None:
    """Tell the gates around this one that an answer is not by these calls."""
    around = innermost(_replacing.get())
    if around is not None:
        around.add(calls)
