"""What ``tje registry`` shows, as tables for a person and as plain values for a machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ...alarms import Alarm
    from ...profile import CalibrationProfile
    from ...registry import Finding, KeyOverview, StoredAlarm

#: Where there is no value.
NOTHING = "-"
_DEFAULT_METHOD = "mean"
_STATUS = {"ok": "green", "warn": "yellow", "fail": "bold red"}
_VERDICT = {"usable": "green", "weak": "yellow"}
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


def keys_table(keys: Sequence[KeyOverview]) -> RenderableType:
    """Every key: what is active, how good it is, and what waits."""
    table = table_of("Model / task", "Signal")
    for heading in ("Active", "Verdict", "n", f"{_DEFAULT_METHOD}\nthreshold", "AUROC", "Age", "Waiting", "Alarms"):
        table.add_column(heading, justify="left" if heading == "Verdict" else "right", no_wrap=True)
    for one in keys:
        profile = one.active
        table.add_row(
            _named(one),
            Text(NOTHING if profile is None else _signal(profile)),
            f"{one.active_version or 'none'} of {len(one.versions)}",
            _verdict(one),
            NOTHING if profile is None else f"{profile.n_correct + profile.n_incorrect:,}",
            number(None if profile is None else threshold_of(profile)),
            NOTHING if profile is None or profile.auroc is None else f"{profile.auroc:.3f}",
            NOTHING if profile is None else age(profile.created_at),
            _versions(one.candidates),
            Text(str(one.alarms), style="bold red") if one.alarms else NOTHING,
        )
    table.caption = "Active: version of how many. Waiting: candidates that may be promoted."
    return table


def key_as_dict(one: KeyOverview) -> dict[str, Any]:
    """The same of one key, fit for JSON."""
    profile = one.active
    return {
        "key": None if one.key is None else one.key.model_dump(mode="json"),
        "name": one.name,
        "active_version": one.active_version,
        "versions": list(one.versions),
        "candidates": list(one.candidates),
        "alarms": one.alarms,
        "problem": one.problem,
        "verdict": profile and profile.verdict,
        "signal": profile and profile.signal,
        "n": profile and profile.n_correct + profile.n_incorrect,
        "method": _DEFAULT_METHOD,
        "threshold": profile and threshold_of(profile),
        "auroc": profile and profile.auroc,
        "created_at": profile and profile.created_at.isoformat(),
    }


def findings_table(findings: Iterable[Finding]) -> RenderableType:
    """What the doctor found, and what to do."""
    table = table_of()
    table.add_column("", no_wrap=True)
    table.add_column("Looked at", no_wrap=True)
    table.add_column("Found, and what to do", overflow="fold")
    for finding in findings:
        said = Text(finding.found)
        if finding.remedy:
            said.append(f"\n{finding.remedy}", style="bold")
        table.add_row(Text(finding.status, style=_STATUS[finding.status]), finding.name, said)
    return table


def finding_as_dict(finding: Finding) -> dict[str, Any]:
    """The same of one finding, fit for JSON."""
    return asdict(finding)


def alarms_table(alarms: Sequence[StoredAlarm]) -> RenderableType:
    """Alarms, newest first."""
    table = table_of("Model / task", "Version", "Kind", "Raised", "What")
    for one in alarms:
        alarm = one.alarm
        raised = f"{age(alarm.raised_at)} ago\nby {alarm.raised_by}"
        if one.dismissed_at is not None:
            raised += f"\ndismissed {age(one.dismissed_at)} ago\nby {one.dismissed_by}"
        table.add_row(Text(str(one.key)), str(alarm.version), alarm.kind, Text(raised), Text(alarm.detail))
    return table


def stored_alarm_as_dict(one: StoredAlarm) -> dict[str, Any]:
    """One alarm with its key, fit for JSON."""
    return {
        "key": one.key.model_dump(mode="json"),
        **alarm_as_dict(one.alarm),
        "dismissed_at": one.dismissed_at and one.dismissed_at.isoformat(),
        "dismissed_by": one.dismissed_by,
    }


def alarm_as_dict(alarm: Alarm) -> dict[str, Any]:
    """One alarm, fit for JSON."""
    return {**asdict(alarm), "raised_at": alarm.raised_at.isoformat()}


def aliases_table(aliases: Mapping[str, str]) -> RenderableType:
    """Other names of models."""
    table = table_of("Alias", "Model")
    for name, model in aliases.items():
        table.add_row(Text(name), Text(model))
    return table


def table_of(*headings: str) -> Table:
    """A table in the house's looks, with columns of words."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def age(moment: datetime) -> str:
    """How long ago, in the largest unit of which there are two."""
    seconds = max(0.0, (datetime.now(timezone.utc) - moment).total_seconds())
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def bold(words: str) -> Text:
    """Words that stand out."""
    return Text(words, style="bold")


def verdict(profile: CalibrationProfile) -> Text:
    """A profile's verdict in its colour."""
    return Text(profile.verdict, style=_VERDICT.get(profile.verdict, "red"))


def threshold_of(profile: CalibrationProfile) -> float | None:
    """The default method's threshold, in the signal's unit; None where it has none."""
    found = profile.thresholds.get(_DEFAULT_METHOD)
    return found.value if found else None


def number(value: float | None) -> str:
    """A number in four digits."""
    return NOTHING if value is None else f"{value:.4g}"


def _named(one: KeyOverview) -> Text:
    if one.key is None:
        return Text(one.name, style="red")
    _, _, settings = one.name.partition(" (")
    return Text.assemble((f"{one.key.model} / {one.key.task}", "bold"), (f"\n({settings}", "dim"))


def _signal(profile: CalibrationProfile) -> str:
    return profile.signal if profile.chosen_signal is None else f"{profile.signal} ({profile.key.signal})"


def _verdict(one: KeyOverview) -> Text:
    if one.active is not None:
        return verdict(one.active)
    return Text("unreadable", style="bold red") if one.problem else Text(NOTHING)


def _versions(numbers: Sequence[int]) -> str:
    most = 3
    shown = ", ".join(map(str, numbers[-most:]))
    return (f"..., {shown}" if len(numbers) > most else shown) or NOTHING
