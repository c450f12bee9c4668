"""Which tokens are thinking and which are the answer."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# A chat template may open the block in the prompt, so that only its end is generated; a token limit may
# cut it off, so that only its beginning is.
_THINKING = re.compile(
    r"\A(?:(?!<think(?:ing)?>).)*?</think(?:ing)?>|<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL
)


def thinking_mask(tokens: Sequence[str], reasoning: str | None = None) -> NDArray[np.bool_]:
    """Mark the tokens that belong to thinking.

    Args:
        tokens: The T tokens as text.
        reasoning: What the provider says was thought, where it returns that text apart from the answer.

    Returns:
        (T,) bool. True for every token that touches ``<think>...</think>`` (tags included), or that
        spells ``reasoning`` where the text has no tags and begins with it.
    """
    mask = np.zeros(len(tokens), dtype=np.bool_)
    text = "".join(tokens)
    spans = [match.span() for match in _THINKING.finditer(text)] if "think" in text else []
    if not spans and reasoning:
        lead = len(text) - len(text.lstrip())
        if text[lead:].startswith(reasoning.strip()):
            spans = [(0, lead + len(reasoning.strip()))]
    if not spans:
        return mask
    ends = np.cumsum([len(token) for token in tokens])
    starts = ends - [len(token) for token in tokens]
    for begin, end in spans:
        mask |= (starts < end) & (ends > begin)
    return mask
