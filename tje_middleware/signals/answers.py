"""Signals of the tokens that state the final answer, apart from those that lead up to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .._arrays import FloatArray
from ..errors import SignalError
from ..logprobs import SequenceLogprobs
from .positions import entropies, token_ends, token_texts
from .spans import Find, find_span


def answer_span(sequence: SequenceLogprobs, find: Find | None = None) -> NDArray[np.int64]:
    r"""Which tokens state the final answer: all that share a character with it.

    It is looked for in the joined tokens without the thinking, so that fragments of characters, which no
    provider writes alike, cannot shift it.

    Args:
        sequence: The draft.
        find: How to find it in the text: a pattern (str or compiled), whose last match counts (its group 1, or all
            of it); or a function from the text to ``(start, end)`` or None. By default the last ``\boxed{X}``,
            ``#### X``, JSON ``"answer": X``, "Final answer: X" or "answer is X", in this order, and
            where there is none of these the last line that says something.

    Returns:
        (n,) positions in the sequence, ascending, n at least 1.

    Raises:
        SignalError: nothing is found, there are no answer tokens, or their texts are not known.
    """
    answer = sequence.answer
    if len(sequence) and not len(answer):
        raise SignalError("the sequence has no answer tokens, only thinking")
    token_texts(answer)
    span = find_span(answer.text or "", find)
    if span is None or span[0] == span[1]:
        raise SignalError("no final answer is found in the text")
    begin, end = span
    ends = token_ends(answer)
    first = int(np.searchsorted(ends, begin, side="right"))
    last = int(np.searchsorted(ends, end, side="left"))
    positions = np.arange(first, last + 1)
    return positions if answer is sequence else np.flatnonzero(~sequence.thinking_mask)[positions]


def answer_entropy(sequence: SequenceLogprobs) -> float:
    """Mean entropy of the tokens of the final answer (bits), as :func:`answer_span` finds it.

    Raises:
        SignalError: as :func:`answer_span`.
    """
    return float(_answer_entropies(sequence).mean())


def answer_total(sequence: SequenceLogprobs) -> float:
    """Total entropy of the tokens of the final answer (bits), as :func:`answer_span` finds it.

    Raises:
        SignalError: as :func:`answer_span`.
    """
    return float(_answer_entropies(sequence).sum())


def answer_entropy_by(find: Find) -> Callable[[SequenceLogprobs], float]:
    r"""A signal, to be registered: mean entropy (bits) of the answer that ``find`` finds.

    Args:
        find: As in :func:`answer_span`. A signal made with a function that is not defined at the top of a module
            cannot be pickled.

    Raises:
        SignalError: the pattern is malformed.

    Example:
        >>> from tje_middleware.signals import answer_entropy_by, register_signal
        >>> verdict = register_signal("verdict_entropy", answer_entropy_by(r"(?i)verdict:\s*(\w+)"))
    """
    try:
        return partial(_mean_by, find=re.compile(find) if isinstance(find, str) else find)
    except re.error as error:
        raise SignalError(f"{find!r} is no pattern: {error}") from error


def _mean_by(sequence: SequenceLogprobs, find: Find) -> float:
    return float(entropies(sequence)[answer_span(sequence, find)].mean())


def _answer_entropies(sequence: SequenceLogprobs) -> FloatArray:
    positions = sequence.once(answer_span)
    return entropies(sequence)[positions]
