"""240 questions of our own with their answers: short facts and small arithmetic, in three levels of difficulty."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
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
    if question.kind == "arithmetic" and (numbers := _NUMBER.findall(_THOUSANDS.sub("", text))):
        return float(numbers[-1]) == float(question.answers[0])
    return any(re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text, re.IGNORECASE) for answer in question.answers)


_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
# A minus sign after an operand subtracts; it is no part of the number behind it.
_NUMBER = re.compile(r"(?<![\d)])(?<![\d)]\s)-?\d+(?:\.\d+)?|\d+(?:\.\d+)?")


_LONGEST = 120
# Beyond it floats are not exact.
_LARGEST = 2**53
_OPERATIONS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def calculated(expression: str) -> str:
    """The value of a sum of numbers, + - * / and brackets, as text; else what is wrong with it.

    Example:
        >>> calculated("2 * (18 + 7)"), calculated("1 / 4"), calculated("2 ** 9999")
        ('50', '0.25', 'error: only numbers, + - * / and brackets')
    """
    if len(expression) > _LONGEST:
        return f"error: longer than {_LONGEST} characters"
    try:
        value = _value(ast.parse(expression.strip(), mode="eval").body)
        whole = int(value)  # of infinity an OverflowError, of what is no number a ValueError
    except ZeroDivisionError:
        return "error: division by zero"
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        return "error: only numbers, + - * / and brackets"
    return str(whole) if value == whole and abs(whole) < _LARGEST else f"{value:.6g}"


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and type(node.value) in {int, float}:
        return node.value  # type: ignore[return-value]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError(ast.dump(node))
