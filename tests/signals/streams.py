"""Hypothesis' own streams: parts of a draft with everything that providers do to them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tje_middleware import SequenceLogprobs

#: Tags whole and in pieces, numbers and what only looks like them, words, and the text of an end-of-turn token.
TEXTS = (
    "a",
    " b",
    " 4",
    "42",
    "",
    "<think>",
    "</think>",
    "<",
    "thi",
    "nk>",
    "</",
    "<thinking>",
    "<0x41>",
    "a</think>b",
)
WORDS = ("a", " b", " 4")


@st.composite
def parts(draw: Any, *, texts: tuple[str, ...] = TEXTS, plain: bool = False) -> SequenceLogprobs:
    """A few positions, ragged and masked, certain, even or in between; where not ``plain``, with things unknown."""
    count, width = draw(st.integers(1, 4)), draw(st.integers(2 if plain else 1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    logs = rng.normal(0.0, draw(st.sampled_from([0.0, 1.0, 8.0, 300.0])), (count, width))
    logs -= np.log(np.exp(logs - logs.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True)) + logs.max(
        axis=1, keepdims=True
    )
    if draw(st.booleans()):
        logs[:, 2:] = -np.inf  # an even row is a fair toss then, of one bit give or take a rounding
    written = tuple(draw(st.lists(st.sampled_from(texts), min_size=count, max_size=count)))
    unknown = not plain and draw(st.integers(0, 19)) == 0
    unsampled = not plain and draw(st.integers(0, 19)) == 0
    marked = not plain and draw(st.integers(0, 9)) == 0
    return SequenceLogprobs(
        logs,
        None if unknown else written,
        None if unsampled else np.maximum(logs[:, 0], -9000.0),
        rng.random(count) < 0.5 if marked else None,
    )


def streams(**options: Any) -> st.SearchStrategy[list[SequenceLogprobs]]:
    """The parts of one draft, at least one."""
    return st.lists(parts(**options), min_size=1, max_size=14)
