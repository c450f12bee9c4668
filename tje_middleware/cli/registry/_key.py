"""Which of the keys that a registry holds a command is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from ..console import say
from ..options import with_options

if TYPE_CHECKING:
    from ...keys import ProfileKey
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
        """The only one of the keys that is meant.

        Args:
            keys: Those that are stored.
            aliases: The model that each alias stands for.

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
        named = {
            "--signal": self.signal,
            "--top-k": self.top_k,
            "--temperature": self.temperature,
            "--prompt-fingerprint": self.prompt_fingerprint,
        }
        settings = [f"{name} {value}" for name, value in named.items() if value is not None]
        return " ".join([f"{self.model} / {self.task}", *settings])

    def _of(self, model: str, keys: Iterable[ProfileKey]) -> list[ProfileKey]:
        temperature = _temperature(self.temperature)
        return [
            key
            for key in keys
            if (key.model, key.task) == (model, self.task)
            and self.signal in (None, key.signal)
            and self.top_k in (None, key.top_k)
            and (self.temperature is None or key.temperature == temperature)
            and (
                self.prompt_fingerprint in (None, key.prompt_fingerprint)
                or (self.prompt_fingerprint == _NOT_RECORDED and key.prompt_fingerprint is None)
            )
        ]


def _known_method(given: str) -> str:
    from ...settings import METHOD_NAMES  # noqa: PLC0415 (--help must not wait for pydantic)

    if given not in METHOD_NAMES:
        raise typer.BadParameter(f"{given!r} is none of {', '.join(METHOD_NAMES)}")
    return given


#: For a command that shows one of a profile's thresholds.
Method = Annotated[
    str, typer.Option(callback=_known_method, metavar="NAME", help="The threshold method whose thresholds are shown.")
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

    Args:
        words: Those that there are.
        aliases: The model that each alias stands for.
        model: None: any.
        task: None: any.

    Raises:
        ProfileNotFound: there are keys, and none is of these; the message lists them.
    """
    from ...errors import ProfileNotFound  # noqa: PLC0415
    from ...keys import is_of  # noqa: PLC0415

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
