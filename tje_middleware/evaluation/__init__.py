"""How policies compare: on questions that were run for real, and on recorded outcomes."""

from .comparison import Comparison, Outcome, compare
from .curve import savings_curve
from .estimates import Estimate, Resamples, paired_difference, share
from .replay import replay
from .result import ALWAYS, NEVER, ORACLE, Evaluation, PolicyFigures, SavingsCurve

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
