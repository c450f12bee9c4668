"""``tje ledger``: what gates decided, spent and saved, and what feedback says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Column, Table
from rich.text import Text

from .console import Json, day, print_result, say
from .registry.keys import DEFAULT_URL, KeyRequest, Url, counted, found_key, of_names, opened, with_key

if TYPE_CHECKING:
    from ..ledger import DaySummary, Unattributed
    from ..storage import Database

_MARK = {True: "right", False: "wrong"}

ledger = typer.Typer(help="Decisions: what they cost and saved, and whether they were right.", no_args_is_help=True)


@ledger.command()
def summary(
    since: Annotated[
        datetime | None, typer.Option(parser=day, metavar="YYYY-MM-DD", help="From this day on, in UTC.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(parser=day, metavar="YYYY-MM-DD", help="Up to this day, it included.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Of this key alone, as the summary shows it.")] = None,
    model: Annotated[str | None, typer.Option(help="Of this model's keys.")] = None,
    task: Annotated[str | None, typer.Option(help="Of this task's keys.")] = None,
    deeper_model: Annotated[
        str | None,
        typer.Option(
            help="What would have written the tokens that were not spent.", show_default="what mostly did go deeper"
        ),
    ] = None,
    total: Annotated[bool, typer.Option("--total", help="All days together.")] = False,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Decisions by key and day: the share accepted, tokens and money spent and saved, and how many were wrong."""
    if since is not None and until is not None and until < since:
        raise typer.BadParameter(f"--until {until:%Y-%m-%d} is before --since {since:%Y-%m-%d}")
    end = _end_of(until)
    with opened(url) as store:
        from ..ledger import DecisionLedger  # noqa: PLC0415 (--help must not wait for a database, nor for pydantic)
        from ..ledger.money import has_price_list  # noqa: PLC0415
        from ..ledger.queries import keys_with_decisions  # noqa: PLC0415

        with DecisionLedger(store) as held:
            found = held.summary(
                since=since, until=end, key=key, deeper_model=deeper_model, per="total" if total else "day"
            )
            rest = held.unattributed(since=since, until=end)
        if key is not None and not found:
            _require_key(store.database, key)
        if model is not None or task is not None:
            named = of_names(keys_with_decisions(store.database), store.aliases(), model=model, task=task)
            found = [one for one in found if one.key in named]
        shown = summary_table(found, rest, has_prices=has_price_list())
        plain = {
            "summaries": [one.as_dict() for one in found],
            "dropped": rest.dropped,
            "unmatched_feedback": rest.unmatched_feedback,
        }
        print_result(shown, plain, as_json=as_json)


