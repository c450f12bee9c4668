"""How often the drift test raises a false alarm, and how soon it sees a change, where the truth is known.

``python -m tests.simulation.drift [--json]`` watches thousands of streams whose drafts are distributed as the
reference, of several shapes and sizes of reference, and counts those in which the evidence ever reaches 1 / alpha
and those with an alarm; beside it stands what is often done instead, a KS test on every new window. Then streams
that change, from the first draft or after a thousand: how many are caught, and how many drafts later.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats

from tests.simulation.worlds import FloatArray
from tje_middleware.calibration.reference import reference_of
from tje_middleware.gate.drift import DriftMonitor, DriftPolicy

SIZES = (20, 100, 1000)
LENGTH = 2_000
LATE = 1_000
# How often, and over how many drafts, a naive observer looks.
NAIVE_EVERY, NAIVE_WINDOW = 50, 200

Draw = Callable[[np.random.Generator, int], FloatArray]


@dataclass(frozen=True)
class Shape:
    """How a signal is distributed.

    Attributes:
        name: What it is like.
        draw: n values of it.
        censored: Whether drafts above the threshold, the reference's mean, are stopped there.
    """

    name: str
    draw: Draw
    censored: bool = False


def _zeros_and_more(rng: np.random.Generator, n: int) -> FloatArray:
    return np.where(rng.random(n) < 0.4, 0.0, rng.exponential(1.0, n))


def _two_kinds(rng: np.random.Generator, n: int) -> FloatArray:
    return np.where(rng.random(n) < 0.7, rng.normal(0.2, 0.05, n), rng.normal(0.8, 0.2, n))


def _gamma(rng: np.random.Generator, n: int) -> FloatArray:
    return rng.gamma(2.0, 0.2, n)


def _counts(rng: np.random.Generator, n: int) -> FloatArray:
    return rng.poisson(6.0, n).astype(float)


SHAPES = (
    Shape("entropies", _gamma),
    Shape("two kinds of drafts", _two_kinds),
    Shape("few counts", _counts),
    Shape("many zeros", _zeros_and_more),
    Shape("stopped early", _gamma, censored=True),
)


@dataclass(frozen=True)
class Change:
    """What becomes of a standard normal signal.

    Attributes:
        name: In words.
        draw: n values after the change.
    """

    name: str
    draw: Draw


CHANGES = (
    Change("0.25 sd up", lambda rng, n: rng.normal(0.25, 1, n)),
    Change("0.5 sd up", lambda rng, n: rng.normal(0.5, 1, n)),
    Change("1 sd up", lambda rng, n: rng.normal(1, 1, n)),
    Change("1 sd down", lambda rng, n: rng.normal(-1, 1, n)),
    Change("1.5 times as wide", lambda rng, n: rng.normal(0, 1.5, n)),
    # As a larger model of the same family: more confident on most, a tail that stays.
    Change(
        "another model", lambda rng, n: np.where(rng.random(n) < 0.8, rng.normal(-0.9, 0.6, n), rng.normal(0, 1, n))
    ),
)


@dataclass(frozen=True)
class FalseAlarms:
    """Streams in which nothing changes.

    Attributes:
        shape: Of the signal.
        records: In the reference.
        alpha: The stated rate.
        streams: Simulated.
        certain: Of them, those in which the evidence ever reached 1 / alpha.
        alarms: Those with an alarm.
        naive: Those in which a KS test on every new window was below alpha once.
    """

    shape: str
    records: int
    alpha: float
    streams: int
    certain: int
    alarms: int
    naive: int

    def interval(self, count: int) -> tuple[float, float]:
        """Clopper's and Pearson's of 95 % for the share."""
        found = stats.binomtest(count, self.streams).proportion_ci(0.95, method="exact")
        return float(found.low), float(found.high)

    @property
    def at_most(self) -> float:
        """A share that a rate of alpha exceeds once in a thousand simulations."""
        return float(stats.binom.ppf(0.999, self.streams, self.alpha) / self.streams)


@dataclass(frozen=True)
class Detection:
    """Streams that change.

    Attributes:
        change: Which.
        records: In the reference.
        after: Drafts before the change.
        streams: Simulated.
        early: Those with an alarm before the change.
        delays: Of those with an alarm after it, how many drafts later.
    """

    change: str
    records: int
    after: int
    streams: int
    early: int
    delays: tuple[int, ...] = field(repr=False)

    @property
    def found(self) -> float:
        """Share of the streams with an alarm within LENGTH drafts of the change."""
        return len(self.delays) / self.streams

    def delay(self, share: float) -> float:
        """By how many drafts this share of all streams had its alarm; infinity where that many never had."""
        every = sorted([*self.delays, *[float("inf")] * (self.streams - len(self.delays))])
        return float(every[int(np.ceil(share * self.streams)) - 1])


def false_alarms(shape: Shape, records: int, *, streams: int, alpha: float, length: int = LENGTH) -> FalseAlarms:
    """Watch streams of the reference's own distribution."""
    certain = alarms = naive = 0
    for stream in range(streams):
        rng = np.random.default_rng([stream, records, SHAPES.index(shape)])
        known, live = shape.draw(rng, records), shape.draw(rng, length)
        threshold = float(known.mean())
        seen = np.where(live > threshold, threshold + 0.01, live) if shape.censored else live
        monitor = DriftMonitor(
            reference_of(known), DriftPolicy(alpha=alpha), censored_above=threshold if shape.censored else None
        )
        alarms += sum(monitor.observe(value) is not None for value in seen.tolist())
        certain += monitor.state().e_value >= 1 / alpha
        naive += _naive_alarm(known, live, alpha)
    return FalseAlarms(shape.name, records, alpha, streams, certain, alarms, naive)


