"""The ledger: decisions as they were made, what they cost and saved, and what became of them."""

from ..savings import Savings, savings_of
from ._ledger import DecisionLedger
from ._queue import LedgerCounts
from ._range import Unattributed
from .promise import PromiseKept
from .summary import DaySummary

__all__ = ["DaySummary", "DecisionLedger", "LedgerCounts", "PromiseKept", "Savings", "Unattributed", "savings_of"]
