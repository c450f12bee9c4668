"""P-values and bounds that hold for any distribution and any number of records.

A p-value here is valid: where its hypothesis is true, P(p <= delta) <= delta for every delta and every n.
"""

from __future__ import annotations

from math import ceil, log, log1p

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from .paper import FloatArray

# Bets as shares of the largest possible one. The best bet is about the mean's distance from the hypothesis over the
# variance; as neither is known, a mixture of bets is made, which costs at most log(len) once.
_BETS = np.geomspace(0.98, 0.03, 12)


def binomial_p(events: ArrayLike, trials: ArrayLike, rate: float) -> FloatArray:
    """P-value of "events happen at least at this rate": P(Binomial(trials, rate) <= events), exact.

    Args:
        events: How often it happened, any shape.
        trials: Out of how many, same shape; 0 trials give 1.
        rate: The rate to reject, in (0, 1).
    """
    events, trials = np.asarray(events, dtype=np.float64), np.asarray(trials, dtype=np.int64)
    return np.asarray(special.bdtr(events, trials, rate))


def binomial_upper(events: int, trials: int, *, delta: float) -> float:
    """The rate that is not exceeded with probability 1 - delta (Clopper & Pearson 1934, one-sided)."""
    if events >= trials:
        return 1.0
    return float(special.betaincinv(events + 1, trials - events, 1 - delta))


def fewest_trials(rate: float, *, delta: float) -> int:
    """How many trials without any event show that a rate is exceeded with probability at most delta."""
    return ceil(round(log(delta) / log1p(-rate), 9))


def betting_p(losses: ArrayLike, ties: ArrayLike, gains: ArrayLike, margin: float) -> FloatArray:
    """P-value of "the mean of values in {1, 0, -1} is at least margin", from how often each value came.

    One over the wealth of a gambler who bets that the mean is smaller: for a bet b, each value x multiplies the
    wealth by 1 + b (margin - x), at most 1 in expectation where the hypothesis is true (Waudby-Smith & Ramdas,
    JRSS-B 86:1-27, 2024). Wealth is the mean over a mixture of fixed bets, so the order of the values does not
    matter; Markov's inequality makes it a p-value. Far tighter than Hoeffding-Bentkus where most values are 0.

    Args:
        losses: How often 1 came, any shape.
        ties: How often 0 came.
        gains: How often -1 came.
        margin: The mean to reject, in (0, 1).
    """
    bets = _BETS / (1 - margin)
    logs = (
        np.multiply.outer(np.asarray(losses, dtype=np.float64), np.log1p(bets * (margin - 1)))
        + np.multiply.outer(np.asarray(ties, dtype=np.float64), np.log1p(bets * margin))
        + np.multiply.outer(np.asarray(gains, dtype=np.float64), np.log1p(bets * (margin + 1)))
    )
    log_wealth = special.logsumexp(logs, axis=-1) - log(len(bets))
    return np.asarray(np.exp(-np.maximum(log_wealth, 0.0)))
