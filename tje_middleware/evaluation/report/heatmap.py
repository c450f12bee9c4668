"""A few drafts word by word, each token shaded by its entropy."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import numpy as np

from ...calibration.profile import CalibrationProfile
from ...errors import CalibrationError
from ...gate.decision import Route
from ...logprobs.entropy import token_entropies
from ...records.record import CalibrationRecord
from .markup import Html, join, tag
from .words import NONE, counted, number

#: Where each shade begins (bits); the same in every report, so that drafts compare.
SHADES = (0.0, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0)

# A longer draft is cut: nobody reads on, and the page stays small.
_MOST_TOKENS = 1_200
# What tokenisers write for a byte that is no character by itself.
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


def heat_legend() -> Html:
    """What the shades mean."""
    ends = [*(number(bits) for bits in SHADES[1:]), None]
    shades = (
        tag(
            "li",
            tag("span", f"{number(low)} to {high}" if high else f"{number(low)} and more", class_=f"token h{shade}"),
        )
        for shade, (low, high) in enumerate(zip(SHADES, ends, strict=True))
    )
    return join(
        tag("p", "Entropy of a token (bits); 1 bit is a toss between two, underlined from there on:", class_="note"),
        tag("ul", *shades, class_="shades"),
    )


def heat_map(draft: DraftText, route: Route) -> Html:
    """One draft: what it is, and its tokens."""
    outcome = ("✓", "right") if draft.correct else ("✗", "wrong")
    badge = tag("span", " ".join(outcome), class_=f"badge {outcome[1]}")
    shown, left = draft.tokens[:_MOST_TOKENS], len(draft.tokens) - _MOST_TOKENS
    shades = np.searchsorted(SHADES, draft.entropies, side="right") - 1
    tokens = (
        tag(
            "span",
            legible(text),
            class_=f"token h{max(shade, 0)}",
            title=f"{bits:.2f} bits",
        )
        for text, shade, bits in zip(shown, shades.tolist(), draft.entropies, strict=False)
    )
    head = tag(
        "h3",
        tag("span", draft.id if draft.id is not None else "draft without an id", class_="id"),
        " ",
        badge,
        " ",
        tag("span", f"signal {NONE if draft.signal is None else number(draft.signal)} → ", class_="note"),
        tag("span", route.value, class_=f"badge route {route.value}"),
    )
    return tag(
        "article",
        head,
        tag("div", *tokens, class_="tokens", dir="auto", tabindex="0", role="region", aria_label="the draft")
        if shown
        else tag("p", "This draft has no tokens."),
        tag("p", f"… and {counted(left, 'more token')}.", class_="note") if left > 0 else "",
        class_="draft",
    )


def legible(text: str) -> Html:
    """A token's text as markup in which line ends, lone blanks, bytes and invisible characters can be seen."""
    if text and not text.strip(" "):
        return tag("span", "·" * len(text), class_="blank")
    parts, at = [], 0
    for match in _BYTE.finditer(text):
        parts += [_characters(text[at : match.start()]), _chip((match[1] or match[2]).upper())]
        at = match.end()
    return join(*parts, _characters(text[at:])) if text else _chip("empty")


def _characters(text: str) -> Html:
    return join(*(_seen(character) if _hidden(character) else character for character in text))


def _hidden(character: str) -> bool:
    return character == "\ufffd" or unicodedata.category(character) in _INVISIBLE


def _seen(character: str) -> Html:
    if character == "\n":
        return join(tag("span", "↵", class_="blank"), Html("<br>"))
    if character == "\t":
        return tag("span", "⇥   ", class_="blank")
    return _chip("byte" if character == "\ufffd" else f"{ord(character):04X}")


def _chip(text: str) -> Html:
    return tag("span", text, class_="chip")
