"""P-values and bounds that hold for any distribution and any number of records.

A p-value here is valid: where its hypothesis is true, P(p <= delta) <= delta for every delta and every n.
"""

from __future__ import annotations

from math import ceil, log, log1p

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from .._arrays import FloatArray

# The beta distribution has no parameter 0.
_TINY = 1e-12
# Of the level of a mean, what goes to gains; losses decide far more often.
_FOR_GAINS = 0.1


def binomial_p(events: ArrayLike, trials: ArrayLike, rate: float) -> FloatArray:
    """P-value of "events happen at least at this rate": P(Binomial(trials, rate) <= events), exact.

    Args:
        events: How often it happened, any shape.
        trials: Out of how many, same shape; 0 trials give 1.
        rate: The rate to reject, in (0, 1).
    """
    events, trials = np.asarray(events, dtype=np.float64), np.asarray(trials, dtype=np.int64)
    return np.asarray(special.bdtr(events, trials, rate))


def binomial_upper(events: ArrayLike, trials: ArrayLike, *, delta: float) -> FloatArray:
    """The rate that is not exceeded with probability 1 - delta (Clopper & Pearson 1934, one-sided).

    Args:
        events: How often it happened, any shape; need not be whole, for an extrapolation.
        trials: Out of how many, same shape.
        delta: In (0, 1).
    """
    events, trials = np.asarray(events, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    below = np.maximum(trials - events, _TINY)
    return np.asarray(np.where(events >= trials, 1.0, special.betaincinv(events + 1, below, 1 - delta)))


def binomial_lower(events: ArrayLike, trials: ArrayLike, *, delta: float) -> FloatArray:
    """The rate that is not fallen short of with probability 1 - delta; arguments as for :func:`binomial_upper`."""
    events, trials = np.asarray(events, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    return np.asarray(1 - binomial_upper(trials - events, trials, delta=delta))


def mean_loss_upper(losses: ArrayLike, gains: ArrayLike, trials: ArrayLike, *, delta: float) -> FloatArray:
    """What the mean of values in {1, 0, -1} does not exceed with probability 1 - delta.

    The upper limit of how often 1 comes minus the lower limit of how often -1 comes, both exact, delta shared nine to
    one between them: where most values are 0 this is far tighter than Hoeffding-Bentkus, and for most records also
    than betting (Waudby-Smith & Ramdas, JRSS-B 86:1-27, 2024), which pays for not knowing which bet is the best.

    Args:
        losses: How often 1 came, any shape; need not be whole.
        gains: How often -1 came.
        trials: Out of how many.
        delta: In (0, 1).
    """
    upper = binomial_upper(losses, trials, delta=(1 - _FOR_GAINS) * delta)
    return np.asarray(upper - binomial_lower(gains, trials, delta=_FOR_GAINS * delta))


def fewest_trials(rate: float, *, delta: float) -> int:
    """How many trials without any event show that a rate is exceeded with probability at most delta."""
    return ceil(round(log(delta) / log1p(-rate), 9))
