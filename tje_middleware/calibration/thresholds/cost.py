"""``cost``: the threshold that minimises the expected cost of an answer."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import NoThreshold
from ...logprobs.arrays import FloatArray, IntArray
from ..settings import CalibrationSettings, Prices
from .exact_tests import Ladder
from .rule import Drafts, Found, ThresholdMethod

_FOLDS = 10


class Costs(NamedTuple):
    """The cost of each record on each route: three (n,) arrays in the currency of the prices."""

    final: FloatArray
    deeper: FloatArray
    abstain: FloatArray

    def take(self, places: NDArray[np.int64] | NDArray[np.bool_]) -> Costs:
        """The costs of some records."""
        return Costs(*(column[places] for column in self))


def cost_threshold(
    signal: FloatArray,
    correct: NDArray[np.bool_],
    *,
    prices: Prices,
    delta: float,
    deeper_correct: NDArray[np.bool_] | None = None,
    deeper_tokens: FloatArray | None = None,
    looks: float = 1,
    seed: int = 0,
) -> Found:
    """The rule of least mean cost over the records, where it is shown to cost less than always going deeper.

    The rule accepts up to its ``value``, goes deeper above it, and gives up from ``abstain_from`` on. Accepting costs
    an error where the draft is wrong; going deeper costs the run, its tokens, and an error where the deeper answer is
    wrong. Without deeper outcomes a deeper answer counts as right, and nothing is given up. The saving against always
    going deeper is measured by cross-validation, on records that the rule was not made from.

    Args:
        signal: (n,) lower = more confident.
        correct: (n,) whether the draft was right.
        prices: What things cost.
        delta: The probability with which the claim that the rule saves may be wrong (one-sided t-test over records).
        deeper_correct: (n,) whether the deeper branch was right; None where unknown.
        deeper_tokens: (n,) tokens that the deeper branch wrote; None where unknown.
        looks: The number by which delta is divided where this signal was chosen from several on the same records.
        seed: Of the folds.

    Raises:
        NoThreshold: deeper tokens have a price but were not recorded, or the saving is not shown; the message says
            how many more records would be needed.
    """
    from scipy import stats  # noqa: PLC0415 (not in every process that has a gate)

    costs = costs_of(correct, prices, deeper_correct, deeper_tokens)
    accept, give_up = cheapest(signal, costs, may_abstain=deeper_correct is not None)
    saved = _saved_out_of_fold(signal, costs, may_abstain=deeper_correct is not None, seed=seed)
    mean, error = float(saved.mean()), float(saved.std(ddof=1) / np.sqrt(len(saved))) if len(saved) > 1 else np.inf
    quantile = float(stats.t.ppf(1 - delta / looks, max(len(saved) - 1, 1)))
    if mean - quantile * error <= 0:
        outlook = "and more records like these would not change that"
        if mean > 0 and np.isfinite(error):
            more = max(ceil(len(saved) * (quantile * error / mean) ** 2) - len(saved), 1)
            outlook = f"about {more} more would be needed, if others are like these"
        raise NoThreshold(
            f"cost finds no threshold that is shown to cost less than always going deeper from {len(signal)} records "
            f"({mean:.4g} a question less, probability {1 - delta:.4g} asked for); {outlook}"
        )
    return Found(
        accept,
        f"costs {costs.deeper.mean() - mean:.4g} a question, against {costs.deeper.mean():.4g} always going deeper "
        f"and {costs.final.mean():.4g} never (cross-validated; at least {mean - quantile * error:.4g} saved with "
        f"probability {1 - delta:.4g}{'' if give_up is None else '; by a gate that gives up, abstain=True'})",
        give_up,
    )


def costs_of(
    correct: NDArray[np.bool_],
    prices: Prices,
    deeper_correct: NDArray[np.bool_] | None,
    deeper_tokens: FloatArray | None,
) -> Costs:
    """The cost of each record on each route; arguments as for :func:`cost_threshold`.

    Raises:
        NoThreshold: deeper tokens have a price but were not recorded.
    """
    if prices.token and deeper_tokens is None:
        raise NoThreshold(
            "cost needs deeper_tokens in the records, or the price of a run: Prices(deeper=...), on the command "
            "line --deeper-price"
        )
    n = len(correct)
    deeper = np.full(n, prices.deeper)
    if deeper_tokens is not None:
        deeper += prices.token * deeper_tokens
    if deeper_correct is not None:
        deeper += prices.error * ~deeper_correct
    hand_over = prices.error if prices.abstain is None else prices.abstain
    return Costs(np.where(correct, 0.0, prices.error), deeper, np.full(n, hand_over))


def cheapest(signal: FloatArray, costs: Costs, *, may_abstain: bool) -> tuple[float, float | None]:
    """The two thresholds of least total cost: accept up to the first, give up from the second on, None: never.

    Raises:
        NoThreshold: accepting nothing is the cheapest.
    """
    accept, give_up = _cuts(signal, costs, may_abstain=may_abstain)
    if accept is None:
        raise NoThreshold("cost finds nothing to accept: at these prices always going deeper is the cheapest")
    return accept, give_up


def _cost(drafts: Drafts, settings: CalibrationSettings) -> Found:
    if settings.prices is None:
        raise NoThreshold("cost needs to know what things cost: Prices(error=...), on the command line --error-price")
    return cost_threshold(
        drafts.signal,
        drafts.correct,
        prices=settings.prices,
        delta=settings.delta,
        deeper_correct=drafts.deeper_correct,
        deeper_tokens=drafts.deeper_tokens,
        looks=drafts.looks,
        seed=settings.seed,
    )


def _cheapest(drafts: Drafts, settings: CalibrationSettings) -> Found:
    """The rule without the cross-validation that tests it."""
    if settings.prices is None:
        raise NoThreshold("cost needs prices")
    costs = costs_of(drafts.correct, settings.prices, drafts.deeper_correct, drafts.deeper_tokens)
    return Found(cheapest(drafts.signal, costs, may_abstain=drafts.deeper_correct is not None)[0])


COST = ThresholdMethod("cost", _cost, mark=("cross", "✚"), precedence=5, has_own_abstention=True, resampled=_cheapest)


def _cuts(signal: FloatArray, costs: Costs, *, may_abstain: bool) -> tuple[float | None, float | None]:
    ladder = Ladder.of(signal)
    # How many drafts lie at or below each distinct value, with 0 before the first.
    ends = np.append(0, np.flatnonzero(np.diff(ladder.signal, append=np.inf) > 0) + 1)
    final, deeper, abstain = (np.concatenate([[0.0], np.cumsum(column[ladder.order])])[ends] for column in costs)
    # Total for accepting the first i values and giving up after the first j: final_i + (deeper_j - deeper_i) +
    # (abstain_n - abstain_j); for each j the best i is a running minimum.
    gap = final - deeper
    best_start = _running_argmin(gap)
    j = int(np.argmin(gap[best_start] + deeper - abstain)) if may_abstain else len(ends) - 1
    i = int(best_start[j])
    accept = None if i == 0 else float(ladder.signal[ends[i] - 1])
    give_up = None if j == len(ends) - 1 else float(ladder.signal[ends[j]])
    return accept, give_up


def _saved_out_of_fold(signal: FloatArray, costs: Costs, *, may_abstain: bool, seed: int) -> FloatArray:
    """(n,) the saving of each record against going deeper, by the rule made from the other folds."""
    n = len(signal)
    folds = np.random.default_rng(seed).permutation(n) % min(_FOLDS, n)
    saved = np.zeros(n)
    for fold in range(min(_FOLDS, n)):
        here = folds == fold
        if here.all():
            continue
        accept, give_up = _cuts(signal[~here], costs.take(~here), may_abstain=may_abstain)
        mine = costs.take(here)
        accepted = signal[here] <= (-np.inf if accept is None else accept)
        given_up = ~accepted & (signal[here] >= (np.inf if give_up is None else give_up))
        spent = np.where(accepted, mine.final, np.where(given_up, mine.abstain, mine.deeper))
        saved[here] = mine.deeper - spent
    return saved


def _running_argmin(values: FloatArray) -> IntArray:
    """(n,) the first place of the smallest value up to each place."""
    lowest = np.minimum.accumulate(values)
    is_new = np.concatenate([[True], values[1:] < lowest[:-1]])
    return np.asarray(np.maximum.accumulate(np.where(is_new, np.arange(len(values)), 0)))
