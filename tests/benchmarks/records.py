"""Reading records from disk: lines of signals, and lines of raw logprobs of 300 tokens x 20 alternatives."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.benchmarks.timing import Row, Timing
from tje_middleware import CalibrationRecord, SequenceLogprobs
from tje_middleware.records import read_records, write_records

LINES, DRAFTS = 5_000, 20
TOKENS, ALTERNATIVES = 300, 20


def labelled(count: int) -> Iterator[CalibrationRecord]:
    for number in range(count):
        signals = {"mean_entropy": 0.31 + number / count, "total_entropy": 12.0}
        yield CalibrationRecord(id=f"q{number}", correct=number % 2 == 0, tokens=211, signals=signals)


def raw(count: int) -> Iterator[CalibrationRecord]:
    rng = np.random.default_rng(0)
    for number in range(count):
        rows = -rng.exponential(3, (TOKENS, ALTERNATIVES))
        texts = tuple(f"t{position} " for position in range(TOKENS))
        yield CalibrationRecord(correct=number % 2 == 0, sequence=SequenceLogprobs(rows, texts, rows[:, 0]))


def read(path: Path) -> int:
    return sum(1 for _ in read_records(path))


def loaded(path: Path) -> int:
    """Every line through the standard library, checked for nothing."""
    with path.open("rb") as lines:
        return sum(1 for line in lines if json.loads(line))


def loaded_as_arrays(path: Path) -> int:
    with path.open("rb") as lines:
        return sum(1 for line in lines if len(np.array(json.loads(line)["top_logprobs"])))


def rows(timing: Timing) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        signals, drafts = Path(folder) / "signals.jsonl", Path(folder) / "drafts.jsonl"
        assert write_records(signals, labelled(LINES)) == read(signals) == loaded(signals)
        assert write_records(drafts, raw(DRAFTS)) == read(drafts) == loaded_as_arrays(drafts)
        yield timing.compared(
            f"{LINES:,} records of signals read",
            lambda: read(signals),
            against="json.loads of each line",
            reference=lambda: loaded(signals),
            at_most=2.0,
            rounds=10,
            repeat=1,
        )
        yield timing.compared(
            f"{DRAFTS} records of raw logprobs read",
            lambda: read(drafts),
            against="json.loads and np.array of each",
            reference=lambda: loaded_as_arrays(drafts),
            at_most=0.6,
            rounds=10,
            repeat=1,
        )
