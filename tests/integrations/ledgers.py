"""A ledger in a file, and what stands in it, for tests of what writes there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select

from tests.gates import make_gate
from tje_middleware import DecisionLedger, EntropyGate
from tje_middleware.database import Database
from tje_middleware.database.schema import DECISIONS


class Written:
    """A gate's ledger; reading it waits for what is still on its way.

    Args:
        folder: Where its file goes.
        **settings: Of the ledger.
    """

    def __init__(self, folder: Path, **settings: Any) -> None:
        self._url = f"sqlite:///{folder / 'tje.db'}"
        self.ledger = DecisionLedger(self._url, **settings)

    def gate(self, **policies: Any) -> EntropyGate:
        return make_gate(ledger=self.ledger, **policies)

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
