"""How often the promises of the thresholds are broken, where the truth is known.

``python -m tests.simulation.guarantee [--json]`` draws thousands of calibrations from worlds whose true risk is known
exactly, and counts the runs in which a threshold breaks what ``risk``, ``noninferior`` and the abstain threshold
promise with probability 1 - delta; the paper's four methods and the plug-in rule (the largest threshold whose risk
over the records is within the limit) stand beside them. A run without a threshold accepts nothing and breaks nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy import stats

from tests.simulation.worlds import CANDIDATES, COMPLEMENTARY, NOISE, WORLDS, Candidates, FloatArray, World
from tje_middleware import NoThreshold, ProfileKey
from tje_middleware.calibration.calibration import calibrate_observations
from tje_middleware.calibration.settings import CalibrationSettings
from tje_middleware.calibration.thresholds import (
    abstain_threshold,
    bayes_threshold,
    info_threshold,
    mean_threshold,
    noninferiority_threshold,
    risk_threshold,
    universal_threshold,
)
from tje_middleware.calibration.thresholds.rule import Drafts

DELTA, EPSILON, ETA = 0.1, 0.1, 0.12
SIZES = (20, 50, 100, 200, 500)
OVERALL = "all"
# Narrower, the widest table would lose its figures.
_LEAST_WIDTH = 130
AUTO_KEY = ProfileKey(model="m", task="t", signal="auto")

Rule = Callable[[Drafts, World], float]


@dataclass(frozen=True)
class Row:
    """What one method did in one world.

    Attributes:
        promise: Which one it is held to.
        method: Its name.
        world: The world's name.
        runs: Simulated calibrations.
        found: Share of the runs in which there was a threshold.
        broken: Share of the runs in which it breaks the promise.
        accepted: Mean share of drafts that it accepts (or gives up on).
        oracle: The share for the best threshold that keeps the promise.
    """

    promise: str
    method: str
    world: str
    runs: int
    found: float
    broken: float
    accepted: float
    oracle: float

    @property
    def at_most(self) -> float:
        """A broken share that a promise kept with probability 1 - DELTA exceeds once in a thousand simulations."""
        return float(stats.binom.ppf(0.999, self.runs, DELTA) / self.runs)


@dataclass(frozen=True)
class Promise:
    """What thresholds are held to.

    Attributes:
        name: Of the method that makes it.
        rules: That method, and others to stand beside it.
        measure: The true value of what is limited, for each threshold.
        limit: How large it may be.
        share: Share of drafts that a threshold acts on.
    """

    name: str
    rules: Mapping[str, Rule]
    measure: Callable[[World, FloatArray], FloatArray]
    limit: Callable[[World], float]
    share: Callable[[World, FloatArray], FloatArray]


def _plug_in(signal: FloatArray, losses: FloatArray, limit: float, *, conditional: bool) -> float:
    """The largest value of the signal at which the mean loss over the records is within the limit."""
    values, ends = np.unique(np.sort(signal), return_index=True)
    counts = np.append(ends[1:], len(signal))
    totals = np.cumsum(losses[np.argsort(signal, kind="stable")])[counts - 1]
    within = np.flatnonzero(totals / (counts if conditional else len(signal)) <= limit)
    if not len(within):
        raise NoThreshold("none")
    return float(values[within[-1]])


OF_THE_PAPER = {
    "mean": mean_threshold,
    "info": info_threshold,
    "bayes": bayes_threshold,
    "universal": universal_threshold,
}
RISK = Promise(
    "risk",
    {
        "risk": lambda d, w: risk_threshold(d.signal, ~d.correct, alpha=w.alpha, delta=DELTA).value,
        "plug-in": lambda d, w: _plug_in(d.signal, ~d.correct, w.alpha, conditional=True),
        **{name: lambda d, _, method=method: method(*d.classes) for name, method in OF_THE_PAPER.items()},
    },
    measure=World.risk,
    limit=lambda world: world.alpha,
    share=World.accepted,
)
NONINFERIOR = Promise(
    "noninferior",
    {
        "noninferior": lambda d, _: (
            noninferiority_threshold(d.signal, d.correct, d.deeper_correct, epsilon=EPSILON, delta=DELTA).value
        ),
        "plug-in": lambda d, _: _plug_in(
            d.signal, d.deeper_correct.astype(float) - d.correct, EPSILON, conditional=False
        ),
        **{name: lambda d, _, method=method: method(*d.classes) for name, method in OF_THE_PAPER.items()},
    },
    measure=World.lost,
    limit=lambda _: EPSILON,
    share=World.accepted,
)
ABSTAIN = Promise(
    "abstain",
    {
        "abstain": lambda d, _: abstain_threshold(d.signal, d.deeper_correct, eta=ETA, delta=DELTA).value,
        "plug-in": lambda d, _: -_plug_in(-d.signal, d.deeper_correct, ETA, conditional=True),
    },
    measure=World.helped,
    limit=lambda _: ETA,
    share=lambda world, values: 1 - world.accepted(np.nextafter(values, -np.inf)),
)
#: Worlds in which going deeper seldom helps; without separation, a little more often than the limit.
HOPELESS = tuple(replace(world, share_wrong=0.85, rescued=0.02, kept=0.7) for world in WORLDS)


def kept(promise: Promise, worlds: Sequence[World], *, repeats: int, seed: int = 0) -> Iterator[Row]:
    """One row for each method and world: ``repeats`` calibrations of each size in each world."""
    for place, world in enumerate(worlds):
        rng = np.random.default_rng([seed, place])
        drawn = [world.draw(n, rng) for n in SIZES for _ in range(repeats)]
        grid = world.grid()
        within = promise.measure(world, grid) <= promise.limit(world)
        oracle = float(promise.share(world, grid)[within].max(initial=0.0))
        for name, rule in promise.rules.items():
            values = np.array([_value(rule, drafts, world) for drafts in drawn])
            there = values[np.isfinite(values)]
            yield Row(
                promise.name,
                name,
                world.name,
                runs=len(drawn),
                found=len(there) / len(drawn),
                # What is equal to the limit but for rounding is within it.
                broken=float((promise.measure(world, there) > promise.limit(world) + 1e-9).sum() / len(drawn)),
                accepted=float(promise.share(world, there).sum() / len(drawn)),
                oracle=oracle,
            )


def kept_by_auto(scenario: Candidates, *, repeats: int, seed: int = 0) -> Row:
    """The same for ``risk`` of the signal that automatic choice takes, whatever its verdict."""
    rng = np.random.default_rng(seed)
    broken, shares = [], []
    unseen = scenario.draw(100_000, rng)
    for n in scenario.sizes:
        for _ in range(repeats):
            settings = CalibrationSettings(
                alpha=scenario.alpha, delta=DELTA, resamples=0, seed=int(rng.integers(2**31))
            )
            profile = calibrate_observations(scenario.draw(n, rng), key=AUTO_KEY, settings=settings)
            value = profile.thresholds["risk"].value
            if value is None:
                continue
            if profile.learned is not None:
                accepted = profile.learned.of_columns(unseen.signals) <= value
                risk, share = float((~unseen.correct)[accepted].mean()), float(accepted.mean())
            else:
                world, values = scenario.world(profile.signal), np.array([value])
                risk, share = float(world.risk(values)[0]), float(world.accepted(values)[0])
            broken.append(risk > scenario.alpha)
            shares.append(share)
    runs = repeats * len(scenario.sizes)
    return Row(
        "risk after auto",
        "risk",
        scenario.name,
        runs=runs,
        found=len(shares) / runs,
        broken=sum(broken) / runs,
        accepted=sum(shares) / runs,
        oracle=float("nan"),
    )


def noise_called_usable(scenario: Candidates, *, repeats: int, seed: int = 0) -> Iterator[bool]:
    """Whether automatic choice finds anything in noise, run by run."""
    rng = np.random.default_rng(seed)
    for n in scenario.sizes:
        for _ in range(repeats):
            settings = CalibrationSettings(resamples=0, seed=int(rng.integers(2**31)))
            yield calibrate_observations(scenario.draw(n, rng), key=AUTO_KEY, settings=settings).verdict != "unusable"


def overall(rows: Iterable[Row]) -> list[Row]:
    """One row for each method of a promise, over all worlds."""
    together: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        together.setdefault((row.promise, row.method), []).append(row)
    return [
        Row(
            *names,
            OVERALL,
            sum(row.runs for row in some),
            *(
                float(np.average([getattr(row, field) for row in some], weights=[row.runs for row in some]))
                for field in ("found", "broken", "accepted", "oracle")
            ),
        )
        for names, some in together.items()
    ]


def _value(rule: Rule, drafts: Drafts, world: World) -> float:
    try:
        return rule(drafts, world)
    except NoThreshold:
        return float("nan")


def _tables(rows: Sequence[Row]) -> Iterator[Table]:
    for promise in dict.fromkeys(row.promise for row in rows):
        mine = [row for row in rows if row.promise == promise]
        methods = list(dict.fromkeys(row.method for row in mine))
        table = Table(
            title=f"{promise}: share of runs that break the promise (accepted share), delta = {DELTA:g}",
            title_justify="left",
        )
        table.add_column("World")
        for heading in ("Runs", "At most", *methods, "Oracle"):
            table.add_column(heading, justify="right")
        for world in dict.fromkeys(row.world for row in mine):
            cells = {row.method: row for row in mine if row.world == world}
            any_row = next(iter(cells.values()))
            table.add_row(
                world,
                str(any_row.runs),
                f"{any_row.at_most:.3f}",
                *(_cell(cells[method]) for method in methods),
                "" if np.isnan(any_row.oracle) else f"({any_row.oracle:.2f})",
            )
        yield table


def _cell(row: Row) -> str:
    text = f"{row.broken:.3f} ({row.accepted:.2f})"
    return f"[red]{text}[/red]" if row.broken > row.at_most else text


def _all_rows() -> Iterator[Row]:
    yield from kept(RISK, WORLDS, repeats=100)
    yield from kept(NONINFERIOR, WORLDS, repeats=60)
    yield from kept(ABSTAIN, HOPELESS, repeats=100)
    for scenario in CANDIDATES:
        yield kept_by_auto(scenario, repeats=150)
    yield kept_by_auto(COMPLEMENTARY, repeats=60)


def main() -> None:
    """Simulate, and print what came of it."""
    rows = list(track(_all_rows(), "simulating", total=None, console=Console(stderr=True)))
    rows += overall(rows)
    calls = [call for scenario in NOISE for call in noise_called_usable(scenario, repeats=170)]
    if "--json" in sys.argv[1:]:
        found = [{**asdict(row), "at_most": row.at_most} for row in rows]
        print(
            json.dumps(
                {"rows": found, "noise": {"runs": len(calls), "not_unusable": float(np.mean(calls))}}, indent=2
            )
        )
        return
    console = Console(width=max(Console().width, _LEAST_WIDTH))
    for table in _tables(rows):
        console.print(table)
    console.print(f"auto on pure noise: {np.mean(calls):.1%} of {len(calls)} runs are not called unusable")


if __name__ == "__main__":
    main()
