"""What the registry, the ledger and the watch for drift add to a decision."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.drafts import ACCEPTS_ALL, decisions, payloads, profile_of_drafts
from tests.benchmarks.timing import Row, Timing
from tje_middleware import CalibrationRegistry, DecisionLedger, EntropyGate, parse_logprobs


def rows(timing: Timing) -> Iterator[Row]:
    profile = profile_of_drafts()
    bare = EntropyGate(profile, on_drift="ignore").with_threshold(ACCEPTS_ALL)
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{Path(folder) / 'tje.db'}"
        # Roomier than the default: decisions come much faster here than models answer.
        with CalibrationRegistry(url) as registry, DecisionLedger(registry, capacity=1_000_000) as ledger:
            registry.put(profile)
            full = EntropyGate.from_registry(registry, model="m", task="t", ledger=ledger).with_threshold(ACCEPTS_ALL)
            for what, drafts in (
                ("payload", payloads()),
                ("logprobs in hand", [parse_logprobs(draft) for draft in payloads()]),
            ):
                yield timing.compared(
                    f"decision with registry, ledger and drift watch, 1,000 x 20, {what}",
                    decisions(full, cycle(drafts)),
                    against="decision without them",
                    reference=decisions(bare, cycle(drafts)),
                    at_most=1.3 if what == "payload" else None,
                    rounds=30,
                    repeat=10,
                )
