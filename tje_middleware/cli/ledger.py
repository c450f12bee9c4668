"""``tje ledger``: what gates decided, spent and saved, and what feedback says of it."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Annotated

import typer

from .console import print_result, say
from .registry._key import KeyRequest, counted, found_key, with_key
from .registry._opening import DEFAULT_URL, Json, Url, opened

if TYPE_CHECKING:
    from ..database import Database

ledger = typer.Typer(help="Decisions: what they cost and saved, and whether they were right.", no_args_is_help=True)


@ledger.command()
def summary(
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="DATE", help="From this day on, in UTC.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="DATE", help="Up to this day, it included.")
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
    first, end = _utc(since), _end_of(until)
    with opened(url) as store:
        from ..keys import is_of  # noqa: PLC0415 (--help must not wait for a database, nor for pydantic)
        from ..ledger import DecisionLedger  # noqa: PLC0415
        from ..ledger.money import has_price_list  # noqa: PLC0415
        from ..ledger.table import summary_table  # noqa: PLC0415

        with DecisionLedger(store) as held:
            found = held.summary(
                since=first, until=end, key=key, deeper_model=deeper_model, per="total" if total else "day"
            )
            rest = held.unattributed(since=first, until=end)
        if key is not None and not found:
            _require_key(store.database, key)
        found = [one for one in found if is_of(one.key, model=model, task=task)]
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
        from ..ledger._range import holds  # noqa: PLC0415
        from ..ledger._telling import tell  # noqa: PLC0415

        try:
            tell(store.database, decision_id, correct=correct, draft_correct=draft_correct)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        if not holds(store.database, decision_id):
            say(f"There is no decision {decision_id} yet; the feedback is kept for it.")


@ledger.command()
def prune(
    before: Annotated[
        datetime, typer.Option(formats=["%Y-%m-%d"], metavar="DATE", help="The first day that is kept, in UTC.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Delete decisions from before a day, with their feedback."""
    with opened(url) as store:
        from ..ledger import DecisionLedger  # noqa: PLC0415

        with DecisionLedger(store) as held:
            if not yes:
                count = sum(one.decisions for one in held.summary(until=_utc(before), per="total"))
                typer.confirm(
                    f"Delete {counted(count, 'decision')} from before {before:%Y-%m-%d}?", abort=True, err=True
                )
            deleted = held.prune(before.replace(tzinfo=timezone.utc))
        say(f"Deleted {counted(deleted, 'decision')} from before {before:%Y-%m-%d}.")


@ledger.command()
@with_key
def recalibrate(
    wanted: KeyRequest,
    since: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            metavar="DATE",
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
        from .registry._version_tables import diff_table  # noqa: PLC0415

        key = found_key(store, wanted).key
        with DecisionLedger(store) as held:
            profile = store.get(key)
            version = store.put(held.recalibrated(profile, since=_utc(since)), candidate=True, source="feedback")
        difference = store.diff(key, profile.version or version, version)
        print_result(diff_table(difference), {"version": version, "diff": difference.as_dict()}, as_json=as_json)
        say(f"Version {version} is a candidate; to use it: tje registry promote {key.model} {key.task} {version}")


def _utc(day: datetime | None) -> datetime | None:
    return None if day is None else day.replace(tzinfo=timezone.utc)


def _end_of(day: datetime | None) -> datetime | None:
    """The beginning of the day after; none comes after the last one."""
    if day is None or day.date() == date.max:
        return None
    return _utc(day + timedelta(days=1))


def _require_key(database: Database, key: str) -> None:
    """Refuse a key that no decision has; a ledger without any has none to name."""
    from ..errors import ProfileNotFound  # noqa: PLC0415 (with the commands that need it)
    from ..ledger._range import keys_with_decisions  # noqa: PLC0415

    known = keys_with_decisions(database)
    if known and key not in known:
        lines = "".join(f"\n  {each}" for each in known)
        raise ProfileNotFound(f"no decision has the key {key!r}; there are:{lines}")
