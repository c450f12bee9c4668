"""What was promised of accepted drafts, as a summary shows it beside what became of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ._aggregating import Group


@dataclass(frozen=True)
class PromiseKept:
    """Drafts that were accepted with one promise, and what feedback says of them.

    Attributes:
        limit: The share of them that may be wrong.
        graded: Those of which somebody said whether they were right.
        wrong: Those that were not.
    """

    limit: float
    graded: int = 0
    wrong: int = 0

    @property
    def is_broken(self) -> bool:
        """Whether more were wrong, beyond chance: the 95 % interval of their share is above the limit."""
        interval = share_interval(self.wrong, self.graded)
        return interval is not None and interval[0] > self.limit


def promises_of(confident: Iterable[Group]) -> tuple[PromiseKept, ...]:
    """What was promised of groups of accepted drafts, the strictest promise first."""
    counts: dict[float, Counter[str]] = {}
    for group in confident:
        if group.risk_limit is not None:
            counts.setdefault(group.risk_limit, Counter()).update(right=group.right, wrong=group.wrong)
    return tuple(PromiseKept(limit, count.total(), count["wrong"]) for limit, count in sorted(counts.items()))


def share_interval(wrong: int, graded: int) -> tuple[float, float] | None:
    """Of the share that was wrong: 95 %, exact (Clopper & Pearson 1934); None: nothing is known."""
    if not graded:
        return None
    from ..thresholds.bounds import binomial_lower, binomial_upper  # noqa: PLC0415 (scipy)

    return (
        float(binomial_lower(wrong, graded, delta=0.025)),
        float(binomial_upper(wrong, graded, delta=0.025)),
    )
