"""Summaries as tables for a person; legible from 120 columns on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ._range import Unattributed
from .summary import DaySummary

_NOTHING = "-"
_HEADINGS = (
    "Day",
    "Deci-\nsions",
    "Ac-\ncepted",
    "Not\njudged",
    "Tokens\nspent",
    "Saved,\nmeas.",
    "Saved,\nestim.",
    "USD\nspent",
    "USD\nsaved",
    "Wrong of\naccepted",
    "95 % interval\nin % (limit)",
    "Latency\n(s)",
    "Alarms",
)


def summary_table(
    summaries: Sequence[DaySummary], rest: Unattributed, *, has_prices: bool = True, what_if_empty: str = ""
) -> RenderableType:
    """A table for each key, and what is known beside them."""
    parts: list[RenderableType] = [
        _of_key(key, list(days)) for key, days in groupby(summaries, key=lambda summary: summary.key)
    ]
    if not parts:
        parts.append(Text(what_if_empty or "There are no decisions."))
    return Group(*parts, *(Text(remark, style=style) for remark, style in _remarks(summaries, rest, has_prices)))


def _of_key(key: str, days: Sequence[DaySummary]) -> Table:
    table = Table(
        title=Text(key, style="bold"), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    for heading in _HEADINGS:
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
        ("≥" if one.partly_known else "") + _amount(spent),
        _amount(one.saved_measured) if one.measured else _NOTHING,
        _amount(one.saved_estimated) if one.estimated else _NOTHING,
        _money(one.usd_spent),
        _money(_saved(one)) if one.measured or one.estimated else _NOTHING,
        f"{one.wrong:,}/{one.graded:,}" if one.graded else _NOTHING,
        _risk(one),
        _NOTHING if one.latency_seconds is None else f"{one.latency_seconds:.3g}",
        Text(alarms, style="bold red" if one.alarms else ""),
    )


def _saved(one: DaySummary) -> float | None:
    if one.usd_saved_measured is None or one.usd_saved_estimated is None:
        return None
    return one.usd_saved_measured + one.usd_saved_estimated


def _risk(one: DaySummary) -> Text:
    limit = "" if one.risk_limit is None else f"(≤ {100 * one.risk_limit:.3g})"
    if one.risk_interval is None:
        return Text(limit or _NOTHING)
    low, high = one.risk_interval
    is_broken = one.risk_limit is not None and low > one.risk_limit
    return Text(f"{100 * low:.1f}-{100 * high:.1f} {limit}".strip(), style="bold red" if is_broken else "")


def _amount(count: float) -> str:
    """A count in at most six characters."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(count) >= 10 * size:
            return f"{count / size:,.{1 if abs(count) < 1000 * size else 0}f}{unit}"
    return f"{count:,.0f}"


def _money(amount: float | None) -> str:
    if amount is None:
        return "?"
    return f"{amount:,.0f}" if abs(amount) >= 1000 else f"{amount:.3g}"


def _remarks(summaries: Sequence[DaySummary], rest: Unattributed, has_prices: bool) -> list[tuple[str, str]]:
    said = []
    if any(one.estimated or one.measured for one in summaries):
        said.append(
            (
                "Saved: output tokens, against always going deeper; estimated by the profile where that did not run.",
                "dim",
            )
        )
    unknown = sum(one.saved_unknown for one in summaries)
    if unknown:
        said.append((f"Of {unknown:,} decisions it is not known what they saved.", "dim"))
    if any(one.usd_spent is None or _saved(one) is None for one in summaries):
        how = "name the models" if has_prices else 'pip install "tje-middleware[prices]"'
        said.append((f"?: a price is not known ({how}).", "dim"))
    if any(one.partly_known for one in summaries):
        said.append(("≥: of some calls it is not known what they spent.", "dim"))
    if rest.unmatched_feedback:
        said.append((f"Feedback about decisions that are not there: {rest.unmatched_feedback:,}.", "yellow"))
    if rest.dropped:
        said.append((f"Decisions and feedback that were dropped: {rest.dropped:,}.", "yellow"))
    return said
