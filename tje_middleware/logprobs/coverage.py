"""Whether the tokens that logprobs were given for spell the text that was written."""

from __future__ import annotations

import numpy as np

from ..errors import MissingLogprobs, UnreadableLogprobs
from .sequence import SequenceLogprobs

# Characters that tokens may lack of the text without any token being lost.
_TOLERATED_GAP = 2


def covered_characters(sequence: SequenceLogprobs) -> int | None:
    """How much text the tokens spell; None where they are not known."""
    # A token that is part of a character may be written as an empty text.
    return None if sequence.tokens is None else sum(map(len, sequence.tokens)) + sequence.tokens.count("")


def without_end(sequence: SequenceLogprobs) -> SequenceLogprobs:
    """Without the end-of-turn token: llama.cpp lists it, spelling nothing, where it does not stream."""
    if len(sequence) > 1 and sequence.tokens is not None and not sequence.tokens[-1]:
        return sequence.take(np.arange(len(sequence)) < len(sequence) - 1)
    return sequence


def refuse_partial_cover(sequence: SequenceLogprobs, length: int) -> None:
    """A merge that keeps only a stream's last chunk leaves logprobs that look sound and measure one token."""
    if len(sequence.text or "") >= length / 2:
        return  # the usual case, without looking at each token
    covered = covered_characters(sequence)
    if covered is not None and covered < length / 2 and length - covered > _TOLERATED_GAP:
        raise UnreadableLogprobs(
            f"the logprobs cover {covered} of {length} characters of the text, so some were lost on the way; "
            "collect them chunk by chunk with LogprobsAccumulator, or do not stream this call"
        )


def refuse_silent_tool_call(sequence: SequenceLogprobs, length: int) -> None:
    """A tool call whose logprobs cover only the words before it was not measured at all."""
    covered = covered_characters(sequence)
    if covered is not None and covered <= length + _TOLERATED_GAP:
        raise MissingLogprobs("the message makes a tool call, and the provider sent logprobs only for its text")
