"""What model calls spent, as far as their provider said."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar


@dataclass(frozen=True)
class TokenUsage:
    """Tokens of one or more model calls; a sum of usages is a usage.

    Attributes:
        input_tokens: Tokens read (tokens).
        output_tokens: Tokens written (tokens), thinking included where the provider counts it.
        calls: Model calls that this covers.
        partly_known: How many of them did not say all: a draft that was stopped is known by what came of it. The
            numbers are then a lower bound.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    calls: int = 0
    partly_known: int = 0

    def __add__(self, other: TokenUsage) -> TokenUsage:
        return TokenUsage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.calls + other.calls,
            self.partly_known + other.partly_known,
        )

    @property
    def total_tokens(self) -> int:
        """Read and written together (tokens)."""
        return self.input_tokens + self.output_tokens


def counted(usage: TokenUsage | None) -> TokenUsage | None:
    """What was counted; None where nothing was, as of a client that no framework sees: 0 tokens would be a claim."""
    return None if usage == TokenUsage() else usage


def usage_of(input_tokens: int | None, output_tokens: int | None) -> TokenUsage:
    """The usage of one call, of which either number may not be known."""
    return TokenUsage(
        input_tokens=input_tokens or 0,
        output_tokens=output_tokens or 0,
        calls=1,
        partly_known=int(input_tokens is None or output_tokens is None),
    )


# A call may be reported twice, by a scope within this one and directly, but at once.
_REMEMBERED = 1_024
#: Runs and calls that are never said to have ended must not pile up; far more than are ever open at once.
MOST_OPEN = 10_000
Key = TypeVar("Key")
Value = TypeVar("Value")


class SpendingLog:
    """The sum of what model calls spent, each run counted once; threads may share it.

    A call that has failed, was stopped, or is still running counts with what came of it, as partly known.

    Example:
        >>> log = SpendingLog()
        >>> log.start("r1"); log.start("r2")
        >>> log.end("r1", input_tokens=10, output_tokens=4)
        >>> log.wrote("r2", 3)
        >>> log.usage
        TokenUsage(input_tokens=10, output_tokens=7, calls=2, partly_known=1)

    Args:
        parent: The log of the scope around this one, which counts every call, too.
    """

    def __init__(self, parent: SpendingLog | None = None) -> None:
        self.parent = parent
        self._lock = threading.Lock()
        self._written: dict[Hashable, int] = {}  # by calls that are running (tokens)
        self._settled: dict[Hashable, None] = {}
        self._total = TokenUsage()

    @property
    def usage(self) -> TokenUsage:
        """All of it so far."""
        with self._lock:
            running = TokenUsage(0, sum(self._written.values()), len(self._written), len(self._written))
            return self._total + running

    def start(self, run_id: Hashable) -> None:
        """A model is being called."""
        with self._lock:
            self._settled.pop(run_id, None)  # users may give several runs the same id, one after the other
            self._written.setdefault(run_id, 0)
            if len(self._written) > MOST_OPEN:
                self._give_up_oldest()
        if self.parent is not None:
            self.parent.start(run_id)

    def wrote(self, run_id: Hashable, tokens: int) -> None:
        """Some of its answer has come (tokens)."""
        with self._lock:
            if run_id in self._written:
                self._written[run_id] += tokens

    def end(self, run_id: Hashable, *, input_tokens: int | None = None, output_tokens: int | None = None) -> None:
        """The call has ended well; of either number None where the provider does not say."""
        if output_tokens is None:
            self.fail(run_id, input_tokens=input_tokens)
        else:
            self.settle(run_id, usage_of(input_tokens, output_tokens))

    def fail(self, run_id: Hashable, *, input_tokens: int | None = None, output_tokens: int | None = None) -> None:
        """The call has failed or was stopped; the numbers are what was said until then."""
        self.settle(run_id, self.lower_bound(run_id, input_tokens, output_tokens))

    def settle(self, run_id: Hashable, usage: TokenUsage) -> bool:
        """Count a call that is over; returns False where it was counted before."""
        with self._lock:
            self._written.pop(run_id, None)
            is_new = run_id not in self._settled
            if is_new:
                self._count(run_id, usage)
        if self.parent is not None:
            self.parent.settle(run_id, usage)
        return is_new

    def lower_bound(self, run_id: Hashable, input_tokens: int | None, output_tokens: int | None) -> TokenUsage:
        """What a call has spent at least, of which not all is known."""
        written = max(self._written.get(run_id, 0), output_tokens or 0)
        return TokenUsage(input_tokens or 0, written, calls=1, partly_known=1)

    def _count(self, run_id: Hashable, usage: TokenUsage) -> None:
        self._total += usage
        self._settled[run_id] = None
        drop_oldest(self._settled, _REMEMBERED)

    def _give_up_oldest(self) -> None:
        oldest = next(iter(self._written))
        self._count(oldest, TokenUsage(0, self._written.pop(oldest), calls=1, partly_known=1))


def drop_oldest(kept: dict[Key, Value], most: int) -> int:
    """Let go of the oldest entries beyond ``most``; returns how many."""
    oldest = list(islice(kept, max(len(kept) - most, 0)))
    for key in oldest:
        del kept[key]
    return len(oldest)
