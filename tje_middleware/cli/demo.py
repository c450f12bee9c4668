"""``tje demo``."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import Json, explained, print_result, say
from .console import progress as bars

if TYPE_CHECKING:
    from ..demo import DemoResult

# Questions to calibrate from and others to run the policies on, by whether it is an agent and short.
_SIZES = {(False, False): (140, 96), (False, True): (40, 32), (True, False): (80, 40), (True, True): (20, 10)}


def demo(
    agent: Annotated[
        bool, typer.Option("--agent", help="An agent with a tool instead of a chain, gated turn by turn.")
    ] = False,
    short: Annotated[bool, typer.Option("--short", help="Fewer questions: a minute instead of a few.")] = False,
    as_json: Json = False,
    model: Annotated[
        str | None,
        typer.Option(help="GGUF path or hub id instead of the default model; with --base-url, the model's name."),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(help="An OpenAI-compatible server instead of the embedded one; its key in OPENAI_API_KEY."),
    ] = None,
    questions: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="N M", help="Calibrate from N questions and run the policies on M others.", min=1),
    ] = None,
    registry: Annotated[str, typer.Option(help="Where the profile is stored.")] = "sqlite:///tje-demo.db",
    page: Annotated[Path, typer.Option("--report", help="Where the report goes; there is none of an agent.")] = Path(
        "tje-demo.html"
    ),
) -> None:
    """Gate a real model on this machine: calibrate, then run every policy and compare."""
    with explained("langchain,openai,local"):
        from langchain_tje.demo.chain import run_demo  # noqa: PLC0415 (an extra, and seconds to import)
        from langchain_tje.demo.run_agent import run_agent_demo  # noqa: PLC0415
        from langchain_tje.demo.survey import served  # noqa: PLC0415

        from ..demo import AgentDemoResult  # noqa: PLC0415
        from ..registry import CalibrationRegistry  # noqa: PLC0415

        began = time.monotonic()
        calibration, test = questions or _SIZES[agent, short]
        api_key = os.environ.get("OPENAI_API_KEY", "none") if base_url else "none"
        run = run_agent_demo if agent else run_demo
        with CalibrationRegistry(registry) as store:
            store.list()  # what is wrong with it is better known before the questions are asked
            with served(model, base_url, api_key) as (url, name), bars() as progress:
                result = run(
                    url,
                    name,
                    registry=store,
                    calibration=calibration,
                    test=test,
                    progress=progress,
                    api_key=api_key,
                )
        print_result(result, result.as_dict(), as_json=as_json)
        seconds = time.monotonic() - began
        say(f"The profile is version {result.profile.version} in {store.url}; {seconds:.0f} seconds.")
        if not isinstance(result, AgentDemoResult):
            _write_report(result, page)


def _write_report(result: DemoResult, page: Path) -> None:
    try:
        from ..evaluation.report import DraftText, write_report  # noqa: PLC0415
    except ImportError:
        say('For a page with figures: pip install "tje-middleware[report]"')
        return
    from ..evaluation import replay  # noqa: PLC0415
    from ..evaluation.sample_size import learning_curve  # noqa: PLC0415
    from ..records.columns import Observations  # noqa: PLC0415

    key, settings = result.profile.key, result.profile.settings
    calibrated_on = Observations.read_all(result.calibrated_on, key.top_k)
    evaluation = replay(
        calibrated_on,
        key=key,
        settings=settings,
        test=Observations.read_all(result.tested_on, key.top_k),
        deeper_includes_draft=True,
    )
    curve = learning_curve(calibrated_on, key=key, settings=settings, repeats=40, deeper_includes_draft=True)
    texts = [DraftText.of_record(record, result.profile) for record in result.calibrated_on[:8]]
    write_report(page, evaluation, calibrated_on, curve=curve, drafts=texts)
    say(f"What that rests on, as a page: {page}")
