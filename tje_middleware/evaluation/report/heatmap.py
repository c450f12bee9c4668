"""A few drafts word by word, each token shaded by its entropy."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import numpy as np

from ...calibration.profile import CalibrationProfile
from ...errors import CalibrationError
from ...logprobs.entropy import token_entropies
from ...records.record import CalibrationRecord
from .words import number

#: Where each shade begins (bits); the same in every report, so that drafts compare.
SHADES = (0.0, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)

# A longer draft is cut, so that the page stays small.
_MOST_TOKENS = 1_200
# The notations of tokenisers for a byte that is no character by itself.
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>|\\x([0-9A-Fa-f]{2})")
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


@dataclass(frozen=True)
class DraftText:
    """A draft with its tokens.

    Attributes:
        id: Of the record; None where it has none.
        correct: Whether the draft was right.
        tokens: The T tokens' texts.
        entropies: Their T entropies (bits).
        signal: The profile's signal of the draft, in its unit; None where unknown.
    """

    id: str | None
    correct: bool
    tokens: tuple[str, ...]
    entropies: tuple[float, ...]
    signal: float | None = None

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.entropies):
            raise CalibrationError(f"{len(self.tokens)} tokens but {len(self.entropies)} entropies")
        if not np.isfinite(np.array([*self.entropies, 0.0 if self.signal is None else self.signal])).all():
            raise CalibrationError(f"an entropy or the signal of draft {self.id!r} is not finite")

    @property
    def shown(self) -> list[tuple[str, int, float]]:
        """Text, shade and entropy (bits) of each token that is shown."""
        found = np.searchsorted(SHADES, self.entropies, side="right") - 1
        shades = np.maximum(found, 0).tolist()
        return list(zip(self.tokens, shades, self.entropies, strict=True))[:_MOST_TOKENS]

    @classmethod
    def of_record(cls, record: CalibrationRecord, profile: CalibrationProfile) -> DraftText:
        """From a record that has logprobs with the tokens' texts.

        Raises:
            CalibrationError: it has none, or fewer alternatives than the profile.
            SignalError: the profile's signal cannot be computed from it.
        """
        if record.sequence is None or record.sequence.tokens is None:
            raise CalibrationError(f"record {record.id!r} has no logprobs with token_texts")
        return cls(
            id=record.id,
            correct=record.correct,
            tokens=record.sequence.tokens,
            entropies=tuple(token_entropies(record.sequence.truncated(profile.key.top_k)).tolist()),
            signal=(
                profile.measure(record.sequence)
                if profile.learned is not None and profile.signal not in record.signals
                else record.value(profile.signal, profile.key.top_k)
            ),
        )


def shades() -> list[str]:
    """The range of each shade in words (bits)."""
    ends = [*(f"to {number(bits)}" for bits in SHADES[1:]), "and more"]
    return [f"{number(low)} {end}" for low, end in zip(SHADES, ends, strict=True)]


def legible(text: str) -> list[tuple[str, str]]:
    """A token's text in parts, so that line ends, lone blanks, bytes and invisible characters can be seen.

    Returns:
        Kind and text of each part: ``plain`` text, a ``blank`` or ``end`` of line as a visible character, or a
        ``chip`` with the code of an invisible one.
    """
    if not text:
        return [("chip", "empty")]
    if not text.strip(" "):
        return [("blank", "·" * len(text))]
    parts: list[tuple[str, str]] = []
    at = 0
    for match in _BYTE.finditer(text):
        parts += [*map(_seen, text[at : match.start()]), ("chip", (match[1] or match[2]).upper())]
        at = match.end()
    return [*parts, *map(_seen, text[at:])]


def _seen(character: str) -> tuple[str, str]:
    if character == "\n":
        return "end", "↵"
    if character == "\t":
        return "blank", "⇥   "
    if character == "\ufffd":
        return "chip", "byte"
    if unicodedata.category(character) in _INVISIBLE:
        return "chip", f"{ord(character):04X}"
    return "plain", character
