"""``tje registry history``, ``diff``, ``promote`` and ``rollback``: which version of a key is active."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..console import Json, print_result, say, warn
from .keys import DEFAULT_URL, KeyRequest, Method, Url, found_key, opened, with_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...calibration.key import ProfileKey
    from ...registry import CalibrationRegistry, Promotion, StoredKey

Replacing = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Refuse where another version is active than this one; 0 for none.",
        show_default="the one active when the command starts",
    ),
]


@with_key
def history(
    wanted: KeyRequest,
    promotions: Annotated[
        bool, typer.Option("--promotions", help="What was active when, instead of the versions.")
    ] = False,
    method: Method = "mean",
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """All versions of a key, oldest first, and where they come from."""
    with opened(url) as store:
        from . import version_tables  # noqa: PLC0415 (--help must not wait for it)

        key = found_key(store, wanted).key
        if promotions:
            log = store.promotions(key)
            shown, plain = version_tables.promotions_table(key, log), map(version_tables.promotion_as_dict, log)
        else:
            versions = store.versions(key)
            shown, plain = (
                version_tables.versions_table(key, versions, method),
                map(version_tables.version_as_dict, versions),
            )
        print_result(shown, list(plain), as_json=as_json)


@with_key
def diff(
    wanted: KeyRequest,
    a: Annotated[int | None, typer.Argument(help="A version.", show_default="the active one")] = None,
    b: Annotated[
        int | None,
        typer.Argument(
            help="Another version.",
            show_default="the active one; against that the newest candidate, or the one active before it",
        ),
    ] = None,
    url: Url = DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """In what two versions of a key differ."""
    with opened(url) as store:
        from .version_tables import diff_table  # noqa: PLC0415

        held = found_key(store, wanted)
        found = store.diff(held.key, *((a, b) if a and b else _pair(held, a, store.promotions(held.key))))
        print_result(diff_table(found), found.as_dict(), as_json=as_json)


@with_key
def promote(
    wanted: KeyRequest,
    version: Annotated[int, typer.Argument(help="The version to make the active one.", show_default=False)],
    replacing: Replacing = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Make a version the active one, for every process."""
    with opened(url) as store:
        held = found_key(store, wanted)
        key, seen = held.key, _seen(held, replacing)
        store.promote(key, version, replacing=seen)
        since = "already; nothing was changed" if version == seen else f"now; {_was(seen)}"
        typer.echo(f"{store.url}: version {version} of {key} is active {since}.")
        _warn_of(store, key, version)


@with_key
def rollback(wanted: KeyRequest, replacing: Replacing = None, url: Url = DEFAULT_URL) -> None:
    """Make the version active that was so before, for every process."""
    with opened(url) as store:
        held = found_key(store, wanted)
        key, seen = held.key, _seen(held, replacing)
        version = store.rollback(key, replacing=seen)
        typer.echo(f"{store.url}: version {version} of {key} is active again; {_was(seen)}.")
        _warn_of(store, key, version)


def _seen(held: StoredKey, replacing: int | None) -> int:
    """The version that is replaced, 0 for none: where another is active by then, it is refused."""
    active = held.active_version
    say(f"{held.key}: {'no version' if active is None else f'version {active}'} is active.")
    return (active or 0) if replacing is None else replacing


def _warn_of(store: CalibrationRegistry, key: ProfileKey, version: int) -> None:
    """Say of a version that is active now what gates make of its verdict."""
    profile = store.get(key, version=version)
    if profile.verdict != "usable":
        gates = "gates that are strict" if profile.verdict == "weak" else "gates"
        warn(f"version {version} is {profile.verdict}, {gates} accept nothing by it: {profile.verdict_reason}")


def _was(seen: int) -> str:
    return f"version {seen} was" if seen else "none was"


def _pair(held: StoredKey, a: int | None, log: Sequence[Promotion]) -> tuple[int, int]:
    """The versions to compare where two are not named, of the active one and another the earlier first."""
    from ...errors import ProfileNotFound  # noqa: PLC0415
    from ...registry import active_before  # noqa: PLC0415

    active = held.active_version
    if a is not None and active is not None and a != active:
        return a, active
    first = a or active or held.versions[0]
    if waiting := [version for version in held.candidates if version != first]:
        return first, waiting[-1]
    if before := active_before(log, first, held.versions):
        return before, first
    others = ", ".join(str(version) for version in held.versions if version != first)
    raise ProfileNotFound(
        f"{held.key} has no candidate, and none was active before {first}: name two versions ({first}, {others})"
        if others
        else f"{held.key} has no other version than {first} to compare with"
    )
