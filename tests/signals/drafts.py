"""Drafts whose every number a test can work out by hand, and hypothesis' own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tje_middleware import SequenceLogprobs

TEXTS = ("The", " sum", " is", " 4", "2", ".\n", "Final", " answer", ":", " 4", "2")


def of_bits(bits: Sequence[float], texts: Sequence[str] | None = None, **known: Any) -> SequenceLogprobs:
    """A draft whose token t has ``bits[t]`` bits, each a whole number: a fair choice of 2, 4, 8 ..."""
    width = 2 ** int(max(bits, default=0))
    top = np.full((len(bits), width), -np.inf)
    for row, value in zip(top, bits, strict=True):
        row[: 2 ** int(value)] = -value * np.log(2)
    return SequenceLogprobs(top, None if texts is None else tuple(texts), **known)


def of_probabilities(rows: Sequence[Sequence[float]]) -> SequenceLogprobs:
    """A draft of these probabilities, positions x alternatives."""
    with np.errstate(divide="ignore"):
        return SequenceLogprobs(np.log(np.array(rows)))


def sharpened(sequence: SequenceLogprobs, power: float) -> SequenceLogprobs:
    """Every distribution raised to a power and renormalised: what a lower temperature does."""
    logs = sequence.top_logprobs * power
    logs = logs - np.log(np.exp(logs).sum(axis=1, keepdims=True))
    sampled = sequence.sampled_logprobs
    return SequenceLogprobs(logs, sequence.tokens, None if sampled is None else sampled * power)


@st.composite
def drafts(draw: Any, min_tokens: int = 1, max_tokens: int = 40) -> SequenceLogprobs:
    """Drafts with texts and sampled logprobs, at least two alternatives a position, all of them likely enough."""
    count = draw(st.integers(min_tokens, max_tokens))
    width = draw(st.integers(2, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    logs = rng.normal(0.0, draw(st.sampled_from([0.1, 1.0, 4.0])), (count, width))
    logs = logs - np.log(np.exp(logs).sum(axis=1, keepdims=True))
    texts = (*rng.choice(np.array(TEXTS, dtype=object), count - 1), " 42")
    return SequenceLogprobs(logs, texts, logs[:, 0])
