"""The ledger: decisions as they were made, what they cost and saved, and what became of them."""

from ..gate.decision import Savings, savings_of
from .ledger import DecisionLedger
from .queries import Unattributed
from .summary import DaySummary, PromiseKept
from .writer import LedgerCounts

__all__ = ["DaySummary", "DecisionLedger", "LedgerCounts", "PromiseKept", "Savings", "Unattributed", "savings_of"]
