"""``tje registry list``, ``show`` and ``delete``: keys and what is stored under them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group
from rich.text import Text

from ..console import Json, explained, print_result, say, warn, with_options
from ..request import known_method

if TYPE_CHECKING:
    from ...calibration.key import ProfileKey
    from ...registry import CalibrationRegistry, StoredKey

# What stands for a setting that was not recorded.
_NOT_RECORDED = "none"


@dataclass(frozen=True)
class KeyRequest:
    """A key as far as it is named on the command line; what is not named matches any."""

    model: Annotated[str, typer.Argument(help="The key's model, or an alias of it.", show_default=False)]
    task: Annotated[str, typer.Argument(help="The key's task.", show_default=False)]
    signal: Annotated[str | None, typer.Option(help="The key's signal.", show_default="any")] = None
    top_k: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The key's alternatives a position.", show_default="any")
    ] = None
    temperature: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBER", help='The key\'s temperature; "none" for one not recorded.', show_default="any"
        ),
    ] = None
    prompt_fingerprint: Annotated[
        str | None, typer.Option(help='The key\'s prompt; "none" for one not recorded.', show_default="any")
    ] = None

    def among(self, keys: Iterable[ProfileKey], aliases: Mapping[str, str]) -> ProfileKey:
        """The only one of the stored keys that is meant; ``aliases`` has the model that each alias stands for.

        Raises:
            ProfileNotFound: none is.
            RegistryError: several are; the message lists them.
        """
        from ...errors import ProfileNotFound, RegistryError  # noqa: PLC0415 (with the commands that need it)

        stored = sorted(keys, key=str)
        models = (self.model, aliases.get(self.model))
        found = next((some for model in models if model and (some := self._of(model, stored))), [])
        if len(found) == 1:
            return found[0]
        if found:
            raise RegistryError(
                f"{len(found)} keys match; name one by --signal, --top-k, --temperature or --prompt-fingerprint "
                f'("{_NOT_RECORDED}" for what was not recorded):' + _lines(found)
            )
        near = [key for key in stored if key.model in models or key.task == self.task]
        raise ProfileNotFound(
            f"no key matches {self}; "
            + (f"there are:{_lines(near or stored)}" if stored else "the registry holds none yet")
        )

    def __str__(self) -> str:
        named = {name: value for name, value in vars(self).items() if name not in ("model", "task")}
        settings = [f"--{name.replace('_', '-')} {value}" for name, value in named.items() if value is not None]
        return " ".join([f"{self.model} / {self.task}", *settings])

    def _of(self, model: str, keys: Iterable[ProfileKey]) -> list[ProfileKey]:
        temperature = _temperature(self.temperature)
        prompt = None if self.prompt_fingerprint == _NOT_RECORDED else self.prompt_fingerprint
        return [
            key
            for key in keys
            if (key.model, key.task) == (model, self.task)
            and self.signal in (None, key.signal)
            and self.top_k in (None, key.top_k)
            and (self.temperature is None or key.temperature == temperature)
            and (self.prompt_fingerprint is None or key.prompt_fingerprint in (prompt, self.prompt_fingerprint))
        ]


#: For a command that shows one of a profile's thresholds.
Method = Annotated[
    str, typer.Option(callback=known_method, metavar="NAME", help="The threshold method whose thresholds are shown.")
]

#: For a command that takes ``wanted: KeyRequest``.
with_key = with_options(KeyRequest, "wanted")


def found_key(store: CalibrationRegistry, wanted: KeyRequest) -> StoredKey:
    """The only stored key that is meant.

    Raises:
        ProfileNotFound, RegistryError: as :meth:`KeyRequest.among`.
    """
    from ...registry import stored_keys  # noqa: PLC0415

    held = {one.key: one for one in stored_keys(store.database)}
    key = wanted.among(held, store.aliases())
    if key.model != wanted.model:
        say(f"{wanted.model} is an alias of {key.model}.")
    return held[key]


def of_names(
    words: Iterable[str], aliases: Mapping[str, str], *, model: str | None, task: str | None
) -> frozenset[str]:
    """Of keys in words those of a model, under its own name or the one that this is an alias of, and of a task.

    Raises:
        ProfileNotFound: there are keys, and none is of these; the message lists them.
    """
    from ...calibration.key import is_of  # noqa: PLC0415
    from ...errors import ProfileNotFound  # noqa: PLC0415

    known, behind = sorted(set(words)), aliases.get(model or "")
    found = {each for each in known if is_of(each, model=model, task=task)}
    if behind is not None:
        found |= {each for each in known if is_of(each, model=behind, task=task)}
        say(f"{model} is an alias of {behind}.")
    if known and not found:
        raise ProfileNotFound(f"no key matches {model or '(any)'} / {task or '(any)'}; there are:{_lines(known)}")
    return frozenset(found)


def counted(number: int, noun: str) -> str:
    """So many of something."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _temperature(given: str | None) -> float | None:
    if given in (None, _NOT_RECORDED):
        return None
    try:
        return float(given or "")
    except ValueError:
        raise typer.BadParameter(f"--temperature takes a number or {_NOT_RECORDED}, not {given!r}") from None


def _lines(keys: Iterable[object]) -> str:
    return "".join(f"\n  {key}" for key in keys)


DEFAULT_URL = "sqlite:///tje.db"
Url = Annotated[
    str,
    typer.Option(
        "--registry",
        metavar="URL",
        envvar="TJE_REGISTRY",
        # So short that no part is cut in 80 columns.
        help="postgresql+psycopg://HOST/DB or sqlite:///PATH.",
        show_default=DEFAULT_URL,
    ),
]


@contextmanager
def opened(url: str, *, makes_it: bool = False) -> Iterator[CalibrationRegistry]:
    """The registry; what is wrong with it, or with what is done to it, is told in one message.

    A file is made only where the command ``makes_it``: one that is about what is stored must not.
    """
    with explained("postgres"):
        from ...errors import RegistryUnavailable  # noqa: PLC0415 (--help must not wait for a database)
        from ...registry import CalibrationRegistry  # noqa: PLC0415

        with CalibrationRegistry(url) as store:
            if not makes_it and store.database.lacks_file():
                raise RegistryUnavailable(
                    f"{store.url}: there is no such file; name the registry by --registry URL or TJE_REGISTRY"
                )
            yield store


def list_(method: Method = "mean", url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """Every key: what is active, how good it is, what waits, and what is wrong."""
    with opened(url) as store:
        from ...registry import overview  # noqa: PLC0415 (--help must not wait for a database)
        from .tables import key_as_dict, keys_table  # noqa: PLC0415

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
        from .version_tables import provenance_table, version_as_dict  # noqa: PLC0415

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
        from .tables import aliases_table  # noqa: PLC0415 (--help must not wait for it)

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
        from .tables import alarms_table, stored_alarm_as_dict  # noqa: PLC0415

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
