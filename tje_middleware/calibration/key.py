"""The key of a profile (model, task, signal and settings), and its form in words."""

from __future__ import annotations

import json
import re

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

# A name that needs no quotes: words without the characters that separate the parts of a key.
_PLAIN = re.compile(r"(?!/( |$))[^\s\"(),]+( (?!/( |$))[^\s\"(),]+)*")
_WORD = r"\"(?:[^\"\\]|\\.)*\"|(?:(?! / )[^\"])+"
_IN_WORDS = re.compile(rf"({_WORD}) / ({_WORD}) / .* \(top \d+.*\)", re.DOTALL)


class ProfileKey(BaseModel):
    """What a profile is valid for: thresholds hold for one model, task and way of asking, and no other."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model: str = Field(min_length=1, description="Name of the model, as it is asked for.")
    task: str = Field(min_length=1, description="Name of the task, chosen by the user.")
    signal: str = Field(
        default="mean_entropy", description='Name of the signal, or "auto" for the one that calibration chooses.'
    )
    top_k: PositiveInt = Field(default=20, description="Alternatives a position that entropies are taken over.")
    temperature: float | None = Field(default=None, ge=0, description="Sampling temperature; None: not recorded.")
    prompt_fingerprint: str | None = Field(
        default=None, description="Any digest that changes when the prompt does; None: not recorded."
    )

    def __str__(self) -> str:
        """The key in words. No two keys have the same words; the ledger stores them."""
        settings = [f"top {self.top_k}"]
        if self.temperature is not None:
            settings.append(f"temperature {str(self.temperature).removesuffix('.0')}")
        if self.prompt_fingerprint is not None:
            settings.append(f"prompt {_word(self.prompt_fingerprint)}")
        names = " / ".join(_word(name) for name in (self.model, self.task, self.signal))
        return f"{names} ({', '.join(settings)})"

    def difference(
        self,
        top_k: int,
        *,
        model: str | None = None,
        temperature: float | None = None,
        prompt_fingerprint: str | None = None,
    ) -> str | None:
        """How the settings of a draft differ from this key, in words; None where they do not, or one is unknown.

        Args:
            top_k: Alternatives a position that the draft has; more than the key's are no difference.
            model: The model that wrote it.
            temperature: Its sampling temperature.
            prompt_fingerprint: Its prompt's fingerprint.
        """
        if top_k < self.top_k:
            return (
                f"the draft has {top_k} alternatives a position, the profile was calibrated on {self.top_k}: "
                f"entropies over fewer are lower; ask for top_logprobs={self.top_k} or calibrate with top_k={top_k}"
            )
        if model is not None and not same_model(model, self.model):
            return (
                f"the draft was written by {model!r}, the profile is of {self.model!r}: calibrate that model, or "
                f"name it in the key as it is asked for"
            )
        if temperature is not None and self.temperature is not None and temperature != self.temperature:
            return f"the draft was sampled at temperature {temperature}, the profile's records at {self.temperature}"
        if prompt_fingerprint and self.prompt_fingerprint and prompt_fingerprint != self.prompt_fingerprint:
            return f"the draft's prompt is {prompt_fingerprint!r}, the profile's records' {self.prompt_fingerprint!r}"
        return None


def is_of(words: str, *, model: str | None = None, task: str | None = None) -> bool:
    """Whether a key in words has this model and this task; None stands for any."""
    names = names_in(words) or (None, None)
    return all(name in {None, written} for name, written in zip((model, task), names, strict=True))


def names_in(words: str) -> tuple[str, str] | None:
    """The model and the task of a key in words; None where the text is no key."""
    written = _IN_WORDS.match(words)
    return None if written is None else (_name(written[1]), _name(written[2]))


def same_model(name: str, other: str) -> bool:
    """Whether two names mean the same model.

    A provider's prefix makes no difference. A snapshot's date makes none where only one of the names has it, as a
    provider may answer with the dated name of the model that was asked for; two dates are two models.
    """
    (one, first), (two, second) = (_plain_name(text) for text in (name, other))
    if first and second and first != second:
        return False
    # "openai:gpt-4o-2024-08-06" and "gpt-4o" are one; "qwen:0.5b" and "llama:0.5b" are two.
    return one == two or one.endswith((f":{two}", f"/{two}")) or two.endswith((f":{one}", f"/{one}"))


_SNAPSHOT_DATE = re.compile(r"[-@](\d{4}-?\d{2}-?\d{2})$")


def _plain_name(name: str) -> tuple[str, str]:
    """The name without its snapshot's date, and the date's digits."""
    plain = name.strip().lower()
    date = _SNAPSHOT_DATE.search(plain)
    return (plain[: date.start()], date[1].replace("-", "")) if date else (plain, "")


def _word(name: str) -> str:
    """A name as it is written in a key: in quotes where it holds a separator or characters that cannot be printed.

    Keys are printed to terminals and written to logs, and names may come from a file that was imported.
    """
    return name if name.isprintable() and _PLAIN.fullmatch(name) else json.dumps(name)


def _name(word: str) -> str:
    return str(json.loads(word)) if word.startswith('"') else word
