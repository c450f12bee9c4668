"""Threshold methods: pure functions of arrays, from a signal and its outcomes to the value up to which to accept.

``paper`` holds the four of *Think Just Enough*, ``guaranteed`` those with a finite-sample guarantee, ``cost`` the one
for given prices; ``methods`` lists them all. Each raises NoThreshold, with what is missing, where it finds none.
"""

from .cost import cost_threshold
from .guaranteed import abstain_threshold, noninferiority_threshold, risk_threshold
from .paper import (
    Moments,
    bayes_threshold,
    cohens_d,
    info_threshold,
    mean_threshold,
    sample_sd,
    universal_threshold,
)

__all__ = [
    "Moments",
    "abstain_threshold",
    "bayes_threshold",
    "cohens_d",
    "cost_threshold",
    "info_threshold",
    "mean_threshold",
    "noninferiority_threshold",
    "risk_threshold",
    "sample_sd",
    "universal_threshold",
]
