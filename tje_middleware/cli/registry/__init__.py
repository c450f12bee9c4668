"""``tje registry``: the profiles that processes share, which of them are active, and how the database is."""

from __future__ import annotations

import typer

from .database import doctor, export, import_, migrate
from .keys import alarms, alias, aliases, delete, dismiss, list_, show, unalias
from .versions import diff, history, promote, rollback

registry = typer.Typer(
    help="Profiles that processes share: versions, aliases, alarms, and the database.", no_args_is_help=True
)
for command in (list_, show, history, diff, promote, rollback, delete):
    registry.command(command.__name__.rstrip("_"))(command)
for command in (alias, unalias, aliases, alarms, dismiss, export, import_, migrate, doctor):
    registry.command(command.__name__.rstrip("_"))(command)

__all__ = ["registry"]
