"""``tje registry alias``, ``unalias``, ``aliases``, ``alarms`` and ``dismiss``: what is said of models and keys."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from ..console import print_result, warn
from ._key import KeyRequest, counted, found_key, of_names, with_key
from ._opening import DEFAULT_URL, Json, Url, opened

Name = Annotated[str, typer.Argument(help="The other name, such as a provider's dated one.", show_default=False)]


def alias(
    name: Name,
    model: Annotated[str, typer.Argument(help="The model of the keys that it finds.", show_default=False)],
    url: Url = DEFAULT_URL,
) -> None:
    """Have a name find the profiles of a model, for every process."""
    with opened(url) as store:
        from ...errors import RegistryError  # noqa: PLC0415
        from ...registry import stored_keys  # noqa: PLC0415

        models = {one.key.model for one in stored_keys(store.database)}
        if name in models and model not in models:
            raise RegistryError(
                f"{name} has profiles and {model} has none: the alias stands first, then the model: "
                f"tje registry alias {model} {name}"
            )
        store.alias(name, model)
        typer.echo(f"{store.url}: {name} is an alias of {model}.")
        if model not in models:
            warn(f"no profile is of {model}: the alias finds nothing until one is.")


def unalias(name: Name, url: Url = DEFAULT_URL) -> None:
    """Have a name find nothing but its own profiles again."""
    with opened(url) as store:
        store.unalias(name)
        typer.echo(f"{store.url}: {name} is no alias any more.")


def aliases(url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """Every alias and the model that it stands for."""
    with opened(url) as store:
        from ._tables import aliases_table  # noqa: PLC0415 (--help must not wait for it)

        found = store.aliases()
        shown = aliases_table(found) if found else Text(f"{store.url} has no alias.")
        print_result(shown, dict(found), as_json=as_json)


def alarms(
    model: Annotated[str | None, typer.Argument(help="Of this model alone.", show_default="all")] = None,
    task: Annotated[str | None, typer.Argument(help="Of this task alone.", show_default="all")] = None,
    dismissed: Annotated[bool, typer.Option("--dismissed", help="Those that were dismissed, too.")] = False,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Alarms that nobody has dismissed, newest first: live drafts are not those of the profile."""
    with opened(url) as store:
        from ...registry import stored_keys  # noqa: PLC0415
        from ._tables import alarms_table, stored_alarm_as_dict  # noqa: PLC0415

        keys = (str(one.key) for one in stored_keys(store.database))
        named = of_names(keys, store.aliases(), model=model, task=task)
        found = [one for one in store.alarms(dismissed=dismissed) if str(one.key) in named]
        shown = alarms_table(found) if found else Text("There is no alarm.")
        print_result(shown, [stored_alarm_as_dict(one) for one in found], as_json=as_json)


@with_key
def dismiss(wanted: KeyRequest, url: Url = DEFAULT_URL) -> None:
    """Have the alarms about a key hold no more: gates go by its profile again."""
    with opened(url) as store:
        key = found_key(store, wanted).key
        count = store.dismiss(key)
        typer.echo(f"{store.url}: {counted(count, 'alarm')} about {key} dismissed.")
