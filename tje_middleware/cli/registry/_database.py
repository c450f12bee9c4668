"""``tje registry export``, ``import``, ``migrate`` and ``doctor``: the registry as a whole."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer
from rich.text import Text

from ..console import explained, print_result, say
from ._opening import DEFAULT_URL, Json, Url, opened

_STREAM = "-"


def export(
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="Where it goes; - for standard output.")] = _STREAM,
    url: Url = DEFAULT_URL,
) -> None:
    """All versions and aliases as JSON Lines with a checksum, to be kept or imported elsewhere."""
    with opened(url) as store:
        count = store.export_to(typer.get_binary_stream("stdout") if file == _STREAM else file)
        say(f"{count} versions exported{'' if file == _STREAM else f' to {file}'}.")


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="An export; - for standard input.")],
    promote: Annotated[
        bool, typer.Option(help="What is active in the file becomes active here; else all are candidates.")
    ] = True,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Store what another registry exported: all of it, or nothing."""
    with opened(url, makes_it=True) as store:
        from ._import_table import import_table, report_as_dict  # noqa: PLC0415 (--help must not wait for it)

        source = typer.get_binary_stream("stdin") if file == _STREAM else file
        report = store.import_from(source, promote=promote)
        print_result(import_table(report), report_as_dict(report), as_json=as_json)


def migrate(url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """Bring the tables to those of this release; makes them where there are none."""
    with opened(url, makes_it=True) as store:
        before, now = store.database.migrate()
        if before == now:
            words = f"{store.url} is at {now}, as this release needs; nothing was changed."
        elif before is None:
            words = f"{store.url} was empty and is at {now} now."
        else:
            words = f"{store.url} was at {before} and is at {now} now."
        print_result(Text(words), {"before": before, "now": now}, as_json=as_json)


def doctor(
    url: Url = DEFAULT_URL,
    old_after: Annotated[int, typer.Option(min=1, metavar="DAYS", help="From which age on a profile is old.")] = 90,
    as_json: Json = False,
) -> None:
    """Look at the database: can it be reached, is it as it should be, and what is to be done."""
    with explained("postgres"):
        from ...registry import CalibrationRegistry, examine  # noqa: PLC0415 (--help must not wait for a database)
        from ._tables import finding_as_dict, findings_table  # noqa: PLC0415

        with CalibrationRegistry(url) as store:
            findings = examine(store, old_after=timedelta(days=old_after))
        print_result(findings_table(findings), [finding_as_dict(one) for one in findings], as_json=as_json)
        if any(finding.status == "fail" for finding in findings):
            raise typer.Exit(1)
