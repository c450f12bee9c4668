"""The agent demo's tool: a calculator, which does what it is told and nothing else."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable

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
        return _written(_value(ast.parse(expression.strip(), mode="eval").body))
    except ZeroDivisionError:
        return "error: division by zero"
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        return "error: only numbers, + - * / and brackets"


def _written(value: float) -> str:
    """Whole numbers in full, others to six digits.

    Raises:
        OverflowError: infinity.
        ValueError: not a number.
    """
    whole = int(value)
    return str(whole) if value == whole and abs(whole) < _LARGEST else f"{value:.6g}"


def _value(node: ast.expr) -> float:
    if isinstance(node, ast.Constant) and type(node.value) in {int, float}:
        return node.value  # type: ignore[return-value]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError(ast.dump(node))
