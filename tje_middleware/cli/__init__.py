"""The command line: ``tje``."""

from __future__ import annotations

from typing import Annotated

import typer

from .._version import __version__
from .calibration import calibrate, evaluate, report
from .demo import demo
from .local import local

app = typer.Typer(name="tje", help="Think just enough: gate LLM answers by entropy.", no_args_is_help=True)
for command in (demo, calibrate, evaluate, report):
    app.command()(command)
app.add_typer(local, name="local")


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"tje-middleware {__version__}")
        raise typer.Exit


__all__ = ["app"]
