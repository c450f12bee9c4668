"""``tje registry list``, ``show`` and ``delete``: keys and what is stored under them."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Group
from rich.text import Text

from ..console import print_result, say
from ._key import KeyRequest, Method, counted, found_key, with_key
from ._opening import DEFAULT_URL, Json, Url, opened


def list_(method: Method = "mean", url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """Every key: what is active, how good it is, what waits, and what is wrong."""
    with opened(url) as store:
        from ...registry import overview  # noqa: PLC0415 (--help must not wait for a database)
        from ._tables import key_as_dict, keys_table  # noqa: PLC0415

        keys = overview(store.database)
        nothing = Text(f"{store.url} holds no profile yet: tje calibrate --registry URL stores one.")
        shown = keys_table(keys, method) if keys else nothing
        print_result(shown, [key_as_dict(one, method) for one in keys], as_json=as_json)
        for one in keys:
            if one.problem:
                say(one.problem)


@with_key
def show(
    wanted: KeyRequest,
    version: Annotated[
        int | None, typer.Option(min=1, help="Another version than the active one.", show_default="the active one")
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """One profile: its verdict and thresholds, where it comes from, and the alarms about it."""
    with opened(url) as store:
        from ...errors import ProfileNotFound  # noqa: PLC0415
        from ...evaluation.table import profile_table  # noqa: PLC0415
        from ._version_tables import provenance_table, version_as_dict  # noqa: PLC0415

        held = found_key(store, wanted)
        number, there = version or held.active_version, ", ".join(map(str, held.versions))
        if number is None:
            raise ProfileNotFound(f"{held.key} has only candidates: name one by --version ({there})")
        if number not in held.versions:
            raise ProfileNotFound(f"{held.key} has no version {number}, only {there}")
        stored = next(one for one in store.versions(held.key) if one.version == number)
        shown = Group(profile_table(stored.profile), provenance_table(stored))
        print_result(shown, version_as_dict(stored), as_json=as_json)


@with_key
def delete(
    wanted: KeyRequest,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Remove all versions of a key, for every process; their numbers are not given again."""
    with opened(url) as store:
        held = found_key(store, wanted)
        if not yes:
            question = f"Remove {held.key} with {counted(len(held.versions), 'version')} from {store.url}?"
            typer.confirm(question, abort=True, err=True)
        removed = store.delete(held.key)
        typer.echo(f"{held.key}: {counted(removed, 'version')} removed.")
