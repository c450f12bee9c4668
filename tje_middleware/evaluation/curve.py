"""The savings curve: tokens saved and accuracy, as more and more drafts are accepted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationError
from ..logprobs.arrays import FloatArray
from ..records.columns import Observations
from .estimates import Estimate, Resamples, around
from .result import Outcomes, SavingsCurve


def savings_curve(
    order: FloatArray, observations: Observations, *, deeper_includes_draft: bool = False, seed: int = 0
) -> SavingsCurve:
    """The curve of accepting drafts in an order.

    Records of equal order count in expectation over all ways to order them, so their places in the file do not
    matter.

    Args:
        order: (n,) lower = accepted earlier: a signal, or its normalised rank where it came from several profiles.
        observations: The records, with the deeper outcome.
        deeper_includes_draft: As for :func:`~tje_middleware.evaluation.replay`.
        seed: Seed of the bootstrap for ``share_of_way``.

    Raises:
        CalibrationError: no deeper outcomes, or not one value of the order for each record.
    """
    outcomes = Outcomes.of(observations, deeper_includes_draft=deeper_includes_draft)
    gain, n = outcomes.gain, len(observations)
    if gain is None or outcomes.deeper_correct is None:
        raise CalibrationError(
            "a savings curve needs deeper_correct in every record: what the deeper branch made of it"
        )
    if np.shape(order) != (n,) or not n:
        raise CalibrationError(f"{n} records need an order of shape ({n},), not {np.shape(order)}")
    always, accepted = float(outcomes.deeper_correct.mean()), np.arange(n + 1) / n
    by_signal, best = _Order.of(order), _Order.of(-gain)
    gate, oracle = (always + part.cumulated(gain) / n for part in (by_signal, best))
    random = always + accepted * float(gain.mean())
    saved = None
    if outcomes.tokens is not None:
        tokens = outcomes.tokens
        spent = tokens.draft.sum() + tokens.deeper.sum() - by_signal.cumulated(tokens.deeper)
        saved = 1 - spent / tokens.always.sum()
    return SavingsCurve(
        accepted=accepted,
        saved=saved,
        gate=gate,
        random=random,
        oracle=oracle,
        area=float(gate.mean()),
        area_random=float(random.mean()),
        area_oracle=float(oracle.mean()),
        share_of_way=_share_of_way(gain, by_signal, best, seed),
    )


# Where the oracle is better than random by less than this, the difference is rounding.
_NO_WAY = 1e-12


class _Order(NamedTuple):
    """Sorted records, equal ones in one block.

    Attributes:
        places: (n,) the place of each record before sorting.
        starts: (B,) the first record of each block.
    """

    places: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, order: FloatArray) -> _Order:
        places = np.argsort(order, kind="stable")
        ascending = order[places]
        return cls(places, np.flatnonzero(np.concatenate([[True], ascending[1:] > ascending[:-1]])))

    def summed(self, values: FloatArray) -> FloatArray:
        """(..., B) sums over the blocks, of values (..., n)."""
        return np.asarray(np.add.reduceat(values[..., self.places], self.starts, axis=-1))

    def cumulated(self, values: FloatArray) -> FloatArray:
        """(n + 1,) expected sums over the first m records, equal ones in random order."""
        sizes = np.diff(self.starts, append=len(values))
        return np.concatenate([[0.0], np.cumsum(np.repeat(self.summed(values) / sizes, sizes))])

    def areas(self, values: FloatArray, counts: FloatArray) -> FloatArray:
        """(...,) means over m = 0 .. n of ``cumulated(values) / n``, with each record ``counts`` (..., n) times."""
        n, sizes = len(values), self.summed(counts)
        # A record in place i (from 0) is among the first m for n - i of the n + 1 values of m.
        places = np.cumsum(sizes, axis=-1) - (sizes + 1) / 2
        return np.asarray((self.summed(values * counts) * (n - places)).sum(axis=-1) / (n * (n + 1)))


def _share_of_way(gain: FloatArray, by_signal: _Order, best: _Order, seed: int) -> Estimate | None:
    def ways(counts: FloatArray) -> FloatArray:
        random = counts @ gain / len(gain) / 2
        to_go = best.areas(gain, counts) - random
        covered = by_signal.areas(gain, counts) - random
        return np.where(to_go > _NO_WAY, covered / np.maximum(to_go, _NO_WAY), np.nan)

    value = float(ways(np.ones(len(gain))))
    if np.isnan(value):
        return None
    batches = Resamples(len(gain), seed=seed).batches()
    return around(value, np.concatenate([ways(counts.astype(np.float64)) for counts in batches]))
