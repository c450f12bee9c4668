"""Thresholds with a finite-sample guarantee: ``risk``, ``noninferior``, and the value from which on to give up.

Each guarantee holds with probability 1 - delta over the drawing of the records, for any distribution of the signal;
the records must be independent draws of the drafts that the gate will decide.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...errors import NoThreshold
from ...logprobs.arrays import BoolArray, FloatArray, IntArray
from ..settings import CalibrationSettings
from .exact_tests import (
    Ladder,
    binomial_p,
    binomial_upper,
    fewest_trials,
    last_rejected,
    mean_loss_upper,
    plan,
    ranks_from,
)
from .rule import Drafts, Found, ThresholdMethod

# Where this many records would not do, the message says that no number of records would.
_MOST_RECORDS = 10**8
# Up to this many records every rank is tested, beyond it ranks in steps of 2 %.
_EVERY_RANK = 2_000
# An extrapolation to more than this many times the records at hand is not shown.
_FARTHEST = 20


def risk_threshold(signal: FloatArray, wrong: BoolArray, *, alpha: float, delta: float, looks: float = 1) -> Found:
    """``risk``: with probability 1 - delta, at most a share alpha of the drafts that it accepts are wrong.

    Learn-then-Test with exact binomial tails: k wrong among m accepted drafts reject "more than alpha are wrong" at
    level P(Binomial(m, alpha) <= k).

    Args:
        signal: (n,) lower = more confident.
        wrong: (n,) whether the draft was wrong.
        alpha: The share in (0, 1).
        delta: The probability in (0, 1).
        looks: The number by which delta is divided where this signal was chosen from several on the same records.

    Raises:
        NoThreshold: no threshold can be shown to do this; the message says how many more records would be needed.
    """
    ladder = Ladder.of(signal)
    bad = ladder.cumulated(wrong)
    m = _most_passing(ladder, bad, alpha, delta / looks)
    if m is None:
        raise NoThreshold(
            f"risk finds no threshold that keeps the share of wrong drafts among accepted ones to {alpha:.4g} with "
            f"probability {1 - delta:.4g} from {len(signal)} records: {_outlook(bad, alpha, delta / looks, 'wrong')}"
        )
    bound = float(binomial_upper(bad[m], m, delta=delta / looks))
    return Found(
        float(ladder.signal[m - 1]),
        f"with probability {1 - delta:.4g} at most {alpha:.2%} of accepted drafts are wrong "
        f"({bad[m]} of {m} accepted here; {bound:.2%} at most, taken alone)",
    )


def abstain_threshold(
    signal: FloatArray, deeper_correct: BoolArray, *, eta: float, delta: float, looks: float = 1
) -> Found:
    """``abstain``: with probability 1 - delta, going deeper gets at most a share eta of the hopeless drafts right.

    Drafts whose signal is at or above the value are hopeless. The test is that of ``risk``, from the least confident
    draft downwards, with a right deeper answer in the place of a wrong draft.

    Args:
        signal: (n,) lower = more confident.
        deeper_correct: (n,) whether the deeper branch was right.
        eta: The share in (0, 1).
        delta: The probability in (0, 1).
        looks: As for :func:`risk_threshold`.

    Raises:
        NoThreshold: as :func:`risk_threshold`.
    """
    ladder = Ladder.of(-signal)
    helped = ladder.cumulated(deeper_correct)
    m = _most_passing(ladder, helped, eta, delta / looks)
    if m is None:
        outlook = _outlook(helped, eta, delta / looks, "answered rightly by going deeper")
        raise NoThreshold(
            f"no draft can be shown to be hopeless (going deeper right for at most {eta:.4g} of them, with "
            f"probability {1 - delta:.4g}) from {len(signal)} records: {outlook}"
        )
    return Found(
        float(-ladder.signal[m - 1]),
        f"with probability {1 - delta:.4g} going deeper answers at most {eta:.2%} of these drafts rightly "
        f"({helped[m]} of {m} here)",
    )


def noninferiority_threshold(
    signal: FloatArray,
    correct: BoolArray,
    deeper_correct: BoolArray,
    *,
    epsilon: float,
    delta: float,
    looks: float = 1,
) -> Found:
    """``noninferior``: with probability 1 - delta, accuracy is at most epsilon below that of always going deeper.

    Accepting a draft loses deeper_correct - correct, one of 1, 0, -1; going deeper loses 0. The mean loss over all
    drafts is bounded (:func:`mean_loss_upper`) for more and more accepted drafts, until the bound exceeds epsilon.

    Args:
        signal: (n,) lower = more confident.
        correct: (n,) whether the draft was right.
        deeper_correct: (n,) whether the deeper branch was.
        epsilon: The difference in (0, 1), as a share of all drafts.
        delta: The probability in (0, 1).
        looks: As for :func:`risk_threshold`.

    Raises:
        NoThreshold: as :func:`risk_threshold`.
    """
    n, ladder = len(signal), Ladder.of(signal)
    losses, gains = (ladder.cumulated(c) for c in (deeper_correct & ~correct, correct & ~deeper_correct))
    # The tests start at one accepted draft: accepting few drafts loses little, whatever the records are.
    counts = ladder.accepted(np.arange(1, n + 1) if n <= _EVERY_RANK else ranks_from(1, n))
    kept = _mean_loss_upper(losses[counts], gains[counts], n, delta / looks) <= epsilon
    m = int(counts[: len(counts) if kept.all() else int(np.argmin(kept))].max(initial=0))
    if not m:
        some = counts[counts > 0]  # a count of 0 has no threshold
        raise NoThreshold(
            f"noninferior finds no threshold whose accuracy is at most {epsilon:.4g} below always going deeper with "
            f"probability {1 - delta:.4g} from {n} records: "
            f"{_outlook_of_losses(losses[some], gains[some], n, epsilon, delta / looks)}"
        )
    return Found(
        float(ladder.signal[m - 1]),
        f"with probability {1 - delta:.4g} accuracy is at most {epsilon * 100:.3g} points below always going deeper "
        f"({m} of {n} accepted here: {losses[m]} right answers lost, {gains[m]} won)",
    )


def _risk(drafts: Drafts, settings: CalibrationSettings) -> Found:
    return risk_threshold(
        drafts.signal, ~drafts.correct, alpha=settings.alpha, delta=settings.delta, looks=drafts.looks
    )


def _noninferior(drafts: Drafts, settings: CalibrationSettings) -> Found:
    if drafts.deeper_correct is None:
        raise NoThreshold("noninferior needs deeper_correct in every record: what the deeper branch made of it")
    return noninferiority_threshold(
        drafts.signal,
        drafts.correct,
        drafts.deeper_correct,
        epsilon=settings.epsilon,
        delta=settings.delta,
        looks=drafts.looks,
    )


def hopeless(drafts: Drafts, settings: CalibrationSettings) -> Found:
    """The rule for the value from which on drafts are hopeless.

    Raises:
        NoThreshold: there are no deeper outcomes, or no drafts are shown to be hopeless.
    """
    if drafts.deeper_correct is None:
        raise NoThreshold("giving up needs deeper_correct in every record: what the deeper branch made of it")
    return abstain_threshold(
        drafts.signal, drafts.deeper_correct, eta=settings.eta, delta=settings.delta, looks=drafts.looks
    )


RISK = ThresholdMethod(
    "risk", _risk, mark=("star", "★"), precedence=6, promises=True, risk_limit=lambda settings: settings.alpha
)
NONINFERIOR = ThresholdMethod("noninferior", _noninferior, mark=("triangle-down", "▼"), precedence=7, promises=True)


def _most_passing(ladder: Ladder, events: IntArray, rate: float, delta: float) -> int | None:
    """The largest number of first drafts among which events are shown to be rarer than ``rate``; None: none."""
    steps = plan(len(ladder.signal), lambda level: fewest_trials(rate, delta=level), delta=delta)
    if steps is None:
        return None
    counts = ladder.accepted(steps.ranks)
    last = last_rejected(binomial_p(events[counts], counts, rate), steps.levels_at(counts))
    return (int(counts[last]) or None) if last is not None else None


def _outlook(events: IntArray, rate: float, delta: float, name: str) -> str:
    """How many more records would be needed, in words, if further records are like these."""
    n = len(events) - 1
    counts = np.arange(1, n + 1)
    more = ""
    # First with half an event more than was seen; for few records that alone may be too much, so then without.
    for unseen, about in ((0.5, "about"), (0.0, "at least")):
        if not ((events[1:] + unseen) / (counts + 2 * unseen) < rate).any():
            continue

        def passes(size: int, unseen: float = unseen) -> bool:
            # The whole procedure is run: a rank that would pass alone may stand behind one that does not pass.
            steps = plan(size, lambda level: fewest_trials(rate, delta=level), delta=delta)
            if steps is None:
                return False
            here = steps.ranks * (n / size)
            seen = (np.interp(here, np.arange(n + 1), events) + unseen) / (here + 2 * unseen)
            # Numbers that are whole except for rounding errors are made whole.
            p_values = binomial_p((seen * steps.ranks + 1e-9).astype(np.int64), steps.ranks, rate)
            return last_rejected(p_values, steps.levels) is not None

        size = _smallest(passes, n, most=(_FARTHEST + 1) * n)
        more = f"{_more(size - n, n, about)} more would be needed, if others are like these"
        if size - n <= _FARTHEST * n:
            break
    if more:
        return more
    least = fewest_trials(rate, delta=delta)
    floor = f"at least {least} drafts must be in it" if n < least else "more records like these would not change that"
    return f"no part of them is {name} more rarely than that here, and {floor}"


def _mean_loss_upper(losses: IntArray, gains: IntArray, n: int, delta: float) -> FloatArray:
    """:func:`mean_loss_upper` of many pairs of losses and gains, computed once for each distinct pair."""
    pairs, place = np.unique(np.stack([losses, gains]), axis=1, return_inverse=True)
    bounds = mean_loss_upper(pairs[0], pairs[1], np.full(pairs.shape[1], n), delta=delta)
    return np.asarray(bounds[place.reshape(-1)])


def _outlook_of_losses(losses: IntArray, gains: IntArray, n: int, epsilon: float, delta: float) -> str:
    # First with half a lost answer more than was seen; for few records that alone may be too much, so then without.
    for more_lost, at_least in ((0.5, "about"), (0.0, "at least")):
        lost, won = ((counts / (n + more_lost)).astype(np.float64) for counts in (losses + more_lost, gains))

        def passes(size: int, lost: FloatArray = lost, won: FloatArray = won) -> bool:
            bounds = mean_loss_upper(lost * size, won * size, np.full(len(lost), size), delta=delta)
            return bool((bounds <= epsilon).any())

        if passes(_MOST_RECORDS):
            more = _more(_smallest(passes, n) - n, n, at_least)
            return f"{more} more would be needed, if others are like these"
    return "accepting even the most confident drafts loses more than that here, and more records would not help"


def _more(records: int, n: int, about: str = "about") -> str:
    """An extrapolation in words, up to 20 times the records at hand."""
    return f"{about} {max(records, 1)}" if records <= _FARTHEST * n else f"more than {_FARTHEST * n}"


def _smallest(holds: Callable[[int], bool], start: int, *, most: int = _MOST_RECORDS) -> int:
    """The smallest size above ``start`` at which a property holds, to 2 %; a larger one than ``most`` may be any."""
    low, high = start, start + 1
    while not holds(high):
        if high > most:
            return high
        low, high = high, 2 * high
    while high - low > max(1, high // 50):
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
