"""The figures of a policy: which drafts it accepted, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from .._arrays import BoolArray, FloatArray
from .estimates import Estimate, Resamples, paired_difference, share, share_saved
from .outcomes import Outcomes
from .result import ALWAYS, NEVER, ORACLE, PolicyFigures

_EXACTLY_NONE = Estimate(0.0, 0.0, 0.0)


def figures_of(
    accepted: Mapping[str, BoolArray], outcomes: Outcomes, *, margin: float, seed: int
) -> dict[str, PolicyFigures]:
    """The figures of never and always going deeper, of the oracle, and of gates.

    Args:
        accepted: Of each gate, its (n,) drafts that were accepted.
        outcomes: The n records.
        margin: As for :func:`~tje_middleware.evaluation.replay`.
        seed: Of the bootstrap.
    """
    table = _Table(outcomes, margin, Resamples(len(outcomes.correct), seed=seed))
    everything = np.ones(len(outcomes.correct), dtype=np.bool_)
    figures = {NEVER: table.gated(everything)}
    if outcomes.deeper_correct is not None:
        figures[ALWAYS] = table.always(outcomes.deeper_correct)
        # Where both answers are equally right, accepting costs less.
        figures[ORACLE] = table.gated(outcomes.correct | ~outcomes.deeper_correct)
    return figures | {name: table.gated(drafts) for name, drafts in accepted.items()}


class _Table:
    """Figures over the same records and the same resamples."""

    def __init__(self, outcomes: Outcomes, margin: float, resamples: Resamples) -> None:
        self._outcomes = outcomes
        self._margin = margin
        self._resamples = resamples

    def gated(self, accepted: BoolArray) -> PolicyFigures:
        """Of a policy that writes every draft and goes deeper with those that it does not accept."""
        correct, deeper, tokens = self._outcomes.correct, self._outcomes.deeper_correct, self._outcomes.tokens
        n, count = len(accepted), int(accepted.sum())
        spent = None if tokens is None else tokens.spent(accepted)
        figures = PolicyFigures(
            accepted=share(count, n),
            risk=share(int((accepted & ~correct).sum()), count) if count else None,
            tokens=None if spent is None else round(spent.sum()),
            saved=None if spent is None or tokens is None else self._saved(spent, tokens.always),
        )
        if deeper is None:
            return figures
        right = np.where(accepted, correct, deeper)
        gain = paired_difference(right, deeper)
        return replace(
            figures,
            accuracy=share(int(right.sum()), n),
            accuracy_gain=gain,
            over_random=self._over_random(accepted),
            not_inferior=bool(gain.low >= -self._margin),
        )

    def always(self, deeper_correct: BoolArray) -> PolicyFigures:
        """Of asking the deeper branch alone; it differs from itself by nothing."""
        tokens = self._outcomes.tokens
        return PolicyFigures(
            accepted=share(0, len(deeper_correct)),
            risk=None,
            accuracy=share(int(deeper_correct.sum()), len(deeper_correct)),
            accuracy_gain=_EXACTLY_NONE,
            tokens=None if tokens is None else round(tokens.always.sum()),
            saved=None if tokens is None else _EXACTLY_NONE,
            not_inferior=True,
        )

    def _saved(self, spent: FloatArray, always: FloatArray) -> Estimate:
        return self._resamples.interval(share_saved, spent, always)

    def _over_random(self, accepted: BoolArray) -> Estimate | None:
        gain, mine = self._outcomes.gain, accepted.astype(np.float64)
        if gain is None or accepted.all() or not accepted.any():
            return None
        # Each record accepted with probability = share accepted; what is left of the difference is a covariance.
        return self._resamples.interval(_covariance, mine * gain, mine, gain)


def _covariance(product: FloatArray, one: FloatArray, other: FloatArray) -> FloatArray:
    return product - one * other
