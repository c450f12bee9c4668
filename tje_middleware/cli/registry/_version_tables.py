"""The versions of a key, what was active when, and what differs, as tables and as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from ._tables import NOTHING, age, alarm_as_dict, bold, number, table_of, threshold_of, verdict

if TYPE_CHECKING:
    from ...keys import ProfileKey
    from ...registry import Change, ProfileDiff, Promotion, StoredVersion

# So much of a digest tells it from others.
_DIGEST = 12


def provenance_table(stored: StoredVersion) -> Table:
    """Where a version comes from, and what is held against it."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
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


def versions_table(key: ProfileKey, versions: Sequence[StoredVersion]) -> Table:
    """Every version with where it comes from."""
    table = table_of("", "Put", "By", "Source", "Verdict", "n", "mean\nthreshold", "AUROC", "Records", "Alarms")
    table.title, table.title_justify, table.title_style = Text(str(key)), "left", "bold"
    for name in ("n", "mean\nthreshold", "AUROC", "Alarms", ""):
        column = next(column for column in table.columns if column.header == name)
        column.justify, column.no_wrap = "right", True
    for one in versions:
        profile = one.profile
        table.add_row(
            Text(f"{'*' if one.is_active else ' '}{one.version:>3}", style="bold green" if one.is_active else ""),
            NOTHING if one.put_at is None else f"{one.put_at:%Y-%m-%d\n%H:%M}",
            Text(one.put_by or NOTHING),
            Text(one.source or NOTHING),
            verdict(profile),
            f"{profile.n_correct + profile.n_incorrect:,}",
            number(threshold_of(profile)),
            NOTHING if profile.auroc is None else f"{profile.auroc:.3f}",
            Text((one.records_fingerprint or NOTHING)[:_DIGEST]),
            Text(str(len(one.alarms)), style="bold red") if one.alarms else NOTHING,
        )
    table.caption = "*: active. Put: UTC. Records: the first characters of their fingerprint."
    return table


def version_as_dict(stored: StoredVersion) -> dict[str, Any]:
    """A version, fit for JSON."""
    return {
        "version": stored.version,
        "is_active": stored.is_active,
        "put_at": stored.put_at and stored.put_at.isoformat(),
        "put_by": stored.put_by,
        "source": stored.source,
        "library_version": stored.library_version,
        "records_fingerprint": stored.records_fingerprint,
        "alarms": [alarm_as_dict(alarm) for alarm in stored.alarms],
        "profile": stored.profile.model_dump(mode="json"),
    }


def promotions_table(key: ProfileKey, log: Sequence[Promotion]) -> Table:
    """What was active when."""
    table = table_of("When (UTC)", "What", "From", "To", "By")
    table.title, table.title_justify, table.title_style = Text(str(key)), "left", "bold"
    for one in log:
        before, after = (
            NOTHING if version is None else str(version) for version in (one.from_version, one.to_version)
        )
        table.add_row(f"{one.at:%Y-%m-%d %H:%M:%S}", Text(one.action), before, after, Text(one.by))
    return table


def promotion_as_dict(one: Promotion) -> dict[str, Any]:
    """One change of what is active, fit for JSON."""
    return {**asdict(one), "at": one.at.isoformat()}


def diff_table(found: ProfileDiff) -> Table:
    """What differs between two versions."""
    table = table_of("", f"Version {found.before}", f"Version {found.after}", "Change")
    table.title, table.title_justify, table.title_style = Text(str(found.key)), "left", "bold"
    table.columns[0].no_wrap = True
    table.columns[-1].justify, table.columns[-1].no_wrap = "right", True
    for change in found.changes:
        table.add_row(bold(change.name), _value(change.before), _value(change.after), _difference(change))
    if not found.changes:
        table.caption = "They do not differ."
    return table


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC, {age(moment)} ago"


def _value(value: object) -> Text:
    if isinstance(value, list):
        return Text(", ".join(str(_value(part)) for part in value))
    if isinstance(value, float):
        return Text(number(value))
    return Text(NOTHING if value is None else str(value))


def _difference(change: Change) -> str:
    if change.difference is None:
        return ""
    share = "" if change.relative is None else f" ({change.relative:+.0%})"
    return f"{change.difference:+.4g}{share}"
