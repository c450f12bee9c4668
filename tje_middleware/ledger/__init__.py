"""The ledger: recorded decisions, with their tokens, savings and feedback."""

from ..gate.decision import Savings, savings_of
from .ledger import DecisionLedger
from .queries import Unattributed
from .summary import DaySummary, PromiseKept
from .writer import LedgerCounts

__all__ = ["DaySummary", "DecisionLedger", "LedgerCounts", "PromiseKept", "Savings", "Unattributed", "savings_of"]
