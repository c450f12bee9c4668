"""What the registry, the ledger and the watch for drift add to a decision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tests.benchmarks.entropy import payload
from tests.benchmarks.timing import Row, compared
from tje_middleware import (
    CalibrationRecord,
    CalibrationRegistry,
    DecisionLedger,
    EntropyGate,
    ProfileKey,
    calibrate,
    mean_entropy,
    parse_logprobs,
)


def rows() -> Iterator[Row]:
    responses = [payload(seed) for seed in range(8)]
    sequences = [parse_logprobs(response) for response in responses]
    # Records and drafts alike, as where nothing drifts: the watch goes on looking.
    signals = [mean_entropy(sequence) for sequence in sequences]
    rng = np.random.default_rng(0)
    wrong = sorted(signals)[4:]
    records = [
        CalibrationRecord(correct=(value not in wrong) != (rng.random() < 0.1), signals={"mean_entropy": value})
        for value in signals * 50
    ]
    profile = calibrate(records, key=ProfileKey(model="m", task="t"))
    bare = EntropyGate(profile, on_drift="ignore")
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'tje.db'}"
        # Roomier than the default: decisions come much faster here than models answer.
        with CalibrationRegistry(url) as registry, DecisionLedger(registry, capacity=1_000_000) as ledger:
            registry.put(profile)
            full = EntropyGate.from_registry(registry, model="m", task="t", ledger=ledger)
            for what, drafts in (("payload", responses), ("logprobs in hand", sequences)):
                yield compared(
                    f"decision with registry, ledger and drift watch, 1,000 x 20, {what}",
                    lambda drafts=drafts: full.decide(drafts[rng.integers(8)]),
                    against="decision without them",
                    reference=lambda drafts=drafts: bare.decide(drafts[rng.integers(8)]),
                    at_most=1.3 if what == "payload" else None,
                    rounds=30,
                    repeat=10,
                )
            if full.judge(sequences[0]).alarm is not None:
                raise RuntimeError("the watch raised an alarm and stopped looking: its time was not measured")
