"""Where a text states its final answer."""

from __future__ import annotations

import re
from collections.abc import Callable

from ..errors import SignalError

#: A span of characters: the first, and the one behind the last.
Span = tuple[int, int]
#: How to find the answer: a pattern, whose last match counts (its group 1, or all of it), or a function.
Find = str | re.Pattern[str] | Callable[[str], Span | None]

# A long text without an answer must not take longer than one with it: no pattern can read the same characters in
# two ways. Braces may nest twice, as in \frac{\sqrt{2}}{3}.
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
            or "answer is X", whichever of these comes first in this list, or else the last line that says something.

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
    """The last line that says something, or that is not empty where none says anything."""
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
