"""Summaries for a person: as tables where these fit, else line by line; no number is ever cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from ..ledger.range import Unattributed
from ..ledger.summary import DaySummary

_NOTHING = "-"
# More columns than any table needs.
_WIDEST = 1_000
# Of a column, and of a line.
_HEADINGS = (
    ("Day", "Day"),
    ("Deci-\nsions", "Decisions"),
    ("Ac-\ncepted", "Accepted"),
    ("Not\njudged", "Not judged"),
    ("Tokens\nspent", "Tokens spent"),
    ("Saved,\nmeas.", "Tokens saved, measured"),
    ("Saved,\nestim.", "Tokens saved, estimated"),
    ("USD\nspent", "USD spent"),
    ("USD\nsaved,\nmeas.", "USD saved, measured"),
    ("USD\nsaved,\nestim.", "USD saved, estimated"),
    ("Wrong\nof ac-\ncepted", "Wrong of accepted"),
    ("95 % interval\nin % (limit)", "95 % interval in % (limit)"),
    ("Lat.\n(s)", "Latency (s)"),
    ("Al-\narms", "Alarms"),
)


def summary_table(
    summaries: Sequence[DaySummary], rest: Unattributed, *, has_prices: bool = True, what_if_empty: str = ""
) -> RenderableType:
    """A table for each key, and what is known beside them."""
    by_key = {key: list(days) for key, days in groupby(summaries, key=lambda summary: summary.key)}
    parts: list[RenderableType] = [_Fitting(by_key)] if by_key else []
    if not parts:
        parts.append(Text(what_if_empty or "There are no decisions."))
    return Group(*parts, *(Text(remark, style=style) for remark, style in _remarks(summaries, rest, has_prices)))


@dataclass(frozen=True)
class _Fitting:
    """Days by key: as tables, unless one of them is wider than what it is printed on."""

    by_key: Mapping[str, Sequence[DaySummary]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        tables = [_as_table(key, days) for key, days in self.by_key.items()]
        unlimited = options.update(width=_WIDEST)
        if all(console.measure(table, options=unlimited).maximum <= options.max_width for table in tables):
            yield from tables
            return
        for key, days in self.by_key.items():
            yield Text(key, style="bold", overflow="fold")
            for day in days:
                yield _as_lines(day)
                yield ""


def _as_lines(day: DaySummary) -> Table:
    lines = Table.grid(padding=(0, 2))
    lines.add_column(overflow="fold")
    lines.add_column(overflow="fold")
    for (_, name), value in zip(_HEADINGS, _row(day), strict=True):
        lines.add_row(name, value)
    return lines


def _as_table(key: str, days: Sequence[DaySummary]) -> Table:
    title = Text(key, style="bold", overflow="fold")
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for heading, _ in _HEADINGS:
        table.add_column(heading, justify="left" if heading == "Day" else "right", no_wrap=True)
    for day in days:
        table.add_row(*_row(day))
    return table


def _row(one: DaySummary) -> tuple[str | Text, ...]:
    spent = one.draft_input_tokens + one.draft_output_tokens + one.deeper_input_tokens + one.deeper_output_tokens
    alarms = f"{one.alarms}" if one.alarms else _NOTHING
    return (
        "all" if one.day is None else one.day.isoformat(),
        f"{one.decisions:,}",
        _NOTHING if one.share_accepted is None else f"{one.share_accepted:.1%}",
        _amount(sum(one.unjudged.values())) if one.unjudged else _NOTHING,
        _sign("≥", one.partly_known) + _amount(spent),
        _sign("≤", one.measured_up_to) + _amount(one.saved_measured) if one.measured else _NOTHING,
        _sign("≤", one.estimated_up_to) + _amount(one.saved_estimated) if one.estimated else _NOTHING,
        _money(one.usd_spent, _sign("≥", one.partly_known)),
        _money(one.usd_saved_measured, _sign("≤", one.measured_up_to)) if one.measured else _NOTHING,
        _money(one.usd_saved_estimated, _sign("≤", one.estimated_up_to)) if one.estimated else _NOTHING,
        f"{one.wrong:,}/{one.graded:,}" if one.graded else _NOTHING,
        _risk(one),
        _NOTHING if one.latency_seconds is None else f"{one.latency_seconds:.3g}",
        Text(alarms, style="bold red" if one.alarms else ""),
    )


def _sign(sign: str, count: int) -> str:
    return sign if count else ""


def _risk(one: DaySummary) -> Text:
    limit = "" if one.risk_limit is None else f"(≤ {100 * one.risk_limit:.3g})"
    if one.risk_interval is None:
        return Text(limit or _NOTHING)
    low, high = one.risk_interval
    is_broken = one.promise is not None and one.promise.is_broken
    return Text(f"{100 * low:.1f}-{100 * high:.1f} {limit}".strip(), style="bold red" if is_broken else "")


def _amount(count: float) -> str:
    """A count in at most five characters, and its sign."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= 0.9995 * size:
            digits = sum(abs(count) < most * size for most in (9.995, 99.95))
            return f"{count / size:.{digits}f}{unit}"
    return f"{count:.0f}"


def _money(amount: float | None, sign: str) -> str:
    if amount is None:
        return "?"
    return sign + (
        _amount(amount) if abs(amount) >= 1000 else f"{amount:.3g}" if abs(amount) >= 1 else f"{amount:.2g}"
    )


def _remarks(summaries: Sequence[DaySummary], rest: Unattributed, has_prices: bool) -> list[tuple[str, str]]:
    said = []
    if any(one.estimated or one.measured for one in summaries):
        said.append(
            (
                "Saved: output tokens, against always going deeper; estimated by the profile where that did not run. "
                "USD measured are of input too.",
                "dim",
            )
        )
    unknown = sum(one.saved_unknown for one in summaries)
    if unknown:
        of = (
            "1 decision it is not known what it"
            if unknown == 1
            else f"{unknown:,} decisions it is not known what they"
        )
        said.append((f"Of {of} saved.", "dim"))
    if any("?" in _row(one) for one in summaries):
        said.append((f"?: {_why_unknown(summaries, has_prices)}.", "dim"))
    if any(one.partly_known for one in summaries):
        said.append(("≥, ≤: of some calls it is not known what they spent.", "dim"))
    broken = sorted({one.promise.limit for one in summaries if one.promise and one.promise.is_broken})
    said += [
        (f"Of the drafts accepted as at most {100 * limit:.3g} % wrong, more were.", "bold red") for limit in broken
    ]
    if rest.unmatched_feedback:
        said.append((f"Feedback about decisions that are not there: {rest.unmatched_feedback:,}.", "yellow"))
    if rest.dropped:
        said.append((f"Decisions and feedback that were dropped: {rest.dropped:,}.", "yellow"))
    return said


def _why_unknown(summaries: Sequence[DaySummary], has_prices: bool) -> str:
    if not has_prices:
        return 'a price is not known (pip install "tje-middleware[prices]")'
    reasons = []
    if unpriced := sorted({model for one in summaries for model in one.unpriced}):
        reasons.append(f"no list price for: {', '.join(unpriced)}")
    if any(one.unnamed for one in summaries):
        reasons.append("a model is not named, so that its price is not known (name the models)")
    return "; ".join(reasons) or "of no call it is known what it spent"
