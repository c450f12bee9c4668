"""Calibrating 1,000,000 records with their signals in hand, against sorting one column of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.benchmarks.timing import Row, Timing
from tje_middleware import ProfileKey
from tje_middleware.calibration.calibration import calibrate_observations
from tje_middleware.records.columns import Observations

RECORDS = 1_000_000


def observations(signals: int) -> Observations:
    rng = np.random.default_rng(0)
    correct = rng.random(RECORDS) < 0.6
    return Observations(
        correct=correct,
        signals={f"s{k}": rng.normal(size=RECORDS) + np.where(correct, 0, 0.05 * k) for k in range(signals)},
        deeper_correct=correct | (rng.random(RECORDS) < 0.5),
    )


def rows(timing: Timing) -> Iterator[Row]:
    for signals, name in ((1, "s0"), (20, "auto")):
        records, key = observations(signals), ProfileKey(model="m", task="t", signal=name)
        yield timing.compared(
            f"calibrate 1,000,000 records, {signals} signal{'s' if signals > 1 else ''}",
            lambda records=records, key=key: calibrate_observations(records, key=key),
            against="sorting one of them",
            reference=lambda records=records: np.sort(records.signals["s0"], kind="stable"),
            rounds=1,
            repeat=1,
        )
