"""Looking a profile up on the decision path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.timing import Row, Timing
from tje_middleware import CalibrationRecord, CalibrationRegistry, ProfileKey, calibrate

_LIMIT_SECONDS = 5e-6


def rows(timing: Timing) -> Iterator[Row]:
    key = ProfileKey(model="m", task="t")
    records = [
        CalibrationRecord(correct=i % 2 == 0, signals={"mean_entropy": 1 + i % 2 + i / 100}) for i in range(40)
    ]
    with TemporaryDirectory() as folder, CalibrationRegistry(f"sqlite:///{Path(folder) / 'tje.db'}") as registry:
        registry.put(calibrate(records, key=key))
        asked = key.model_copy()  # equal to the one that is known, and not the same: the slower case
        warm = timing.compared(
            "warm look-up of a profile",
            lambda: registry.lookup(asked),
            against="one query of the database",
            reference=lambda: registry.get(key),
            at_most=0.005,
            rounds=20,
            repeat=20,
        )
        yield warm
        yield Row(warm.what, "5 microseconds by the clock", warm.value, _LIMIT_SECONDS, at_most=1.0)
