"""Learning a signal from several signals, and testing whether it beats the best single one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from ..errors import SignalError
from ..logprobs.arrays import BoolArray, FloatArray
from ..records.columns import Observations
from ..signals.learned import FARTHEST, Feature, LearnedSignal
from .separation import areas, ranks_of, stratified

_FOLDS, _REPEATS, _INNER_FOLDS = 5, 4, 3
# With fewer drafts of a class the weights would be noise: only half of the drafts are used to learn them.
_LEAST_OF_A_CLASS = 50
# More records make the comparison slower and hardly better.
_MOST_RECORDS = 4_000
_SIGNIFICANT = 0.05
# Strengths of the ridge to choose from, on the mean log-loss.
_PENALTIES = (1.0, 0.1, 0.01)


@dataclass(frozen=True)
class Better:
    """A learned signal that beats the best single one.

    Attributes:
        signal: Fitted to the records of ``learned_from``.
        learned_from: (n,) a random half of the records.
        auroc: AUROC of learned signals on folds that they were not learned from.
        auroc_single: AUROC of the best single signals, chosen and measured on the same folds.
    """

    signal: LearnedSignal
    learned_from: BoolArray
    auroc: float
    auroc_single: float


def learn(columns: Mapping[str, FloatArray], correct: NDArray[np.bool_], *, penalty: float) -> LearnedSignal:
    """Fit a learned signal.

    Args:
        columns: Of each signal, its (n,) values; constant ones get no weight and are left out.
        correct: (n,) whether the draft was right; both must occur.
        penalty: Strength of the ridge: half of it times the sum of the squared weights is added to the mean log-loss.

    Raises:
        SignalError: no signal varies, or only one class is there.
    """
    varying = {name: column for name, column in columns.items() if np.ptp(column) > 0}
    if not varying or correct.all() or not correct.any():
        raise SignalError("nothing can be learned: no signal varies, or all drafts are right, or all wrong")
    values = np.stack(list(varying.values()), axis=1)
    centers, scales = values.mean(axis=0), values.std(axis=0)
    intercept, weights = _fit(np.clip((values - centers) / scales, -FARTHEST, FARTHEST), ~correct, penalty)
    # Where every signal points the wrong way, all weights are 0: one feature is kept, and the signal is a constant.
    kept = np.flatnonzero(weights > 0) if (weights > 0).any() else [0]
    names = list(varying)
    return LearnedSignal(
        intercept=intercept,
        features=tuple(
            Feature(signal=names[i], center=float(centers[i]), scale=float(scales[i]), weight=float(weights[i]))
            for i in kept
        ),
    )


def _fit(features: FloatArray, wrong: NDArray[np.bool_], penalty: float) -> tuple[float, FloatArray]:
    """Ridge logistic regression with weights that are not negative: a convex problem with one solution."""
    sign = np.where(wrong, -1.0, 1.0)
    columns = np.ascontiguousarray(features.T)

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        weights = parameters[1:]
        # einsum, not @: on a busy machine the threads behind @ wait for each other far longer than this takes.
        margins = sign * (parameters[0] + np.einsum("kn,k->n", columns, weights))
        slope = sign * special.expit(margins) / len(sign)
        value = float(np.logaddexp(0, margins).mean() + penalty / 2 * (weights**2).sum())
        return value, np.concatenate([[slope.sum()], np.einsum("kn,n->k", columns, slope) + penalty * weights])

    count = features.shape[1]
    start = np.concatenate([[special.logit(np.clip(wrong.mean(), 1e-6, 1 - 1e-6))], np.full(count, 0.0)])
    bounds = [(None, None)] + [(0.0, None)] * count
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return float(found.x[0]), np.asarray(found.x[1:])


def learn_where_better(observations: Observations, names: Sequence[str], *, seed: int) -> Better | None:
    """A learned signal, where nested cross-validation shows that it beats the best single one; else None.

    Strength of the ridge and choice of the single signal are both made inside the training folds. The difference is
    tested with the corrected resampled t-test (Nadeau & Bengio 2003), one-sided at 5 %.

    Args:
        observations: Records with the signals' values.
        names: The signals to weigh; at least two.
        seed: Of folds and of the half to learn from.
    """
    wrong = ~observations.correct
    if len(names) < 2 or min(wrong.sum(), (~wrong).sum()) < _LEAST_OF_A_CLASS:
        return None
    rng = np.random.default_rng(seed)
    some = rng.permutation(len(wrong))[:_MOST_RECORDS]
    columns, labels = {name: observations.signals[name][some] for name in names}, wrong[some]
    learned, single, pairs = [], [], []
    for here in stratified(labels, rng, folds=_FOLDS, repeats=_REPEATS):
        train, test = _part(columns, ~here), _part(columns, here)
        best = max(train, key=lambda name: _area(train[name], labels[~here]))
        learned.append(_area(_fitted(train, labels[~here], rng).of_columns(test), labels[here]))
        single.append(_area(test[best], labels[here]))
        pairs.append(float(labels[here].sum() * (~labels[here]).sum()))
    difference = np.array(learned) - np.array(single)
    spread = difference.std(ddof=1) * np.sqrt(1 / len(difference) + 1 / (_FOLDS - 1))
    if not difference.mean() > stats.t.ppf(1 - _SIGNIFICANT, len(difference) - 1) * spread:
        return None
    # Drawn without the labels, so that the labels of the other half stay independent, as the guarantees require.
    half = rng.permutation(len(wrong)) % 2 == 0
    return Better(
        signal=_fitted(_part({name: observations.signals[name] for name in names}, half), wrong[half], rng),
        learned_from=half,
        auroc=float(np.average(learned, weights=pairs)),
        auroc_single=float(np.average(single, weights=pairs)),
    )


def _fitted(columns: Mapping[str, FloatArray], wrong: BoolArray, rng: np.random.Generator) -> LearnedSignal:
    """A signal learned with the penalty that has the largest AUROC over folds of the same records."""
    folds = list(stratified(wrong, rng, folds=_INNER_FOLDS, repeats=1))

    def mean_area(penalty: float) -> float:
        found = []
        for here in folds:
            signal = learn(_part(columns, ~here), ~wrong[~here], penalty=penalty)
            found.append(_area(signal.of_columns(_part(columns, here)), wrong[here]))
        return float(np.mean(found))

    return learn(columns, ~wrong, penalty=max(_PENALTIES, key=mean_area))


def _part(columns: Mapping[str, FloatArray], mask: BoolArray) -> dict[str, FloatArray]:
    return {name: column[mask] for name, column in columns.items()}


def _area(signal: FloatArray, wrong: BoolArray) -> float:
    return float(areas(ranks_of(signal), wrong))
