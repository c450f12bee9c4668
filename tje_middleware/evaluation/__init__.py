"""Evaluation: policies compared on recorded outcomes, and on questions that were run with each policy."""

from .curve import savings_curve
from .estimates import Estimate, Resamples, paired_difference, share
from .replay import replay
from .result import ALWAYS, NEVER, ORACLE, Comparison, Evaluation, Outcome, PolicyFigures, SavingsCurve, compare

__all__ = [
    "ALWAYS",
    "NEVER",
    "ORACLE",
    "Comparison",
    "Estimate",
    "Evaluation",
    "Outcome",
    "PolicyFigures",
    "Resamples",
    "SavingsCurve",
    "compare",
    "paired_difference",
    "replay",
    "savings_curve",
    "share",
]
