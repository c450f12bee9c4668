"""``tje registry export``, ``import``, ``migrate`` and ``doctor``: the registry as a whole."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from ..console import Json, explained, print_result, say
from .keys import DEFAULT_URL, Url, opened

_STREAM = "-"
# A deployment whose secret is missing must not migrate a file that it makes itself.
NamedUrl = Annotated[
    str | None,
    typer.Option(
        "--registry",
        metavar="URL",
        envvar="TJE_REGISTRY",
        help="postgresql+psycopg://HOST/DB or sqlite:///PATH.",
        show_default="none",
    ),
]


def export(
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="Where it goes; - for standard output.")] = _STREAM,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there already.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """All versions and aliases as JSON Lines with a checksum, to be kept or imported elsewhere."""
    with opened(url) as store:
        from ...errors import RegistryError  # noqa: PLC0415 (--help must not wait for a database)
        from ...registry import overview  # noqa: PLC0415

        if file != _STREAM and Path(file).is_file() and not force:
            raise RegistryError(f"{file} is there already: name another, or replace it with --force")
        if not overview(store.database) and not store.aliases():
            raise RegistryError(
                f"{store.url} holds nothing, and nothing was exported: is it the registry that is meant? "
                f"It is named by --registry URL or TJE_REGISTRY"
            )
        count = store.export_to(typer.get_binary_stream("stdout") if file == _STREAM else file)
        say(f"{count} versions exported{'' if file == _STREAM else f' to {file}'}.")


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="An export; - for standard input.")],
    promote: Annotated[
        bool,
        typer.Option(
            "--promote",
            help="What is active in the file becomes active here, also of keys that are here already.",
        ),
    ] = False,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Store what another registry exported: all of it, or nothing. What is active here stays so."""
    with opened(url, makes_it=True) as store:
        from .version_tables import import_table, report_as_dict  # noqa: PLC0415 (--help must not wait for it)

        source = typer.get_binary_stream("stdin") if file == _STREAM else file
        report = store.import_from(source, promote=promote)
        print_result(import_table(report, store.url), report_as_dict(report, store.url), as_json=as_json)


def migrate(url: NamedUrl = None, as_json: Json = False) -> None:
    """Bring the tables to those of this release; makes them where there are none."""
    if not url:
        raise typer.BadParameter("name the registry that is migrated: --registry URL or TJE_REGISTRY")
    with opened(url, makes_it=True) as store:
        before, now = store.database.migrate()
        if before == now:
            words = f"{store.url} is at {now}, as this release needs; nothing was changed."
        elif before is None:
            words = f"{store.url} had no tables of tje-middleware and is at {now} now."
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
        from ...registry import CalibrationRegistry  # noqa: PLC0415 (--help must not wait for a database)
        from ..doctor.database import examine  # noqa: PLC0415
        from ..doctor.finding import findings_table  # noqa: PLC0415

        with CalibrationRegistry(url) as store:
            findings = examine(store, old_after=timedelta(days=old_after))
        print_result(findings_table(findings), [asdict(one) for one in findings], as_json=as_json)
        if any(finding.status == "fail" for finding in findings):
            raise typer.Exit(1)
