"""Evidence as a number that people read."""

from __future__ import annotations

from math import exp

# Beyond it a float would overflow, and nobody is surer.
_MOST_CERTAIN = 700.0


def e_value(log_evidence: float) -> float:
    """The e-value of its natural logarithm; at most e^700."""
    return exp(min(log_evidence, _MOST_CERTAIN))
