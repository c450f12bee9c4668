"""Which registry a command is about, and how it is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ..console import explained

if TYPE_CHECKING:
    from ...registry import CalibrationRegistry

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
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@contextmanager
def opened(url: str, *, makes_it: bool = False) -> Iterator[CalibrationRegistry]:
    """The registry; what is wrong with it, or with what is done to it, is told in one message.

    Args:
        url: Where it is.
        makes_it: Whether the command may make the file; one that is about what is stored must not.
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
