"""``tje registry alias``, ``unalias``, ``aliases``, ``alarms`` and ``dismiss``: what is said of models and keys."""

from __future__ import annotations

from typing import Annotated

import typer

from ..console import print_result, say
from ._key import KeyRequest, counted, found_key, with_key
from ._opening import DEFAULT_URL, Json, Url, opened

Name = Annotated[str, typer.Argument(help="The other name, such as a provider's dated one.", show_default=False)]


def alias(
    name: Name,
    model: Annotated[str, typer.Argument(help="The model of the keys that it finds.", show_default=False)],
    url: Url = DEFAULT_URL,
) -> None:
    """Have a name find the profiles of a model, for every process."""
    with opened(url) as store:
        store.alias(name, model)
        typer.echo(f"{name} is an alias of {model}.")


def unalias(name: Name, url: Url = DEFAULT_URL) -> None:
    """Have a name find nothing but its own profiles again."""
    with opened(url) as store:
        store.unalias(name)
        typer.echo(f"{name} is no alias any more.")


def aliases(url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """Every alias and the model that it stands for."""
    with opened(url) as store:
        from ._tables import aliases_table  # noqa: PLC0415 (--help must not wait for it)

        found = store.aliases()
        print_result(aliases_table(found), dict(found), as_json=as_json)
        if not found:
            say(f"{store.url} has no alias.")


def alarms(
    model: Annotated[str | None, typer.Argument(help="Of this model alone.", show_default="all")] = None,
    task: Annotated[str | None, typer.Argument(help="Of this task alone.", show_default="all")] = None,
    dismissed: Annotated[bool, typer.Option("--dismissed", help="Those that were dismissed, too.")] = False,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Alarms that nobody has dismissed, newest first: live drafts are not those of the profile."""
    with opened(url) as store:
        from ._tables import alarms_table, stored_alarm_as_dict  # noqa: PLC0415

        models = (None, model, *(store.aliases().get(name) for name in [model] if name))
        found = [
            one
            for one in store.alarms(dismissed=dismissed)
            if (model is None or one.key.model in models) and task in (None, one.key.task)
        ]
        print_result(alarms_table(found), [stored_alarm_as_dict(one) for one in found], as_json=as_json)
        if not found:
            say("There is no alarm.")


@with_key
def dismiss(wanted: KeyRequest, url: Url = DEFAULT_URL) -> None:
    """Have the alarms about a key hold no more: gates go by its profile again."""
    with opened(url) as store:
        key = found_key(store, wanted).key
        count = store.dismiss(key)
        typer.echo(f"{key}: {counted(count, 'alarm')} dismissed.")
