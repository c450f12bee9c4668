"""What a user's function is called with: of all that is on offer, what it has parameters for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any


def wanted_by(function: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """Of the offered arguments those that the function names.

    Example:
        >>> def answer(question, *, decision): ...
        >>> wanted_by(answer, {"draft": "42", "decision": "uncertain"})
        {'decision': 'uncertain'}
    """
    named = parameters_of(function)
    return {name: value for name, value in offered.items() if name in named}


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """A function's parameters by name; none where it is written in C and says nothing of them."""
    try:
        return inspect.signature(function).parameters
    except ValueError:
        return {}
