"""``tje ledger``: what gates decided, spent and saved, and what feedback says of it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Annotated

import typer

from .console import print_result, say, say_error
from .registry._key import KeyRequest, found_key, with_key
from .registry._opening import DEFAULT_URL, Json, Url, opened

# A database that is busy is waited for.
_PATIENCE_SECONDS = 40.0

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
    deeper_includes_draft: Annotated[
        bool, typer.Option("--deeper-includes-draft", help="As the ledger that recorded them was told.")
    ] = False,
    total: Annotated[bool, typer.Option("--total", help="All days together.")] = False,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Decisions by key and day: the share accepted, tokens and money spent and saved, and how many were wrong."""
    first, end = _utc(since), _utc(until + timedelta(days=1)) if until else None
    with opened(url) as store:
        from ..ledger import DecisionLedger  # noqa: PLC0415 (--help must not wait for a database)
        from ..ledger.money import has_price_list  # noqa: PLC0415
        from ..ledger.table import summary_table  # noqa: PLC0415

        with DecisionLedger(store, deeper_includes_draft=deeper_includes_draft) as held:
            found = held.summary(
                since=first, until=end, key=key, deeper_model=deeper_model, per="total" if total else "day"
            )
            rest = held.unattributed(since=first, until=end)
        found = [one for one in found if _is_of(one.key, model, task)]
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
        from ..ledger import DecisionLedger  # noqa: PLC0415

        with DecisionLedger(store) as held:
            before = held.unattributed().unmatched_feedback
            held.feedback(decision_id, correct=correct, draft_correct=draft_correct)
            if not held.flush(_PATIENCE_SECONDS) or held.dropped:
                say_error(held.problem or "the feedback could not be stored")
                raise typer.Exit(1)
            if held.unattributed().unmatched_feedback > before:
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
                typer.confirm(f"Delete {count:,} decisions from before {before:%Y-%m-%d}?", abort=True, err=True)
            deleted = held.prune(before.replace(tzinfo=timezone.utc))
        say(f"Deleted {deleted:,} decisions from before {before:%Y-%m-%d}.")


@ledger.command()
@with_key
def recalibrate(wanted: KeyRequest, url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """From feedback on a key's active version, make a candidate: nothing changes until it is promoted."""
    with opened(url) as store:
        from ..ledger import DecisionLedger  # noqa: PLC0415
        from .registry._version_tables import diff_table  # noqa: PLC0415

        key = found_key(store, wanted).key
        with DecisionLedger(store) as held:
            profile = store.get(key)
            version = store.put(held.recalibrated(profile), candidate=True, source="feedback")
        difference = store.diff(key, profile.version or version, version)
        print_result(diff_table(difference), {"version": version, "diff": difference.as_dict()}, as_json=as_json)
        say(f"Version {version} is a candidate; to use it: tje registry promote {key.model} {key.task} {version}")


def _utc(day: datetime | None) -> datetime | None:
    return None if day is None else day.replace(tzinfo=timezone.utc)


def _is_of(key: str, model: str | None, task: str | None) -> bool:
    """Whether a key in words is of a model and a task."""
    is_of_model = model is None or key.startswith(f"{model} / ")
    return is_of_model and (task is None or f" / {task} / " in key)
