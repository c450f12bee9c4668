"""``tje ledger``: what gates decided, spent and saved, and what feedback says of it."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from .console import day, print_result, say
from .registry.keys import DEFAULT_URL, Json, KeyRequest, Url, counted, found_key, of_names, opened, with_key

if TYPE_CHECKING:
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
        from ..ledger.range import keys_with_decisions  # noqa: PLC0415
        from .ledger_table import summary_table  # noqa: PLC0415

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
        from ..ledger.range import holds  # noqa: PLC0415
        from ..ledger.telling import tell  # noqa: PLC0415

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
    from ..ledger.range import keys_with_decisions  # noqa: PLC0415
    from ..ledger.tables import stored_key  # noqa: PLC0415

    known = keys_with_decisions(database)
    if known and stored_key(key) not in known:
        lines = "".join(f"\n  {each}" for each in known)
        raise ProfileNotFound(f"no decision has the key {key!r}; there are:{lines}")
