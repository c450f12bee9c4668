"""What an import did, as a table and as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from ._tables import table_of

if TYPE_CHECKING:
    from ...registry import ImportReport


def import_table(report: ImportReport) -> RenderableType:
    """Every version of the file and what became of it."""
    table = table_of("Key", "In the file", "Here", "")
    for one in report.versions:
        what = "stored" if one.is_new else "was here already"
        table.add_row(Text(str(one.key)), str(one.exported), str(one.version), what)
    parts: list[RenderableType] = [table] if report.versions else []
    parts.append(Text(f"{report.stored} versions stored, {report.skipped} were here already."))
    if report.promoted:
        parts.append(Text(f"Another version is active now of: {'; '.join(map(str, report.promoted))}."))
    if report.aliases:
        parts.append(Text(f"Aliases made: {', '.join(report.aliases)}."))
    return Group(*parts)


def report_as_dict(report: ImportReport) -> dict[str, Any]:
    """The same, fit for JSON."""
    return {
        "stored": report.stored,
        "skipped": report.skipped,
        "versions": [
            {
                "key": one.key.model_dump(mode="json"),
                "exported": one.exported,
                "version": one.version,
                "is_new": one.is_new,
            }
            for one in report.versions
        ],
        "promoted": [key.model_dump(mode="json") for key in report.promoted],
        "aliases": list(report.aliases),
    }
