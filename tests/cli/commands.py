"""``tje registry`` as a test runs it, and what it says."""

from __future__ import annotations

from typing import Any

from click.testing import Result
from typer.testing import CliRunner

from tje_middleware import CalibrationRegistry
from tje_middleware.cli import app

RUN = CliRunner()


def run(store: CalibrationRegistry | str, *arguments: object, columns: int = 100, **how: Any) -> Result:
    """What becomes of a command about a registry, or about the database of a URL."""
    url = store.database.url.anywhere if isinstance(store, CalibrationRegistry) else store
    words = [str(argument) for argument in arguments]
    return RUN.invoke(app, ["registry", *words, "--registry", url], env={"COLUMNS": str(columns)}, **how)


def plain(text: str) -> str:
    return " ".join(text.split())


def ok(done: Result) -> str:
    """What a command said that could do it."""
    assert done.exit_code == 0, done.output
    return plain(done.stdout)


def said(done: Result) -> str:
    """The one message of a command that could not do it."""
    assert done.exit_code == 1, done.output
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.count("Error: ") == 1
    return plain(done.stderr)