def detection(change: Change, records: int, *, after: int, streams: int, length: int = LENGTH) -> Detection:
    """Watch streams that change, with the policy as it is by default."""
    early, delays = 0, []
    for stream in range(streams):
        rng = np.random.default_rng([stream, records, after, CHANGES.index(change)])
        monitor = DriftMonitor(reference_of(rng.normal(size=records)))
        if _first_alarm(monitor, rng.normal(size=after)) is not None:
            early += 1
            continue
        delay = _first_alarm(monitor, change.draw(rng, length))
        if delay is not None:
            delays.append(delay)
    return Detection(change.name, records, after, streams, early, tuple(delays))


def together(rows: Sequence[FalseAlarms]) -> FalseAlarms:
    """One row of all, which share their alpha."""
    (alpha,) = {row.alpha for row in rows}
    sums = [sum(getattr(row, name) for row in rows) for name in ("streams", "certain", "alarms", "naive")]
    return FalseAlarms("all", 0, alpha, *sums)


def _first_alarm(monitor: DriftMonitor, values: FloatArray) -> int | None:
    return next((place for place, value in enumerate(values.tolist(), 1) if monitor.observe(value)), None)


def _naive_alarm(known: FloatArray, live: FloatArray, alpha: float) -> bool:
    windows = (live[end - NAIVE_WINDOW : end] for end in range(NAIVE_WINDOW, len(live) + 1, NAIVE_EVERY))
    return any(stats.ks_2samp(known, window, method="asymp").pvalue < alpha for window in windows)


def _stationary() -> Iterator[FalseAlarms]:
    for alpha, streams in ((0.01, 200), (0.1, 100)):
        for records in SIZES:
            for shape in SHAPES:
                yield false_alarms(shape, records, streams=streams, alpha=alpha)


def _changing() -> Iterator[Detection]:
    for records in SIZES:
        for after in (0, LATE):
            for change in CHANGES:
                yield detection(change, records, after=after, streams=100)


def _stationary_table(rows: Sequence[FalseAlarms]) -> Table:
    table = Table(title=f"Nothing changes, {LENGTH} drafts a stream: share of streams", title_justify="left")
    for heading in (
        "Signal",
        "Records",
        "Alpha",
        "Streams",
        "Certain",
        "Alarm",
        "95 % interval",
        "At most",
        "KS again",
    ):
        table.add_column(heading, justify="left" if heading == "Signal" else "right")
    for row in rows:
        low, high = row.interval(row.certain)
        share = f"{row.certain / row.streams:.3f}"
        table.add_row(
            row.shape,
            str(row.records or "all"),
            f"{row.alpha:g}",
            str(row.streams),
            f"[red]{share}[/red]" if row.certain / row.streams > row.at_most else share,
            f"{row.alarms / row.streams:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{row.at_most:.3f}",
            f"{row.naive / row.streams:.2f}",
        )
    return table


def _changing_table(rows: Sequence[Detection]) -> Table:
    policy = DriftPolicy()
    table = Table(
        title=f"A change, alpha {policy.alpha:g}: share caught within {LENGTH} drafts, and how many drafts later",
        title_justify="left",
    )
    for heading in ("Change", "Records", "After", "Streams", "Too early", "Caught", "Median", "90 %"):
        table.add_column(heading, justify="left" if heading == "Change" else "right")
    for row in rows:
        table.add_row(
            row.change,
            str(row.records),
            str(row.after),
            str(row.streams),
            f"{row.early / row.streams:.2f}",
            f"{row.found:.2f}",
            *(f"{row.delay(share):g}" for share in (0.5, 0.9)),
        )
    return table


def main() -> None:
    """Simulate, and print what came of it."""
    progress = Console(stderr=True)
    stationary = list(track(_stationary(), "nothing changes", total=None, console=progress))
    stationary += [together([row for row in stationary if row.alpha == alpha]) for alpha in (0.01, 0.1)]
    changing = list(track(_changing(), "something changes", total=None, console=progress))
    if "--json" in sys.argv[1:]:
        unchanged = [{**asdict(row), "interval": row.interval(row.certain)} for row in stationary]
        print(json.dumps({"stationary": unchanged, "changing": [asdict(row) for row in changing]}, indent=2))
        return
    console = Console(width=max(Console().width, 110))
    console.print(_stationary_table(stationary))
    console.print(_changing_table(changing))


if __name__ == "__main__":
    main()