@ledger.command()
def feedback(
    decision_id: Annotated[str, typer.Argument(help="The decision's, as in the answer's metadata.")],
    correct: Annotated[
        bool | None, typer.Option("--correct/--wrong", help="Whether the answer that was delivered was right.")
    ] = None,
    draft_correct: Annotated[
        bool | None,
        typer.Option("--draft-correct/--draft-wrong", help="Whether the draft was, where it was not the answer."),
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Say whether an answer was right."""
    if correct is None and draft_correct is None:
        raise typer.BadParameter("say --correct or --wrong, or of the draft --draft-correct or --draft-wrong")
    with opened(url) as store:
        from ..ledger.feedback import tell  # noqa: PLC0415
        from ..ledger.queries import holds  # noqa: PLC0415

        before = _grades(store.database, decision_id)
        try:
            tell(store.database, decision_id, correct=correct, draft_correct=draft_correct)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        for what, now, then in zip(("answer", "draft"), (correct, draft_correct), before, strict=True):
            if now is not None:
                turned = f"; until now it was marked {_MARK[then]}" if then is (not now) else ""
                typer.echo(f"{decision_id}: the {what} is marked {_MARK[now]}{turned}.")
        if not holds(store.database, decision_id):
            say(f"There is no decision {decision_id} yet; the feedback is kept for it.")


@ledger.command()
def prune(
    before: Annotated[
        datetime, typer.Option(parser=day, metavar="YYYY-MM-DD", help="The first day that is kept, in UTC.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Delete decisions from before a day, with their feedback."""
    with opened(url) as store:
        from ..ledger import DecisionLedger  # noqa: PLC0415

        with DecisionLedger(store) as held:
            if not yes:
                count = sum(one.decisions for one in held.summary(until=before, per="total"))
                typer.confirm(
                    f"Delete {counted(count, 'decision')} from before {before:%Y-%m-%d}?", abort=True, err=True
                )
            deleted = held.prune(before)
        say(f"Deleted {counted(deleted, 'decision')} from before {before:%Y-%m-%d}.")


@ledger.command()
@with_key
def recalibrate(
    wanted: KeyRequest,
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=day,
            metavar="YYYY-MM-DD",
            help="Of drafts decided from this day on, in UTC.",
            show_default="the drift alarm that holds, else the first",
        ),
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """From feedback on a key's active version, make a candidate: nothing changes until it is promoted."""
    with opened(url) as store:
        from ..ledger import DecisionLedger  # noqa: PLC0415
        from .registry.version_tables import diff_table  # noqa: PLC0415

        key = found_key(store, wanted).key
        with DecisionLedger(store) as held:
            profile = store.get(key)
            made = held.recalibrated(profile, since=since)
        of_these = [one.version for one in store.versions(key) if one.records_fingerprint == made.records_fingerprint]
        version = of_these[-1] if of_these else store.put(made, candidate=True, source="feedback")
        difference = store.diff(key, profile.version or version, version)
        print_result(diff_table(difference), {"version": version, "diff": difference.as_dict()}, as_json=as_json)
        what = "was made of these records before" if of_these else "is a candidate"
        say(f"Version {version} {what}; to use it: tje registry promote {key.model} {key.task} {version}")


def _end_of(last: datetime | None) -> datetime | None:
    """The beginning of the day after; none comes after the last one."""
    return None if last is None or last.date() == date.max else last + timedelta(days=1)


def _grades(database: Database, decision_id: str) -> tuple[bool | None, bool | None]:
    """What was said of an answer and of its draft until now; None: nothing."""
    from sqlalchemy import select  # noqa: PLC0415

    from ..ledger.tables import FEEDBACK  # noqa: PLC0415

    columns = (FEEDBACK.c.correct, FEEDBACK.c.draft_correct)
    with database.reading() as read:
        rows = read(select(*columns).where(FEEDBACK.c.decision_id == decision_id))
    return (rows[0].correct, rows[0].draft_correct) if rows else (None, None)


def _require_key(database: Database, key: str) -> None:
    """Refuse a key that no decision has; a ledger without any has none to name."""
    from ..errors import ProfileNotFound  # noqa: PLC0415 (with the commands that need it)
    from ..ledger.queries import keys_with_decisions  # noqa: PLC0415
    from ..ledger.tables import stored_key  # noqa: PLC0415

    known = keys_with_decisions(database)
    if known and stored_key(key) not in known:
        lines = "".join(f"\n  {each}" for each in known)
        raise ProfileNotFound(f"no decision has the key {key!r}; there are:{lines}")


# What is printed: tables where these fit, else line by line; no number is ever cut.

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


def summary_table(summaries: Sequence[DaySummary], rest: Unattributed, *, has_prices: bool = True) -> RenderableType:
    """A table for each key, and what is known beside them."""
    by_key = {key: list(days) for key, days in groupby(summaries, key=lambda summary: summary.key)}
    table = _FittingTables(by_key) if by_key else Text("There are no decisions.")
    return Group(table, *(Text(remark, style=style) for remark, style in _remarks(summaries, rest, has_prices)))


@dataclass(frozen=True)
class _FittingTables:
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
            for one in days:
                lines = Table.grid(Column(overflow="fold"), Column(overflow="fold"), padding=(0, 2))
                for (_, name), value in zip(_HEADINGS, _row(one), strict=True):
                    lines.add_row(name, value)
                yield lines
                yield ""


def _as_table(key: str, days: Sequence[DaySummary]) -> Table:
    title = Text(key, style="bold", overflow="fold")
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0, pad_edge=False)
    for heading, _ in _HEADINGS:
        table.add_column(heading, justify="left" if heading == "Day" else "right", no_wrap=True)
    for one in days:
        table.add_row(*_row(one))
    return table


def _row(one: DaySummary) -> tuple[str | Text, ...]:
    spent = one.draft_input_tokens + one.draft_output_tokens + one.deeper_input_tokens + one.deeper_output_tokens
    at_least = "≥" if one.partly_known else ""
    measured_most, estimated_most = "≤" if one.measured_up_to else "", "≤" if one.estimated_up_to else ""
    return (
        "all" if one.day is None else one.day.isoformat(),
        f"{one.decisions:,}",
        _NOTHING if one.share_accepted is None else f"{one.share_accepted:.1%}",
        _amount(sum(one.unjudged.values())) if one.unjudged else _NOTHING,
        at_least + _amount(spent),
        measured_most + _amount(one.saved_measured) if one.measured else _NOTHING,
        estimated_most + _amount(one.saved_estimated) if one.estimated else _NOTHING,
        _money(one.usd_spent, at_least),
        _money(one.usd_saved_measured, measured_most) if one.measured else _NOTHING,
        _money(one.usd_saved_estimated, estimated_most) if one.estimated else _NOTHING,
        f"{one.wrong:,}/{one.graded:,}" if one.graded else _NOTHING,
        _risk(one),
        _NOTHING if one.latency_seconds is None else f"{one.latency_seconds:.3g}",
        Text(str(one.alarms), style="bold red") if one.alarms else _NOTHING,
    )


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


def _remarks(summaries: Sequence[DaySummary], rest: Unattributed, has_prices: bool) -> Iterator[tuple[str, str]]:
    """What is to be said below the tables, each with its style."""
    if any(one.estimated or one.measured for one in summaries):
        yield (
            (
                "Saved: output tokens, against always going deeper; estimated by the profile where that did not run. "
                "USD measured are of input too."
            ),
            "dim",
        )
    if unknown := sum(one.saved_unknown for one in summaries):
        of_whom, who = ("1 decision", "it") if unknown == 1 else (f"{unknown:,} decisions", "they")
        yield f"Of {of_whom} it is not known what {who} saved.", "dim"
    if any("?" in _row(one) for one in summaries):
        yield f"?: {_why_unknown(summaries, has_prices)}.", "dim"
    if any(one.partly_known for one in summaries):
        yield "≥, ≤: of some calls it is not known what they spent.", "dim"
    for limit in sorted({one.promise.limit for one in summaries if one.promise and one.promise.is_broken}):
        yield f"Of the drafts accepted as at most {100 * limit:.3g} % wrong, more were.", "bold red"
    if rest.unmatched_feedback:
        yield f"Feedback about decisions that are not there: {rest.unmatched_feedback:,}.", "yellow"
    if rest.dropped:
        yield f"Decisions and feedback that were dropped: {rest.dropped:,}.", "yellow"


def _why_unknown(summaries: Sequence[DaySummary], has_prices: bool) -> str:
    if not has_prices:
        return 'a price is not known (pip install "tje-middleware[prices]")'
    reasons = []
    if unpriced := sorted({model for one in summaries for model in one.unpriced}):
        reasons.append(f"no list price for: {', '.join(unpriced)}")
    if any(one.unnamed for one in summaries):
        reasons.append("a model is not named, so that its price is not known (name the models)")
    return "; ".join(reasons) or "of no call it is known what it spent"
