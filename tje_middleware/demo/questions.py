"""240 questions of our own with their answers: short facts and small arithmetic, in three levels of difficulty."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Question(BaseModel):
    """A question with every accepted spelling of its answer."""

    model_config = ConfigDict(frozen=True)

    id: str
    kind: Literal["fact", "arithmetic"]
    level: int = Field(ge=1, le=3, description="1 = easy, 3 = hard, as a person judges it.")
    question: str
    answers: tuple[str, ...] = Field(min_length=1)


def load_questions() -> list[Question]:
    """All questions, in an order in which any first part is a fair mix of kinds and levels."""
    text = files(__package__).joinpath("questions.jsonl").read_text(encoding="utf-8")
    return [Question.model_validate_json(line) for line in text.splitlines()]


def is_right(question: Question, text: str) -> bool:
    """Grade an answer.

    A fact is right where an accepted answer stands as a whole word. In arithmetic the last number counts, so that
    working shown on the way does no harm; number words count only where there is no digit.
    """
    if question.kind == "arithmetic":
        number = _last_number(text)
        if number is not None:
            return number == float(question.answers[0])
    return any(re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text, re.IGNORECASE) for answer in question.answers)


_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
# A minus sign after an operand subtracts; it is no part of the number behind it.
_NUMBER = re.compile(r"(?<![\d)])(?<![\d)]\s)-?\d+(?:\.\d+)?|\d+(?:\.\d+)?")


def _last_number(text: str) -> float | None:
    numbers = _NUMBER.findall(_THOUSANDS.sub("", text))
    return float(numbers[-1]) if numbers else None
