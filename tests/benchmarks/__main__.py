"""Speeds, each as a ratio against something simple measured in the same run: ``make bench``.

A machine is slow or fast, and busy or not; the ratio of two best times taken in turn changes little with that.
The exit status says whether every row could be measured, never what its figure is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict

from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.benchmarks import (
    calibration,
    entropy,
    gating,
    gating_llama_index,
    imports,
    ledger,
    records,
    registry,
    signals,
    visits,
)
from tests.benchmarks.timing import NotMeasuredError, Row, Timing

SUITES = (
    entropy.rows,
    signals.rows,
    registry.rows,
    ledger.rows,
    records.rows,
    gating.rows,
    gating_llama_index.rows,
    imports.rows,
    calibration.rows,
    visits.rows,
)


def main() -> int:
    """Measure and show; the exit status is 1 where a row could not be measured."""
    options = _parser().parse_args()
    rows: list[Row] = []
    failures = []
    for suite in track(SUITES, "measuring", console=Console(stderr=True)):
        try:
            rows.extend(suite(Timing(short=options.short)))
        except NotMeasuredError as error:  # noqa: PERF203 (the others are measured all the same)
            failures.append(f"{suite.__module__}: {error}")
    if options.json:
        print(json.dumps([{**asdict(row), "ratio": row.ratio} for row in rows], indent=2))
    else:
        Console().print(_table(rows, short=options.short))
    for failure in failures:
        print(f"a row could not be measured: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON")
    parser.add_argument("--short", action="store_true", help="few repetitions: whether each row can be measured")
    return parser


def _table(rows: Iterable[Row], *, short: bool) -> Table:
    title = "Few runs: only to see that each can be measured" if short else "Best times of many runs taken in turn"
    table = Table(title=title, title_justify="left")
    table.add_column("What")
    table.add_column("Against")
    for heading in ("Value", "Reference", "Ratio", "To hold"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        held = "" if row.at_most is None else f"<= {row.at_most:g}"
        style = "red" if row.at_most is not None and row.ratio > row.at_most else ""
        figures = (_shown(row.value, row.unit), _shown(row.reference, row.unit))
        table.add_row(row.what, row.against, *figures, f"{row.ratio:.3f}", held, style=style)
    return table


def _shown(value: float, unit: str) -> str:
    if unit != "seconds":
        return f"{value:g} {unit}"
    for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "us")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {name}"
    return f"{value * 1e9:.3g} ns"


if __name__ == "__main__":
    sys.exit(main())
