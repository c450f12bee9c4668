"""Signals: functions from sequence logprobs to one number, lower = more confident.

A signal is named, so that a profile on disk says which one it was calibrated with. ``@answer`` or
``@thinking`` behind any name takes the signal over that part of the tokens alone:
``resolve_signal("mean_entropy@answer")``. Users add their own with :func:`register_signal`.

While a draft is still being written, :func:`lower_bound` gives a lower bound of the signal that it will have.

Every signal of this package gives a finite number, or raises SignalError where there are no tokens or the sequence
lacks what the signal measures.
"""

from .answers import Find, answer_entropy, answer_entropy_by, answer_span, answer_total, number_entropy, number_max
from .bounds.running import BoundKind, LowerBound, bound_kind, lower_bound
from .catalog import (
    AUTO,
    LEARNED,
    RESERVED,
    SIGNALS,
    NamedSignal,
    Signal,
    candidates,
    measure,
    register_signal,
    resolve_signal,
)
from .entropies import (
    length,
    max_entropy,
    p90_entropy,
    quantile_entropy,
    tail_entropy,
    total_entropy,
    uncertain_share,
    uncertain_tokens,
    window_entropy,
)
from .likelihoods import (
    deepconf_bottom,
    deepconf_mean,
    deepconf_tail,
    deepconf_window,
    margin,
    mean_nll,
    total_nll,
    worst_margin,
    worst_nll,
)

__all__ = [
    "AUTO",
    "CANDIDATES",
    "LEARNED",
    "RESERVED",
    "SIGNALS",
    "BoundKind",
    "Find",
    "LowerBound",
    "NamedSignal",
    "Signal",
    "answer_entropy",
    "answer_entropy_by",
    "answer_span",
    "answer_total",
    "bound_kind",
    "candidates",
    "deepconf_bottom",
    "deepconf_mean",
    "deepconf_tail",
    "deepconf_window",
    "length",
    "lower_bound",
    "margin",
    "max_entropy",
    "mean_nll",
    "measure",
    "number_entropy",
    "number_max",
    "p90_entropy",
    "quantile_entropy",
    "register_signal",
    "resolve_signal",
    "tail_entropy",
    "total_entropy",
    "total_nll",
    "uncertain_share",
    "uncertain_tokens",
    "window_entropy",
    "worst_margin",
    "worst_nll",
]

CANDIDATES: tuple[str, ...]


def __getattr__(name: str) -> tuple[str, ...]:
    """Compute ``CANDIDATES`` each time it is read, as users may register more signals."""
    if name == "CANDIDATES":
        return candidates()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
