"""Speeds, each as a ratio against something simple measured in the same run: ``make bench``.

A machine is slow or fast, and busy or not; the ratio of two best times taken in turn changes little with that.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
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
)
from tests.benchmarks.timing import Row

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
)


def measured() -> Iterator[Row]:
    for suite in track(SUITES, "measuring", console=Console(stderr=True)):
        yield from suite()


def main() -> None:
    rows = list(measured())
    if "--json" in sys.argv[1:]:
        print(json.dumps([{**asdict(row), "ratio": row.ratio} for row in rows], indent=2))
        return
    table = Table(title="Best times of many runs taken in turn", title_justify="left")
    table.add_column("What")
    table.add_column("Against")
    for heading in ("Time", "Reference", "Ratio", "To hold"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        held = "" if row.at_most is None else f"<= {row.at_most:g}"
        style = "red" if row.at_most is not None and row.ratio > row.at_most else ""
        table.add_row(
            row.what,
            row.against,
            _seconds(row.seconds),
            _seconds(row.reference),
            f"{row.ratio:.3f}",
            held,
            style=style,
        )
    Console().print(table)


def _seconds(seconds: float) -> str:
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "us")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


if __name__ == "__main__":
    main()
