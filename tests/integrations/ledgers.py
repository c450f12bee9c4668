"""A ledger in a file, and what stands in it, for tests of what writes there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import select

from tests.gates import MODEL, make_gate
from tje_middleware import (
    CalibrationProfile,
    CalibrationRecord,
    CalibrationRegistry,
    DecisionLedger,
    EntropyGate,
    ProfileKey,
    calibrate,
)
from tje_middleware.ledger.tables import DECISIONS
from tje_middleware.storage import Database

#: The share of accepted drafts that may be wrong, by the profile of ``Written.stored_gate``.
ALPHA = 0.1
#: Tokens that going deeper costs, by the same profile.
DEEPER_TOKENS = 200


class Written:
    """A gate's ledger; reading it waits for what is still on its way.

    Args:
        folder: Where its file goes.
        **settings: Of the ledger.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self._url = f"sqlite:///{folder / 'tje.db'}"
        self.ledger = DecisionLedger(self._url, **settings)
        self._registry: CalibrationRegistry | None = None

    def gate(self, **policies: Any) -> EntropyGate:
        return make_gate(ledger=self.ledger, **policies)

    def stored_gate(self, **policies: Any) -> EntropyGate:
        """One that follows a registry in the same file: method ``risk``, version 2, and costs of going deeper."""
        key = ProfileKey(model=MODEL, task="t", temperature=0.0)
        self._registry = CalibrationRegistry(self._url)
        for _ in range(2):
            self._registry.put(_profile(key))
        policies = {"method": "risk", "ledger": self.ledger, **policies}
        return EntropyGate.from_registry(self._registry, model=MODEL, task="t", temperature=0.0, **policies)

    def close(self) -> None:
        self.ledger.close()
        if self._registry is not None:
            self._registry.close()

    @property
    def rows(self) -> Sequence[Any]:
        """The decisions, in the order in which they were made."""
        assert self.ledger.flush()
        with Database(self._url).reading() as read:
            return read(select(DECISIONS).order_by(DECISIONS.c.decided_at))

    @property
    def row(self) -> Any:
        [only] = self.rows
        return only


def assert_grounds_and_savings(written: Written, *, tokens: int) -> None:
    """The rows of an accepted draft and of one that went deeper, both of so many tokens, by a ``stored_gate``."""
    accepted, deeper = written.rows
    assert (accepted.answered_by, deeper.answered_by) == ("draft", "deeper")
    for row in (accepted, deeper):
        assert (row.method, row.profile_version, row.risk_limit) == ("risk", 2, ALPHA)
        assert row.threshold is not None
    assert (accepted.tokens_saved, accepted.saved_by) == (DEEPER_TOKENS - tokens, "estimated")
    assert (deeper.tokens_saved, deeper.saved_by) == (-tokens, "measured")


@cache
def _profile(key: ProfileKey) -> CalibrationProfile:
    return calibrate(_records(), key=key, alpha=ALPHA)


def _records() -> list[CalibrationRecord]:
    """Right below 1 bit, wrong from 2 bits on."""
    bits = [(0.25 + i / 100, True) for i in range(75)] + [(2.0 + i / 50, False) for i in range(75)]
    return [
        CalibrationRecord(
            correct=right, signals={"mean_entropy": value}, deeper_correct=True, deeper_tokens=DEEPER_TOKENS
        )
        for value, right in bits
    ]
