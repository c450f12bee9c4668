"""The command line: ``tje``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from ._version import __version__
from .errors import TjeError

app = typer.Typer(name="tje", help="Think just enough: gate LLM answers by entropy.", no_args_is_help=True)
local = typer.Typer(help="The embedded model.", no_args_is_help=True)
app.add_typer(local, name="local")

# Results go to standard output, all else here, so that a pipe gets results alone.
_stderr = Console(stderr=True)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"tje-middleware {__version__}")
        raise typer.Exit


@app.command()
def demo(
    short: Annotated[bool, typer.Option("--short", help="Fewer questions: a minute instead of a few.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    model: Annotated[
        str | None,
        typer.Option(help="GGUF path or hub id instead of the default model; with --base-url, the model's name."),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(help="An OpenAI-compatible server instead of the embedded one; its key in OPENAI_API_KEY."),
    ] = None,
    questions: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="N M", help="Calibrate from N questions and run the policies on M others.", min=1),
    ] = None,
    registry: Annotated[str, typer.Option(help="Where the profile is stored.")] = "sqlite:///tje-demo.db",
) -> None:
    """Gate a real model on this machine: calibrate, then run every policy and compare."""
    with _explained():
        from langchain_tje._demo import run_demo, served  # noqa: PLC0415 (an extra, and seconds to import)

        from .registry import CalibrationRegistry  # noqa: PLC0415

        began = time.monotonic()
        calibration, test = questions or ((40, 32) if short else (72, 96))
        api_key = os.environ.get("OPENAI_API_KEY", "none") if base_url else "none"
        with CalibrationRegistry(registry) as store:
            store.list()  # what is wrong with it is better known before the questions are asked
            with served(model, base_url, api_key) as (url, name), _progress() as progress:
                result = run_demo(
                    url,
                    name,
                    registry=store,
                    calibration=calibration,
                    test=test,
                    progress=progress,
                    api_key=api_key,
                )
        if as_json:
            typer.echo(json.dumps(result.as_dict(), indent=2))
            return
        Console().print(result)
        seconds = time.monotonic() - began
        _stderr.print(
            Text(
                f"The profile is version {result.profile.version} in {registry}; {seconds:.0f} seconds.", style="dim"
            )
        )


@local.command()
def serve(
    model: Annotated[str | None, typer.Option(help="GGUF path or hub id; the default model if left out.")] = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    parallel: Annotated[int, typer.Option(help="Requests answered at once.")] = 8,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    context: Annotated[int, typer.Option(help="Tokens per request, prompt and answer together.")] = 2048,
) -> None:
    """Serve a model with logprobs on this machine, OpenAI-compatible, until Ctrl-C."""
    with _explained():
        from .local import LocalServer  # noqa: PLC0415

        with LocalServer(model, port=port, parallel=parallel, threads=threads, context=context) as server:
            typer.echo(f"{server.model} answers at {server.base_url} (Ctrl-C ends it)")
            server.wait()


@contextmanager
def _explained() -> Iterator[None]:
    """What went wrong as one message instead of a traceback, with exit status 1."""
    try:
        yield
    except TjeError as error:
        _say_error(str(error))
        raise typer.Exit(1) from error
    except ImportError as error:
        if not (error.name or "").startswith(("langchain", "openai", "httpx")):
            raise
        _say_error(f'{error.name} is not installed: pip install "tje-middleware[langchain,openai,local]"')
        raise typer.Exit(1) from error


def _say_error(message: str) -> None:
    # Text, not markup: paths and extras have square brackets.
    _stderr.print(Text("Error: ", style="bold red") + Text(message, style="not bold default"))


@contextmanager
def _progress() -> Iterator[Callable[[str, int, int], None]]:
    columns = (TextColumn("{task.description:>16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=_stderr) as bars:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done)

        yield show
