"""``tje doctor``."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.console import Group
from rich.text import Text

from ..console import Json, print_result, say

_KEY_ENV = "OPENAI_API_KEY"


def doctor(
    base_url: Annotated[str, typer.Option(help="An OpenAI-compatible API, such as http://localhost:8000/v1.")],
    model: Annotated[str, typer.Option(help="The model's name, as it is asked for.")],
    api_key_env: Annotated[
        str | None, typer.Option(help="The environment variable that holds the key.", show_default=_KEY_ENV)
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, max=100, help="Alternatives a position to ask for.")] = 20,
    timeout: Annotated[float, typer.Option(min=0.1, help="What one whole answer may take (seconds).")] = 60.0,
    as_json: Json = False,
) -> None:
    """Ask a live model what logprobs it really returns, and say whether it can be gated.

    Sends at most 11 short requests. Exits with status 1 when the model cannot be gated or reached.
    """
    if not base_url.lower().startswith(("http://", "https://")):
        # Without the URL itself, which may hold a password.
        raise typer.BadParameter("--base-url begins with http:// or https://, as in http://localhost:8000/v1")
    key = os.environ.get(api_key_env or _KEY_ENV)
    if api_key_env and not key:
        say(f"{api_key_env} is not set: the model is asked without a key")
    from .finding import findings_table  # noqa: PLC0415 (--help must not wait for numpy)
    from .model import examine  # noqa: PLC0415

    found = examine(base_url, model, api_key=key or "none", top_k=top_k, timeout=timeout)
    # First, as the verdict is to be the last thing that is read.
    say(f"{found.requests} {'request' if found.requests == 1 else 'requests'} to {found.endpoint}")
    verdict = Text(found.verdict, style="bold green" if found.can_be_gated else "bold red")
    table = findings_table(found.findings, f"What {found.model} returns")
    print_result(Group(table, Text("can be gated: ") + verdict), found.as_dict(), as_json=as_json)
    if not found.can_be_gated:
        raise typer.Exit(1)
