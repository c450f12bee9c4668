"""The choice of ``signal="auto"``: which signal separates right from wrong drafts best, and whether any does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..logprobs.arrays import BoolArray, FloatArray
from ..records.columns import Observations
from ..signals import LEARNED
from ..signals.learned import LearnedSignal
from .learning import learn_where_better
from .profile import Candidate, Verdict
from .separation import areas, auroc_interval, ranks_of, stratified

_FOLDS, _REPEATS = 5, 10
_PERMUTATIONS = 999
_PERMUTATIONS_AT_ONCE = 111
# More records make the choice slower and hardly better.
_MOST_RECORDS = 10_000
# Below the promised 5 %, as a p-value that is estimated from permutations may come out too small.
_SIGNIFICANT = 0.04


@dataclass(frozen=True)
class Choice:
    """The signal that ``"auto"`` chose.

    Attributes:
        signal: Its name; ``"learned"`` for a learned signal.
        table: Every candidate, best first; those that could not be tried come last.
        looks: The number by which guarantees divide their level for this signal, see :func:`shared_among`.
        verdict: Whether the best candidate separates beyond what the best of so many reaches by chance.
        reason: The reason for the verdict.
        auroc: AUROC of the choice on records that had no part in choosing it; None where it is unknown.
        learned: The learned signal, fitted to the records of ``learned_from``; None where a single signal was chosen.
        learned_from: (n,) the records that it was learned from, which no threshold may use again.
    """

    signal: str
    table: tuple[Candidate, ...]
    looks: float
    verdict: Verdict
    reason: str
    auroc: float | None = None
    learned: LearnedSignal | None = None
    learned_from: BoolArray | None = None


def choose(observations: Observations, *, seed: int = 0) -> Choice:
    """Choose the signal that separates best, and judge it with a correction for the number of candidates.

    Of the signals that are within one standard error of the best, the first candidate is taken, so that the choice
    does not depend on a few records (the one-standard-error rule, Breiman et al. 1984, for differences of AUROCs on
    the same records, DeLong et al. 1988). Plain candidates stand before special ones.

    Every candidate's AUROC is compared with the largest that the same candidates reach when the labels are permuted
    (single-step max-T, Westfall & Young 1993); that is exact, also for candidates that resemble each other. The AUROC
    of the choice is measured by nested cross-validation: chosen on some folds, measured on another, ten times over. A
    learned signal is taken only where it beats single ones that were chosen and measured in the same way.

    Args:
        observations: Records with every candidate's values.
        seed: Of folds and permutations.
    """
    names, skipped = _distinct(observations)
    wrong = ~observations.correct
    if wrong.all() or not wrong.any():
        return _without_a_class(names, skipped, observations)
    rng = np.random.default_rng(seed)
    values = np.stack([observations.signals[name] for name in names])
    if len(wrong) > _MOST_RECORDS:
        some = rng.permutation(len(wrong))[:_MOST_RECORDS]
        values, wrong = values[:, some], wrong[some]
    ranks = ranks_of(values)
    found = areas(ranks, wrong)
    tests = _permuted(ranks, wrong, found, rng)
    nested = _cross_validated(values, wrong, rng)
    taken = _taken(values, ranks, wrong, tests.adjusted)
    table = [
        Candidate(
            signal=names[place],
            auroc=float(found[place]),
            p_value=float(tests.plain[place]),
            p_adjusted=float(tests.adjusted[place]),
            auroc_out_of_fold=nested.each(place),
            chosen=nested.share(place),
        )
        for place in np.argsort(-found, kind="stable")
    ]
    verdict, reason = _judged(names, taken, found, tests, nested, wrong)
    signal, auroc, learned, mask = names[taken], nested.auroc, None, None
    better = learn_where_better(observations, names, seed=seed) if verdict != "unusable" else None
    if better is not None:
        signal, auroc, learned, mask = LEARNED, better.auroc, better.signal, better.learned_from
        table.insert(0, Candidate(signal=LEARNED, auroc_out_of_fold=auroc))
        reason = (
            f"{len(learned.features)} signals weighed together beat a single one, {names[taken]}, on "
            f"records they were not learned from (AUROC {auroc:.3f} against {better.auroc_single:.3f})"
        )
    looks = shared_among(len(names) + 1, place=len(names) if better is not None else taken)
    return Choice(signal, (*table, *skipped), looks, verdict, reason, auroc, learned, mask)


def shared_among(signals: int, *, place: int) -> float:
    """The number by which a guarantee's level is divided for the candidate at ``place`` (from 0) of several signals.

    Weighted Bonferroni: the k-th candidate of S gets a share of 1 / (k H_S), H_S = 1 + 1/2 + ... + 1/S, so that plain
    signals, which come first and are chosen most often, get more than special ones. The order is fixed before any
    label is seen, and the shares add up to 1.
    """
    return (place + 1) * sum(1 / k for k in range(1, signals + 1))


def _distinct(observations: Observations) -> tuple[list[str], list[Candidate]]:
    """The candidates with distinct values, and the others, each with the reason why it was left out."""
    names: dict[bytes, str] = {}
    skipped = []
    for name, column in observations.signals.items():
        first = names.setdefault(column.tobytes(), name)
        if first != name:
            skipped.append(Candidate(signal=name, reason=f"the same as {first} on every record"))
    skipped += [Candidate(signal=name, reason=reason) for name, reason in observations.skipped.items()]
    return list(names.values()), skipped


def _taken(values: FloatArray, ranks: FloatArray, wrong: BoolArray, p_adjusted: FloatArray | None = None) -> int:
    """The place of the first of the (S, n) candidates that is as good as the best.

    Where the best is significant by its adjusted p-value, so is the one that is taken.
    """
    n_i = int(wrong.sum())
    n_c = len(wrong) - n_i
    # Each draft's part in the AUROC: the share of the other class that lies on the right side of it.
    of_wrong = (ranks[:, wrong] - ranks_of(values[:, wrong])) / n_c
    of_right = 1 - (ranks[:, ~wrong] - ranks_of(values[:, ~wrong])) / n_i
    found = of_wrong.mean(axis=1)
    best = int(np.argmax(found))
    if min(n_c, n_i) < 2:
        return best
    error = np.sqrt(
        (of_wrong - of_wrong[best]).var(axis=1, ddof=1) / n_i + (of_right - of_right[best]).var(axis=1, ddof=1) / n_c
    )
    as_good = found >= found[best] - error - 1e-12
    if p_adjusted is not None and p_adjusted[best] <= _SIGNIFICANT:
        as_good &= p_adjusted <= _SIGNIFICANT
    return int(np.flatnonzero(as_good)[0])


def _without_a_class(names: Sequence[str], skipped: Sequence[Candidate], observations: Observations) -> Choice:
    missing = "incorrect" if observations.correct.all() else "correct"
    return Choice(
        signal=names[0],
        table=(*(Candidate(signal=name) for name in names), *skipped),
        looks=shared_among(len(names) + 1, place=0),
        verdict="unusable",
        reason=f"no {missing} drafts among {len(observations)} records, so no separation can be shown",
    )


@dataclass(frozen=True)
class _Permuted:
    """One-sided p-values of S candidates under permuted labels.

    Attributes:
        plain: (S,) of each alone.
        adjusted: (S,) against the largest AUROC of all candidates.
        reversed: The p-value of the smallest AUROC against the smallest of all: evidence for the wrong direction.
    """

    plain: FloatArray
    adjusted: FloatArray
    reversed: float


def _permuted(ranks: FloatArray, wrong: BoolArray, found: FloatArray, rng: np.random.Generator) -> _Permuted:
    n_i = int(wrong.sum())
    pairs = n_i * (len(wrong) - n_i)
    reached, topped, bottomed = np.ones(len(found)), np.ones(len(found)), 1
    # Sums of ranks are rounded, and equal ones must count as equal.
    level, floor = found - 1e-12, found.min() + 1e-12
    for _ in range(0, _PERMUTATIONS, _PERMUTATIONS_AT_ONCE):
        labels = rng.permuted(np.tile(wrong, (_PERMUTATIONS_AT_ONCE, 1)), axis=1)
        chance = (ranks @ labels.T.astype(np.float64) - n_i * (n_i + 1) / 2) / pairs
        reached += (chance >= level[:, None]).sum(axis=1)
        topped += (chance.max(axis=0) >= level[:, None]).sum(axis=1)
        bottomed += int((chance.min(axis=0) <= floor).sum())
    return _Permuted(reached / (_PERMUTATIONS + 1), topped / (_PERMUTATIONS + 1), bottomed / (_PERMUTATIONS + 1))


@dataclass(frozen=True)
class _Nested:
    """AUROCs on folds that had no part in choosing the candidate.

    Attributes:
        measured: (F, S) each candidate's AUROC on each measuring fold.
        chosen: (F,) the candidate that was chosen on the other folds.
        pairs: (F,) pairs of a right and a wrong draft in the measuring fold: its weight.
    """

    measured: FloatArray
    chosen: NDArray[np.int64]
    pairs: FloatArray

    @property
    def auroc(self) -> float | None:
        """AUROC of the choice; None where there are no folds."""
        if not len(self.pairs):
            return None
        return float(np.average(self.measured[np.arange(len(self.chosen)), self.chosen], weights=self.pairs))

    def each(self, place: int) -> float | None:
        """AUROC of one candidate; None where there are no folds."""
        return float(np.average(self.measured[:, place], weights=self.pairs)) if len(self.pairs) else None

    def share(self, place: int) -> float | None:
        """Share of the folds on which a candidate was chosen; None where there are no folds."""
        return float((self.chosen == place).mean()) if len(self.pairs) else None


def _cross_validated(values: FloatArray, wrong: BoolArray, rng: np.random.Generator) -> _Nested:
    measured, chosen, pairs = [], [], []
    for here in stratified(wrong, rng, folds=_FOLDS, repeats=_REPEATS):
        others = values[:, ~here]
        chosen.append(_taken(others, ranks_of(others), wrong[~here]))
        measured.append(areas(ranks_of(values[:, here]), wrong[here]))
        pairs.append(float(wrong[here].sum() * (~wrong[here]).sum()))
    return _Nested(np.array(measured), np.array(chosen, dtype=np.int64), np.array(pairs))


def _judged(
    names: Sequence[str], place: int, aurocs: FloatArray, tests: _Permuted, nested: _Nested, wrong: BoolArray
) -> tuple[Verdict, str]:
    """The verdict on the candidate at ``place``, and the reason for it."""
    taken, looks = names[place], f"{len(names)} signals"
    found = f"AUROC {aurocs[place]:.3f}, p = {tests.adjusted[place]:.3f} corrected for {looks}"
    if tests.adjusted[place] > _SIGNIFICANT:
        if tests.reversed <= _SIGNIFICANT:
            opposite = int(np.argmin(aurocs))
            return "unusable", (
                f"the wrong direction: by {names[opposite]} incorrect drafts are the more confident ones "
                f"(AUROC {aurocs[opposite]:.3f}, p = {tests.reversed:.3f} corrected for {looks})"
            )
        return "unusable", (
            f"no signal separates right from wrong beyond chance: {taken} reaches {found}; add records, or name one "
            f"signal beforehand"
        )
    if nested.auroc is not None:
        if nested.auroc <= 0.5:
            return "unusable", (
                f"{taken} separates these records ({found}), but what is chosen on some of them does not separate "
                f"the others (AUROC {nested.auroc:.3f} out of fold); add records, or name one signal beforehand"
            )
        low, high = auroc_interval(nested.auroc, int((~wrong).sum()), int(wrong.sum()))
        found += f"; {nested.auroc:.3f} out of fold, 95 % interval {low:.3f} to {high:.3f}"
        if low > 0.5:
            return "usable", f"{taken} separates right from wrong drafts ({found})"
    return "weak", f"{taken} separates these records, but might not others ({found}); add some"
