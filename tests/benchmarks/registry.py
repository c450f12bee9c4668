"""Looking a profile up on the decision path."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.timing import Row, compared
from tje_middleware import CalibrationRecord, CalibrationRegistry, ProfileKey, calibrate


def rows() -> Iterator[Row]:
    key = ProfileKey(model="m", task="t")
    records = [
        CalibrationRecord(correct=i % 2 == 0, signals={"mean_entropy": 1 + i % 2 + i / 100}) for i in range(40)
    ]
    with TemporaryDirectory() as folder, CalibrationRegistry(f"sqlite:///{Path(folder) / 'tje.db'}") as registry:
        registry.put(calibrate(records, key=key))
        yield compared(
            "warm look-up of a profile",
            lambda: registry.lookup(key),
            against="one query of the database",
            reference=lambda: registry.get(key),
            at_most=0.05,
            rounds=20,
            repeat=20,
        )
