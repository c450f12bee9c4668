"""The question language: what a user message says about the answer it wants."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_NUMBER = r"\d+(?:\.\d+)?"


@dataclass(frozen=True)
class Question:
    """What the options of a message say; the package's docstring explains each."""

    bits: tuple[float, ...] = (0.5,)
    tokens: int = 4
    says: str | None = None
    says_model: bool = False
    call: str | None = None
    args: dict | None = None
    calls: int = 1
    call_bits: tuple[float, ...] | None = None
    pace: float = 0.0

    @classmethod
    def of_text(cls, text: str) -> Question:
        # Their values are taken out first: what looks like an option within them is none.
        args, text = _json_option("args", r"\{", text)
        says, text = _json_option("says", '"', text)

        def option(name: str, pattern: str) -> str | None:
            found = re.search(rf"\b{name}=({pattern})", text)
            return found[1] if found else None

        bits, call_bits = (option(name, rf"{_NUMBER}(?:,{_NUMBER})*") for name in ("bits", "call_bits"))
        return cls(
            bits=_numbers(bits) if bits else cls.bits,
            tokens=int(option("tokens", r"\d+") or cls.tokens),
            says=option("says", r"\S+") if says is None else says,
            says_model=re.search(r"\bsays_model\b", text) is not None,
            call=option("call", r"[\w-]+"),
            args=args,
            calls=int(option("calls", r"\d+") or cls.calls),
            call_bits=_numbers(call_bits) if call_bits else None,
            pace=float(option("pace", _NUMBER) or cls.pace),
        )


def text_of(content: str | list[str | dict] | None) -> str:
    """The text of a message's content, be it a string, parts, or missing as in a call of a tool."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part if isinstance(part, str) else part.get("text", "") for part in content)


def _json_option(name: str, opening: str, text: str) -> tuple:
    found = re.search(rf"\b{name}=(?={opening})", text)
    if not found:
        return None, text
    value, end = json.JSONDecoder().raw_decode(text, found.end())
    return value, text[: found.start()] + text[end:]


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split(","))
