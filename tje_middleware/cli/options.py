"""Options that several commands share, declared once as the fields of a dataclass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields
from datetime import datetime, timezone
from typing import Any, get_type_hints

import typer


def day(given: str) -> datetime:
    """The beginning of a day in UTC.

    Raises:
        typer.BadParameter: it is none.
    """
    try:
        return datetime.strptime(given, "%Y-%m-%d").replace(tzinfo=timezone.utc)
    except ValueError:
        raise typer.BadParameter(f"{given!r} is no day as YYYY-MM-DD") from None


def with_options(options: type, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command arguments and options, and hand them to it as one value.

    Args:
        options: A dataclass whose fields are annotated as a command's parameters are.
        name: The command's parameter that takes it, in whose place they stand.
    """

    def given_to(command: Callable[..., None]) -> Callable[..., None]:
        own = get_type_hints(command, include_extras=True)
        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command).parameters.values():
            if parameter.name == name:
                parameters += _declared(options)
            else:
                kind, hint = inspect.Parameter.KEYWORD_ONLY, own[parameter.name]
                parameters.append(parameter.replace(kind=kind, annotation=hint))
        names = [field.name for field in fields(options)]

        def run(**given: Any) -> None:  # noqa: ANN401 (whatever the command and the options declare)
            command(**{name: options(**{field: given.pop(field) for field in names})}, **given)

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return given_to


def _declared(options: type) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(options, include_extras=True)
    for field in fields(options):
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]
        )
