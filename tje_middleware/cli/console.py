"""What every command shows in the same way: errors, and how far it is."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from datetime import datetime, timezone
from typing import Annotated, Any, get_type_hints

import typer
from pydantic import ValidationError
from rich import progress as rich_progress
from rich.console import Console, RenderableType
from rich.text import Text

from ..errors import TjeError

# Results go to standard output, all else here, so that a pipe gets results alone.
stderr = Console(stderr=True)

#: The option of every command that prints a result.
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
#: Told the name of what is being done, how much of it is done, and how much there is.
Show = Callable[[str, int, int], None]


@contextmanager
def explained(extras: str) -> Iterator[None]:
    """What went wrong, be it a missing extra, as one message instead of a traceback, with exit status 1."""
    try:
        yield
    except (TjeError, ValidationError, ImportError) as error:
        said = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            said = f"{'.'.join(map(str, first['loc']))}: {first['msg']}, not {first['input']!r}"
        elif isinstance(error, ImportError):
            if not (error.name or "").startswith(("langchain", "openai", "httpx", "plotly", "jinja2")):
                raise
            said = f'{error.name} is not installed: pip install "tje-middleware[{extras}]"'
        say_error(said)
        raise typer.Exit(1) from error


def say_error(message: str) -> None:
    """Print an error."""
    # Text, not markup: paths and extras have square brackets.
    stderr.print(Text("Error: ", style="bold red") + Text(message, style="not bold default"))


def warn(message: str) -> None:
    """Print what did not stop the command, and should not be missed."""
    stderr.print(Text("Warning: ", style="bold yellow") + Text(message, style="not bold default"))


def say(message: str) -> None:
    """Print a remark beside the result."""
    stderr.print(Text(message, style="dim"))


def print_result(shown: RenderableType, plain: object, *, as_json: bool) -> None:
    """Print a result for a person, or for a machine."""
    if as_json:
        typer.echo(json.dumps(plain, indent=2, allow_nan=False))
    else:
        Console().print(shown)


@contextmanager
def progress(*, of_bytes: bool = False) -> Iterator[Show]:
    """Bars, one for each name that is shown."""
    columns = (
        rich_progress.TextColumn("{task.description:>16}"),
        rich_progress.BarColumn(),
        rich_progress.DownloadColumn() if of_bytes else rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
    )
    with rich_progress.Progress(*columns, console=stderr, transient=of_bytes) as bars:
        tasks: dict[str, rich_progress.TaskID] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done)

        yield show


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
    """Give a command arguments and options, and hand them to it as one value, in whose place they stand.

    ``options`` is a dataclass whose fields are annotated as a command's parameters are; ``name`` is the parameter.
    """
    keyword, declared = inspect.Parameter.KEYWORD_ONLY, get_type_hints(options, include_extras=True)

    def given_to(command: Callable[..., None]) -> Callable[..., None]:
        own = get_type_hints(command, include_extras=True)
        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command).parameters.values():
            if parameter.name != name:
                parameters.append(parameter.replace(kind=keyword, annotation=own[parameter.name]))
                continue
            for field in fields(options):
                default = inspect.Parameter.empty if field.default is MISSING else field.default
                parameters.append(
                    inspect.Parameter(field.name, keyword, default=default, annotation=declared[field.name])
                )
        names = [field.name for field in fields(options)]

        def run(**given: Any) -> None:  # noqa: ANN401 (whatever the command and the options declare)
            command(**{name: options(**{field: given.pop(field) for field in names})}, **given)

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return given_to
