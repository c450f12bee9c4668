"""The command line: ``tje``."""

from __future__ import annotations

from typing import Annotated

import typer

from .._version import __version__
from .calibration import calibrate, evaluate, report
from .demo import demo
from .doctor.command import doctor
from .ledger import ledger
from .local import local
from .registry import registry

app = typer.Typer(
    name="tje",
    help="Think just enough: gate LLM answers by entropy.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # among them a database's URL with its password
)
for command in (demo, calibrate, evaluate, report, doctor):
    app.command()(command)
for commands, name in ((registry, "registry"), (ledger, "ledger"), (local, "local")):
    app.add_typer(commands, name=name)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"tje-middleware {__version__}")
        raise typer.Exit


__all__ = ["app"]
