"""Which tokens of a stream will be measured for sure: those are settled.

A later token can change the part that an earlier one belongs to: a closing ``</think>`` turns all tokens before it
into thinking, as the chat template may have opened the block; a few characters may be the beginning of a tag; a
provider may begin to mark its thinking. An empty token at the very end is the end of the turn, no part of the draft.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from math import inf
from typing import NamedTuple, Protocol

from ...logprobs import SequenceLogprobs

_TAG = re.compile(r"<(/?)think(?:ing)?>")
_OPENING_TAGS = ("<think>", "<thinking>")
_LONGEST_TAG = len("</thinking>")


class Token(NamedTuple):
    """One position: its value, its text where known, and whether its own chunk marks it as thinking."""

    value: float
    text: str | None
    thinking: bool


class Settling(Protocol):
    """Takes tokens as they come, and gives the values of those that are settled."""

    def add(self, values: Sequence[float], part: SequenceLogprobs) -> Iterator[float | None]:
        """The values of the tokens that this chunk settles, in order; None for one that may be measured or not."""


class AllTokens:
    """All tokens; an empty one is settled once another follows it."""

    def __init__(self) -> None:
        self._held: Token | None = None

    def add(self, values: Sequence[float], part: SequenceLogprobs) -> Iterator[float | None]:
        """As :class:`Settling` says."""
        return (token.value for token in self.tokens(values, part))

    def tokens(self, values: Sequence[float], part: SequenceLogprobs) -> Iterator[Token]:
        """The settled tokens themselves."""
        texts: Sequence[str | None] = part.tokens or [None] * len(part)
        for token in map(Token, values, texts, part.thinking_mask.tolist()):
            if self._held is not None:
                yield self._held
            self._held = token if token.text == "" else None
            if self._held is None:
                yield token


class ThinkingTokens:
    """The tokens of thinking, settled once the provider marks any: from then on its marks decide, not the tags."""

    def __init__(self) -> None:
        self._all = AllTokens()
        self._undecided: list[Token] = []
        self._marked = False

    def add(self, values: Sequence[float], part: SequenceLogprobs) -> Iterator[float | None]:
        """As :class:`Settling` says."""
        self._marked = self._marked or part.marked_thinking is not None
        self._undecided.extend(self._all.tokens(values, part))
        if self._marked:
            yield from (token.value for token in self._undecided if token.thinking)
            self._undecided.clear()


class AnswerTokens:
    """The tokens of the answer, settled once neither tags nor a provider's marks can turn them into thinking."""

    def __init__(self) -> None:
        self._all = AllTokens()
        self._undecided: deque[tuple[Token, int, int]] = deque()
        self._tags = _Tags()
        # Tags decide nothing once the provider marks its thinking, nor where a token's text is unknown.
        self._without_tags = False

    def add(self, values: Sequence[float], part: SequenceLogprobs) -> Iterator[float | None]:
        """As :class:`Settling` says."""
        self._without_tags = self._without_tags or part.marked_thinking is not None or part.tokens is None
        for token in self._all.tokens(values, part):
            begin = self._tags.length
            self._tags.add(token.text or "")
            self._undecided.append((token, begin, self._tags.length))
        if self._without_tags:
            yield from (token.value for token, _, _ in self._undecided if not token.thinking)
            self._undecided.clear()
        while self._undecided:
            token, begin, end = self._undecided[0]
            thinking = self._tags.thinking(begin, end)
            if thinking is None:
                return
            self._undecided.popleft()
            yield None if thinking or token.thinking else token.value


class _Tags:
    """Follows the tags of a growing text, as ``logprobs.thinking`` finds them in the whole.

    Attributes:
        length: Characters so far.
    """

    def __init__(self) -> None:
        self.length = 0
        self._tail = ""
        self._spans: deque[tuple[int, float]] = deque()
        self._open = False
        self._seen = False

    def add(self, text: str) -> None:
        """Take the text of one more token."""
        text, start = self._tail + text, self.length - len(self._tail)
        behind = 0
        for tag in _TAG.finditer(text):
            self._turn(start + tag.start(), start + tag.end(), closing=bool(tag[1]))
            behind = tag.end()
        self.length = start + len(text)
        self._tail = text[max(behind, len(text) - _LONGEST_TAG) :]

    def thinking(self, begin: int, end: int) -> bool | None:
        """Whether these characters are thinking; None where later ones decide. Asked about in ascending order."""
        while self._spans and self._spans[0][1] <= begin:
            self._spans.popleft()
        if any(begin < last and end > first for first, last in self._spans):
            return True
        return False if self._seen and end <= self.length - self._begun() else None

    def _turn(self, begin: int, end: int, *, closing: bool) -> None:
        if closing and self._open:
            self._spans[-1] = (self._spans[-1][0], end)
        elif closing and not self._seen:
            self._spans.append((0, end))
        elif not closing and not self._open:
            self._spans.append((begin, inf))
        self._open = not closing
        self._seen = True

    def _begun(self) -> int:
        """How many of the last characters may be the beginning of a tag."""
        for start, character in enumerate(self._tail):
            if character == "<" and any(tag.startswith(self._tail[start:]) for tag in _OPENING_TAGS):
                return len(self._tail) - start
        return 0
