"""Usage: the tokens that model calls spent, as far as their providers report them."""

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
        partly_known: The number of calls whose tokens are not all known, such as a draft that was stopped; the
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
    """The usage, or None where no call was counted, which does not mean that no tokens were spent."""
    return None if usage == TokenUsage() else usage


def usage_of(input_tokens: int | None, output_tokens: int | None) -> TokenUsage:
    """The usage of one call; a number that is None is unknown."""
    return TokenUsage(
        input_tokens=input_tokens or 0,
        output_tokens=output_tokens or 0,
        calls=1,
        partly_known=int(input_tokens is None or output_tokens is None),
    )


# So many calls are remembered as counted. A call may be reported twice, directly and by a scope within this one, but
# both reports come soon after each other.
_REMEMBERED = 1_024
#: The most open runs or calls that are remembered, as some are never reported to have ended.
MOST_OPEN = 10_000
Key = TypeVar("Key")
Value = TypeVar("Value")


class SpendingLog:
    """The sum of the tokens that model calls spent, each run counted once; threads may share it.

    A call that has failed, was stopped, or is still running counts with the tokens that have come, as partly known.

    Example:
        >>> log = SpendingLog()
        >>> log.start("r1"); log.start("r2")
        >>> log.end("r1", input_tokens=10, output_tokens=4)
        >>> log.wrote("r2", 3)
        >>> log.usage
        TokenUsage(input_tokens=10, output_tokens=7, calls=2, partly_known=1)

    Args:
        parent: The log of the scope around this one, which counts every call as well.
    """

    def __init__(self, parent: SpendingLog | None = None) -> None:
        self.parent = parent
        self._lock = threading.Lock()
        self._written: dict[Hashable, int] = {}  # by calls that are running (tokens)
        self._settled: dict[Hashable, None] = {}
        self._total = TokenUsage()

    @property
    def usage(self) -> TokenUsage:
        """The usage of all calls so far."""
        with self._lock:
            running = TokenUsage(0, sum(self._written.values()), len(self._written), len(self._written))
            return self._total + running

    def start(self, run_id: Hashable) -> None:
        """A model is being called."""
        with self._lock:
            self._settled.pop(run_id, None)  # users may give the same id to several runs, one after the other
            self._written.setdefault(run_id, 0)
            if len(self._written) > MOST_OPEN:  # count the oldest as ended
                oldest = next(iter(self._written))
                self._count(oldest, TokenUsage(0, self._written.pop(oldest), calls=1, partly_known=1))
        if self.parent is not None:
            self.parent.start(run_id)

    def wrote(self, run_id: Hashable, tokens: int) -> None:
        """Count tokens of a call's answer that have come."""
        with self._lock:
            if run_id in self._written:
                self._written[run_id] += tokens

    def end(self, run_id: Hashable, *, input_tokens: int | None = None, output_tokens: int | None = None) -> None:
        """The call has ended well; a number is None where the provider does not report it."""
        if output_tokens is None:
            self.fail(run_id, input_tokens=input_tokens)
        else:
            self.settle(run_id, usage_of(input_tokens, output_tokens))

    def fail(self, run_id: Hashable, *, input_tokens: int | None = None, output_tokens: int | None = None) -> None:
        """The call has failed or was stopped; the numbers are those reported until then."""
        self.settle(run_id, self.lower_bound(run_id, input_tokens, output_tokens))

    def settle(self, run_id: Hashable, usage: TokenUsage) -> bool:
        """Count a call that has ended; returns False where it was counted before."""
        with self._lock:
            self._written.pop(run_id, None)
            is_new = run_id not in self._settled
            if is_new:
                self._count(run_id, usage)
        if self.parent is not None:
            self.parent.settle(run_id, usage)
        return is_new

    def lower_bound(self, run_id: Hashable, input_tokens: int | None, output_tokens: int | None) -> TokenUsage:
        """The usage of a call that is only partly known."""
        written = max(self._written.get(run_id, 0), output_tokens or 0)
        return TokenUsage(input_tokens or 0, written, calls=1, partly_known=1)

    def _count(self, run_id: Hashable, usage: TokenUsage) -> None:
        self._total += usage
        self._settled[run_id] = None
        drop_oldest(self._settled, _REMEMBERED)


def drop_oldest(kept: dict[Key, Value], most: int) -> int:
    """Remove the oldest entries beyond ``most``; returns how many."""
    oldest = list(islice(kept, max(len(kept) - most, 0)))
    for key in oldest:
        del kept[key]
    return len(oldest)
