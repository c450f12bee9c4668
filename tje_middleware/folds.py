"""Folds for cross-validation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ._arrays import BoolArray


def stratified(wrong: BoolArray, rng: np.random.Generator, *, folds: int, repeats: int) -> Iterator[BoolArray]:
    """(n,) masks of measuring folds, each with both classes in it and outside it; none where that cannot be."""
    folds = min(folds, int(wrong.sum()), int((~wrong).sum()))
    if folds < 2:
        return
    for _ in range(repeats):
        place = np.empty(len(wrong), dtype=np.int64)
        for one_class in (wrong, ~wrong):
            place[one_class] = rng.permutation(int(one_class.sum())) % folds
        for fold in range(folds):
            yield place == fold
