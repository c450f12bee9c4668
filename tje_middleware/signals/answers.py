"""Signals of the tokens that state the final answer, apart from those that lead up to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..errors import SignalError
from ..logprobs import SequenceLogprobs
from ..logprobs.arrays import FloatArray
from .positions import entropies, token_ends, token_texts


def answer_span(sequence: SequenceLogprobs, find: Find | None = None) -> NDArray[np.int64]:
    r"""Which tokens state the final answer: all that share a character with it.

    The answer is looked for in the joined texts of the tokens outside the thinking. So its place does not depend on
    how a provider writes tokens that are fragments of characters.

    Args:
        sequence: The draft.
        find: How to find it in the text: a pattern (str or compiled), whose last match counts (its group 1, or all
            of it); or a function from the text to ``(start, end)`` or None. By default the last ``\boxed{X}``,
            ``#### X``, JSON ``"answer": X``, "Final answer: X" or "answer is X", in this order, and
            where there is none of these the last line with more than brackets and marks.

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


#: A span of characters: the first, and the one behind the last.
Span = tuple[int, int]
#: How to find the answer: a pattern, whose last match counts (its group 1, or all of it), or a function.
Find = str | re.Pattern[str] | Callable[[str], Span | None]

# No pattern can match the same characters in two ways, so that a long text without an answer takes linear time.
# Braces may nest twice, as in \frac{\sqrt{2}}{3}.
_FLAT = r"[^{}]*(?:\{[^{}]*\}[^{}]*)*"
_NESTED = rf"[^{{}}]*(?:\{{{_FLAT}\}}[^{{}}]*)*"
_SENTENCE = r"[\s:*_]*([^\n]+?)(?=[.!?]\s|\n|\Z)"

# The formal notations first: prose may speak of an answer in passing. "####" is GSM8K's, but also a heading's, so
# only a number or a choice may follow.
_STATEMENTS = (
    re.compile(rf"\\boxed\s?\{{({_NESTED})\}}"),
    re.compile(r"(?<!#)####[ \t]*([-+$€£]{0,2}\d[\d,./:]*[ \t]?%?|[A-Z])[ \t]*$", re.MULTILINE),
    re.compile(r'"(?:final_)?answer"\s?:\s?("[^"\\]*(?:\\.[^"\\]*)*"|\[[^\]\n]*\]|[^\s"\[{][^,}\n]*)', re.DOTALL),
    re.compile(rf"\bfinal answer[*_]{{0,3}} ?(?:is\b|[:=\n]){_SENTENCE}", re.IGNORECASE),
    re.compile(rf"\banswer[*_]{{0,3}} ?(?:is\b|:){_SENTENCE}", re.IGNORECASE),
)
# Some servers send the special tokens that end a turn.
_END_MARK = re.compile(r"(?:<\|[^<>|]{1,40}\|>|</s>|<eos>|<end_of_turn>)\Z")
_LONGEST_END_MARK = 44
_BEFORE, _BEHIND = " \t\r\n*_`\"':", " \t\r\n*_`\"'.,;:!"

# A line of these alone closes a formula or a block of code.
_BRACKETS = "\\()[]{}<>$"


def find_span(text: str, find: Find | None = None) -> Span | None:
    r"""The characters of the final answer, or None where there is none.

    Args:
        text: All that the model answered.
        find: How to find it; None: the last ``\boxed{X}``, ``#### X``, JSON ``"answer": X``, "Final answer: X"
            or "answer is X", whichever of these comes first in this list, or else the last line with more than
            brackets and marks.

    Raises:
        SignalError: ``find`` gave something else than a span inside the text.
    """
    if find is None:
        return _final_answer(text)
    if isinstance(find, (str, re.Pattern)):
        return _last_match(re.compile(find), text, len(text))
    span = find(text)
    if span is None:
        return None
    try:
        begin, end = span
        inside = 0 <= begin <= end <= len(text)
    except (TypeError, ValueError):
        inside = False
    if not inside:
        raise SignalError(
            f"the function that finds the answer must give (start, end) within the text, or None, not {span!r}"
        )
    return begin, end


def _final_answer(text: str) -> Span | None:
    end = _end_of_words(text)
    for pattern in _STATEMENTS:
        span = _last_match(pattern, text, end)
        stated = span and _trimmed(text, span)
        if stated:
            return stated
    return _last_line(text, end)


def _last_line(text: str, end: int) -> Span | None:
    """The last line with more than brackets and marks; where there is none, the last line that is not empty."""
    last = None
    while end > 0:
        begin = text.rfind("\n", 0, end) + 1
        span = _trimmed(text, (begin, end))
        if span and text[slice(*span)].strip(_BRACKETS):
            return span
        last, end = last or span, begin - 1
    return last


def _last_match(pattern: re.Pattern[str], text: str, end: int) -> Span | None:
    last: re.Match[str] | None = None
    for match in pattern.finditer(text, 0, end):
        last = match
    if last is None:
        return None
    return last.span(1) if pattern.groups and last[1] is not None else last.span()


def _end_of_words(text: str) -> int:
    """Where the text ends without the white space and special tokens behind it."""
    end = len(text.rstrip())
    while mark := _END_MARK.search(text, max(0, end - _LONGEST_END_MARK), end):
        end = len(text[: mark.start()].rstrip())
    return end


def _trimmed(text: str, span: Span) -> Span | None:
    """The span without the marks around it; None where nothing is left."""
    begin, end = span
    rest = text[begin:end].lstrip(_BEFORE)
    begin = end - len(rest)
    end = begin + len(rest.rstrip(_BEHIND))
    return (begin, end) if begin < end else None


_DIGIT = re.compile(r"\d")
# A fragment of a character or a special token, as tokenizers and providers write them: its digits do not count.
_CODE = re.compile(r"<0x[0-9a-fA-F]{2}>|(?:bytes:)?(?:\\x[0-9a-fA-F]{2})+|<\|[^<>|]*\|>")


def number_entropy(sequence: SequenceLogprobs) -> float:
    """Total entropy of the tokens that hold a digit (bits).

    Raises:
        SignalError: there is no such token, there are no tokens, or their texts are not known.
    """
    return float(_number_entropies(sequence).sum())


def number_max(sequence: SequenceLogprobs) -> float:
    """The largest entropy of a token that holds a digit (bits).

    Raises:
        SignalError: as :func:`number_entropy`.
    """
    return float(_number_entropies(sequence).max())


def _number_entropies(sequence: SequenceLogprobs) -> FloatArray:
    token_texts(sequence)
    positions = sequence.once(number_positions)
    if not len(positions):
        raise SignalError("no token of the sequence holds a digit")
    return entropies(sequence)[positions]


def number_positions(sequence: SequenceLogprobs) -> NDArray[np.int64]:
    """Which tokens hold a digit, ascending; digits of byte codes and special tokens do not count."""
    text, tokens = sequence.text or "", token_texts(sequence)
    digits = [match.start() for match in _DIGIT.finditer(text)]
    positions = np.unique(np.searchsorted(token_ends(sequence), digits, side="right"))
    if "\\x" in text or "<" in text:
        positions = positions[[not _CODE.fullmatch(tokens[position].strip()) for position in positions]]
    return positions
