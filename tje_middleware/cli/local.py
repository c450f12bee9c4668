"""``tje local``: the embedded model."""

from __future__ import annotations

from typing import Annotated

import typer

from .console import explained

local = typer.Typer(help="The embedded model.", no_args_is_help=True)


@local.command()
def serve(
    model: Annotated[str | None, typer.Option(help="GGUF path or hub id; the default model if left out.")] = None,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    parallel: Annotated[int, typer.Option(help="Requests answered at once.")] = 8,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 2,
    context: Annotated[int, typer.Option(help="Tokens per request, prompt and answer together.")] = 2048,
) -> None:
    """Serve a model with logprobs on this machine, OpenAI-compatible, until Ctrl-C."""
    with explained("local"):
        from ..local import LocalServer  # noqa: PLC0415

        with LocalServer(model, port=port, parallel=parallel, threads=threads, context=context) as server:
            typer.echo(f"{server.model} answers at {server.base_url} (Ctrl-C ends it)")
            server.wait()
