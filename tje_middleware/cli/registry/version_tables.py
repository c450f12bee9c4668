"""The versions of a key, what was active when, what differs, and what an import did, as tables and plain values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Column as TableColumn
from rich.table import Table
from rich.text import Text

from .tables import NOTHING, Column, Row, Rows, age, alarm_as_dict, bold, number, threshold_of, verdict

if TYPE_CHECKING:
    from ...calibration.key import ProfileKey
    from ...registry import Change, ImportReport, ProfileDiff, Promotion, StoredVersion

# So much of a digest tells it from others.
_DIGEST = 12
# Columns that a value may have beside another version's.
_MOST_IN_A_CELL = 20
# What a version is chosen by.
_LEADS = re.compile(r"thresholds\.\w+|auroc|verdict")


def provenance_table(stored: StoredVersion) -> Table:
    """Where a version comes from, and what is held against it."""
    columns = TableColumn(style="bold", no_wrap=True), TableColumn(overflow="fold")
    table = Table(*columns, show_header=False, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.title, table.title_justify, table.title_style = "\nWhere it comes from", "left", "bold"
    table.add_row("version", f"{stored.version}, {'active' if stored.is_active else 'not active'}")
    table.add_row("put", "of an earlier release, not recorded" if stored.put_at is None else _at(stored.put_at))
    for name in ("put_by", "source", "library_version", "records_fingerprint"):
        if (value := getattr(stored, name)) is not None:
            table.add_row(name.replace("_", " "), Text(value))
    table.add_row("calibrated", _at(stored.profile.created_at))
    for alarm in stored.alarms:
        words = f"{alarm.kind}, {age(alarm.raised_at)} ago by {alarm.raised_by}: {alarm.detail}"
        table.add_row(Text("alarm", style="bold red"), Text(words))
    return table


def versions_table(key: ProfileKey, versions: Sequence[StoredVersion], method: str) -> RenderableType:
    """Every version with where it comes from, and its threshold of a method."""
    numbers = ("n", f"Threshold\n({method})", "AUROC")
    names = ("Put", "By", "Source", "Verdict", *numbers, "Records", "Alarms")
    columns = [Column(name, is_number=name in (*numbers, "Alarms")) for name in names]
    rows = []
    for one in versions:
        profile, style = one.profile, "bold green" if one.is_active else ""
        values = (
            NOTHING if one.put_at is None else f"{one.put_at:%Y-%m-%d\n%H:%M}",
            Text(one.put_by or NOTHING),
            Text(one.source or NOTHING),
            verdict(profile),
            f"{profile.n_correct + profile.n_incorrect:,}",
            number(threshold_of(profile, method)),
            NOTHING if profile.auroc is None else f"{profile.auroc:.3f}",
            Text((one.records_fingerprint or NOTHING)[:_DIGEST]),
            Text(str(len(one.alarms)), style="bold red") if one.alarms else NOTHING,
        )
        mark = f"{'*' if one.is_active else ' '}{one.version:>3}"
        title = Text(f"{'* ' if one.is_active else ''}Version {one.version}", style=style)
        rows.append(Row(Text(mark, style=style), title, values))
    legend = "*: active. Put: UTC. Records: the first characters of their fingerprint."
    return Group(bold(str(key)), Rows("", columns, rows), Text(legend, style="dim"))


def version_as_dict(stored: StoredVersion) -> dict[str, Any]:
    """A version, fit for JSON."""
    return {
        **{name: value for name, value in vars(stored).items() if name not in ("profile", "alarms")},
        "put_at": stored.put_at and stored.put_at.isoformat(),
        "alarms": [alarm_as_dict(alarm) for alarm in stored.alarms],
        "profile": stored.profile.model_dump(mode="json"),
    }


def promotions_table(key: ProfileKey, log: Sequence[Promotion]) -> RenderableType:
    """What was active when."""
    rows = []
    for one in log:
        before, after = (
            NOTHING if version is None else str(version) for version in (one.from_version, one.to_version)
        )
        when = Text(f"{one.at:%Y-%m-%d %H:%M:%S}")
        rows.append(Row(when, when, (Text(one.action), before, after, Text(one.by))))
    columns = (Column("What"), Column("From"), Column("To"), Column("By"))
    return Group(bold(str(key)), Rows("When (UTC)", columns, rows))


def promotion_as_dict(one: Promotion) -> dict[str, Any]:
    """One change of what is active, fit for JSON."""
    return {**asdict(one), "at": one.at.isoformat()}


def diff_table(found: ProfileDiff) -> RenderableType:
    """What differs between two versions: thresholds and how well they separate first, what is long to read last."""
    if not found.changes:
        return Group(bold(str(found.key)), Text("They do not differ.", style="dim"))
    changes = [(change, _value(change.before), _value(change.after)) for change in found.changes]
    is_long = [max(before.cell_len, after.cell_len) > _MOST_IN_A_CELL for _, before, after in changes]
    rows = [
        Row(bold(change.name), bold(change.name), (before, after, _difference(change)))
        for (change, before, after), long in zip(changes, is_long, strict=True)
        if not long
    ]
    rows.sort(key=lambda row: not _LEADS.fullmatch(row.name.plain))
    columns = (Column(f"Version {found.before}"), Column(f"Version {found.after}"), Column("Change", is_number=True))
    parts: list[RenderableType] = [bold(str(found.key)), *([Rows("", columns, rows)] if rows else [])]
    for (change, *texts), long in zip(changes, is_long, strict=True):
        if long:
            lines = Table.grid(TableColumn(no_wrap=True), TableColumn(overflow="fold"), padding=(0, 2))
            for version, text in zip((found.before, found.after), texts, strict=True):
                lines.add_row(f"  {version}", text)
            parts += [bold(change.name), lines]
    return Group(*parts)


def import_table(report: ImportReport, shown: str) -> RenderableType:
    """Every version of the file and what became of it in the database that is shown."""
    columns = (TableColumn(name, overflow="fold") for name in ("Key", "In the file", "Here", ""))
    table = Table(*columns, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for one in report.versions:
        became = f"{'stored' if one.is_new else 'was here already'}{', active' if one.is_active else ''}"
        table.add_row(Text(str(one.key)), str(one.exported), str(one.version), became)
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
    facts = TypeAdapter(type(report)).dump_python(report, mode="json")
    return {"registry": shown, "stored": report.stored, "skipped": report.skipped, **facts}


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC, {age(moment)} ago"


def _value(value: object) -> Text:
    if isinstance(value, list):
        # Of an interval three digits tell enough; what is no number is a sentence.
        is_interval = all(isinstance(part, float) for part in value)
        return Text(", ".join(f"{part:.3g}" for part in value) if is_interval else "; ".join(map(str, value)))
    if isinstance(value, float):
        return Text(number(value))
    return Text(NOTHING if value is None else str(value))


def _difference(change: Change) -> str:
    if change.difference is None:
        return ""
    share = "" if change.relative is None else f" ({change.relative:+.0%})"
    return f"{change.difference:+.4g}{share}"
