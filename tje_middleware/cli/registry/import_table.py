"""What an import did, as a table and as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from .tables import table_of

if TYPE_CHECKING:
    from ...registry import ImportedVersion, ImportReport


def import_table(report: ImportReport, shown: str) -> RenderableType:
    """Every version of the file and what became of it in the database that is shown."""
    table = table_of("Key", "In the file", "Here", "")
    for one in report.versions:
        table.add_row(Text(str(one.key)), str(one.exported), str(one.version), _became(one))
    parts: list[RenderableType] = [table] if report.versions else []
    parts.append(Text(f"{report.stored} versions stored in {shown}, {report.skipped} were here already."))
    for other in report.promoted:
        before = "none" if other.before is None else f"v{other.before}"
        parts.append(Text(f"Active now: {other.key}: {before} -> v{other.after}"))
    for other in report.kept:
        stays = "none becomes" if other.before is None else f"v{other.before} stays"
        parts.append(Text(f"{other.key}: {stays} active; that of the file is v{other.after} here."))
    if report.aliases:
        parts.append(Text(f"Aliases made: {', '.join(report.aliases)}."))
    if report.aliases_kept:
        parts.append(Text(f"Aliases left out: {', '.join(report.aliases_kept)}, whose models were here already."))
    if report.kept or report.aliases_kept:
        parts.append(Text("To have it as it is in the file, import it with --promote."))
    return Group(*parts)


def report_as_dict(report: ImportReport, shown: str) -> dict[str, Any]:
    """The same, fit for JSON."""
    return {
        "registry": shown,
        "stored": report.stored,
        "skipped": report.skipped,
        "versions": [
            {
                "key": one.key.model_dump(mode="json"),
                "exported": one.exported,
                "version": one.version,
                "is_new": one.is_new,
                "is_active": one.is_active,
            }
            for one in report.versions
        ],
        **{
            name: [{"key": one.key.model_dump(mode="json"), "before": one.before, "after": one.after} for one in some]
            for name, some in (("promoted", report.promoted), ("kept", report.kept))
        },
        "aliases": list(report.aliases),
        "aliases_kept": list(report.aliases_kept),
    }


def _became(one: ImportedVersion) -> str:
    return f"{'stored' if one.is_new else 'was here already'}{', active' if one.is_active else ''}"
