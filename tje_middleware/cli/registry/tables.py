"""What ``tje registry`` shows, as tables for a person and as plain values for a machine.

A person gets a table where it fits into the terminal, else each row line by line; no word is ever cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Column as TableColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from ...calibration.key import ProfileKey
    from ...calibration.profile import Alarm, CalibrationProfile
    from ...registry import KeyOverview, StoredAlarm

# More columns than any terminal has.
_WIDEST = 10_000
# A sentence that has fewer columns than this is no pleasure to read.
_NARROWEST_PROSE = 36
#: Where there is no value.
NOTHING = "-"
_VERDICT = {"usable": "green", "weak": "yellow"}
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


@dataclass(frozen=True)
class Column:
    """A column of the table, or a line where there is no table: of numbers, or of sentences, as one column may be."""

    name: str
    is_number: bool = False
    is_prose: bool = False


@dataclass(frozen=True)
class Row:
    """One line of the table: its first cell, what stands above its lines where there is no table, the other cells."""

    name: Text
    title: Text
    values: Sequence[Text | str]


@dataclass(frozen=True)
class Rows:
    """What is printed; ``heading`` is that of the first column, and each row has a value for each of the others."""

    heading: str
    columns: Sequence[Column]
    rows: Sequence[Row]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        least = console.measure(self._table(_NARROWEST_PROSE), options=options.update(width=_WIDEST)).maximum
        if least <= options.max_width:
            yield self._table(None)
            return
        for row in self.rows:
            yield from self._lines(row)

    def _table(self, most_prose: int | None) -> Table:
        table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False)
        table.add_column(self.heading, no_wrap=True)
        for column in self.columns:
            table.add_column(
                column.name,
                justify="right" if column.is_number else "left",
                no_wrap=not column.is_prose,
                max_width=most_prose if column.is_prose else None,
            )
        for row in self.rows:
            table.add_row(row.name, *row.values)
        return table

    def _lines(self, row: Row) -> Sequence[RenderableType]:
        lines = Table.grid(TableColumn(no_wrap=True), TableColumn(overflow="fold"), padding=(0, 2))
        for column, value in zip(self.columns, row.values, strict=True):
            lines.add_row(_in_one_line(column.name), _in_one_line(value))
        return row.title, lines, ""


def keys_table(keys: Sequence[KeyOverview], method: str) -> RenderableType:
    """Every key: what is active, how good it is, by which threshold of a method it accepts, and what waits."""
    names = ("Signal", "Active", "Verdict", "n", f"Threshold\n({method})", "AUROC", "Age", "Waiting", "Alarms")
    columns = [Column(name, is_number=name not in ("Signal", "Verdict")) for name in names]
    rows = Rows("Model / task", columns, [_row(one, method) for one in keys])
    return Group(rows, Text("Active: version of how many. Waiting: candidates that may be promoted.", style="dim"))


def key_as_dict(one: KeyOverview, method: str) -> dict[str, Any]:
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
        "method": method,
        "threshold": profile and threshold_of(profile, method),
        "auroc": profile and profile.auroc,
        "created_at": profile and profile.created_at.isoformat(),
    }


def alarms_table(alarms: Sequence[StoredAlarm]) -> RenderableType:
    """Alarms, newest first."""
    columns = (Column("Version"), Column("Kind"), Column("Raised"), Column("What", is_prose=True))
    rows = []
    for one in alarms:
        alarm = one.alarm
        raised = f"{age(alarm.raised_at)} ago\nby {alarm.raised_by}"
        if one.dismissed_at is not None:
            raised += f"\ndismissed {age(one.dismissed_at)} ago\nby {one.dismissed_by}"
        values = (str(alarm.version), alarm.kind, Text(raised), Text(alarm.detail))
        rows.append(Row(_in_two_lines(one.key), bold(str(one.key)), values))
    return Rows("Model / task", columns, rows)


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
    rows = [Row(Text(name), bold(name), [Text(model)]) for name, model in aliases.items()]
    return Rows("Alias", [Column("Model")], rows)


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


def threshold_of(profile: CalibrationProfile, method: str) -> float | None:
    """A method's threshold, in the signal's unit; None where it has none."""
    found = profile.thresholds.get(method)
    return found.value if found else None


def number(value: float | None) -> str:
    """A number in four digits."""
    return NOTHING if value is None else f"{value:.4g}"


def _row(one: KeyOverview, method: str) -> Row:
    profile = one.active
    if one.key is None:
        name = title = Text(one.name, style="red")
    else:
        name, title = _in_two_lines(one.key), bold(one.name)
    values = (
        Text(NOTHING if profile is None else _signal(profile)),
        f"{one.active_version or 'none'} of {len(one.versions)}",
        _verdict(one),
        NOTHING if profile is None else f"{profile.n_correct + profile.n_incorrect:,}",
        number(None if profile is None else threshold_of(profile, method)),
        NOTHING if profile is None or profile.auroc is None else f"{profile.auroc:.3f}",
        NOTHING if profile is None else age(profile.created_at),
        _versions(one.candidates),
        Text(str(one.alarms), style="bold red") if one.alarms else NOTHING,
    )
    return Row(name, title, values)


def _in_two_lines(key: ProfileKey) -> Text:
    """Its model and task, and below them the rest."""
    names, signal, settings = str(key).rpartition(f" / {key.signal} (")
    return Text.assemble((names, "bold"), ("\n(" + settings, "dim")) if signal else bold(str(key))


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


def _in_one_line(words: Text | str) -> Text:
    return Text(" ").join((Text(words) if isinstance(words, str) else words).split())
