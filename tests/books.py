"""A ledger in memory."""

from __future__ import annotations

from tje_middleware import GateDecision


class Book:
    """What it was told, in its order."""

    def __init__(self, *, texts: bool = False) -> None:
        self.texts = texts
        self.entries: list[tuple[GateDecision, dict[str, object]]] = []

    def record(self, decision: GateDecision, **circumstances: object) -> None:
        self.entries.append((decision, circumstances))

    @property
    def decisions(self) -> list[GateDecision]:
        return [decision for decision, _ in self.entries]
