"""What importing costs, in a fresh interpreter each time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

from tests.benchmarks.timing import Row, Timing

REFERENCE = "import scipy.stats, pydantic"


def rows(timing: Timing) -> Iterator[Row]:
    empty, _ = timing.best_of(_interpreter("pass"), _interpreter("pass"), rounds=5, repeat=1)
    for statement, at_most in (
        ("import tje_middleware", 0.5),
        ("from tje_middleware import EntropyGate, parse_logprobs", 0.5),
    ):
        ours, reference = timing.best_of(_interpreter(statement), _interpreter(REFERENCE), rounds=7, repeat=1)
        yield Row(statement, REFERENCE, max(ours - empty, 0), reference - empty, at_most)


def _interpreter(statement: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, "-c", statement], check=True)
