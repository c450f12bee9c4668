"""Recorded outcomes with exactly the numbers that a test names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tje_middleware.records.columns import Observations


def recorded(
    values: Sequence[float],
    correct: Sequence[int],
    deeper: Sequence[int] | None = None,
    *,
    tokens: Sequence[float] | float | None = None,
    deeper_tokens: Sequence[float] | float | None = None,
    ids: Sequence[str] = (),
) -> Observations:
    """Records of the signal ``mean_entropy``; one number of tokens is that of every record."""
    n = len(values)
    columns = (None if c is None else np.broadcast_to(np.array(c, float), n).copy() for c in (tokens, deeper_tokens))
    draft, deep = columns
    return Observations(
        correct=np.array(correct, dtype=bool),
        signals={"mean_entropy": np.array(values, dtype=float)},
        tokens=draft,
        deeper_correct=None if deeper is None else np.array(deeper, dtype=bool),
        deeper_tokens=deep,
        ids=tuple(ids),
    )


def drawn(n: int, *, gap: float = 1.0, seed: int = 0, share_correct: float = 0.6) -> Observations:
    """n records whose wrong drafts lie ``gap`` standard deviations higher, with all outcomes."""
    rng = np.random.default_rng(seed)
    correct = rng.random(n) < share_correct
    return Observations(
        correct=correct,
        signals={"mean_entropy": rng.normal(2, 1, n) + gap * ~correct},
        tokens=rng.integers(20, 80, n).astype(float),
        deeper_correct=rng.random(n) < 0.85,
        deeper_tokens=rng.integers(200, 400, n).astype(float),
    )
