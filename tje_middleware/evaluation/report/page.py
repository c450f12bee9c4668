"""The page: one HTML file with everything in it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from importlib.resources import files
from os import PathLike

from ...errors import CalibrationError
from ...records.columns import Observations
from ...records.files import replaced
from .. import Evaluation
from ..sample_size import LearningCurve
from . import background, findings
from .heatmap import DraftText
from .inputs import Evidence
from .marks import Figure
from .markup import Html, join, tag
from .section import Section

_SECTIONS: tuple[tuple[str, str, Callable[[Section, Evidence], None]], ...] = (
    ("result", "What was found", findings.found),
    ("signal", "Right and wrong drafts by the signal", findings.signal),
    ("savings", "Savings against accuracy", findings.savings),
    ("risk", "Errors among accepted drafts", findings.risk),
    ("roc", "How well the signal orders drafts", findings.order),
    ("reliability", "What a value means, and what going deeper adds", findings.reliability),
    ("learning", "How many labels it takes", background.labels),
    ("thresholds", "Signals and thresholds", background.thresholds),
    ("drafts", "Drafts, token by token", background.drafts),
    ("method", "How it was computed", background.how),
)


def write_report(
    path: str | PathLike[str],
    evaluation: Evaluation,
    observations: Observations,
    *,
    curve: LearningCurve | None = None,
    drafts: Sequence[DraftText] = (),
    title: str | None = None,
) -> None:
    """Write the page; the file appears when all of it is written.

    Args:
        path: The HTML file.
        evaluation: As for :func:`render_report`, like the rest.
        observations: The calibration records.
        curve: The learning curve.
        drafts: Drafts with their texts.
        title: Of the page.

    Raises:
        CalibrationError: as :func:`render_report`, or the file cannot be written.
    """
    page = render_report(evaluation, observations, curve=curve, drafts=drafts, title=title)
    try:
        with replaced(path) as stream:
            # Half a character, as a tokeniser may hand it over, is no text; it is written as its number.
            stream.write(page.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise CalibrationError(f"{path} cannot be written: {error.strerror or error}") from error


def render_report(
    evaluation: Evaluation,
    observations: Observations,
    *,
    curve: LearningCurve | None = None,
    drafts: Sequence[DraftText] = (),
    title: str | None = None,
) -> str:
    """The page as text: it needs no network, and its own policy allows none.

    Args:
        evaluation: What the policies did; its profile is what the report is about.
        observations: The records that the profile was made from.
        curve: How figures spread with fewer labels; the section says so where it is missing.
        drafts: Drafts with their texts, of which the first twelve are shown.
        title: Of the page; model and task unless given.

    Raises:
        CalibrationError: there are no records, or they lack the profile's signal.
    """
    plotly = _plotly()
    evidence = Evidence.gather(evaluation, observations, curve, drafts)
    key = evaluation.profile.key
    title = title or f"{key.model} on {key.task}"
    parts = [Section(name, heading) for name, heading, _ in _SECTIONS]
    for part, (*_, fill) in zip(parts, _SECTIONS, strict=True):
        fill(part, evidence)
    script, style = _resource("page.js"), _resource("page.css")
    head = tag(
        "head",
        Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{_policy(script, plotly)}">'),
        tag("title", title),
        tag("style", Html(style)),
        tag("script", Html(script)),
    )
    contents = tag("nav", tag("ol", *(tag("li", tag("a", part.title, href=f"#{part.id}")) for part in parts[1:])))
    body = tag(
        "body",
        tag(
            "header",
            tag(
                "div",
                tag("p", "Think just enough · report on a calibration"),
                tag("button", "Theme", id="theme", type="button", hidden=True),
                class_="top",
            ),
            tag("h1", title),
        ),
        tag("noscript", tag("p", "Figures need JavaScript; every number also stands in the tables.")),
        tag("main", parts[0].markup(), contents, *(part.markup() for part in parts[1:])),
        tag(
            "script",
            _json([figure for part in parts for figure in part.figures]),
            type="application/json",
            id="figures",
        ),
        tag("script", Html(plotly)),
    )
    return join(Html("<!doctype html>\n"), tag("html", head, body, lang="en", data_theme="auto"), Html("\n"))


def _plotly() -> str:
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]  # noqa: PLC0415 (half a second)

    source: str = get_plotlyjs()
    # The browser reads every line end as a line feed, and compares what it read with the policy's digest.
    return source.replace("\r\n", "\n").replace("\r", "\n")


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _policy(*scripts: str) -> str:
    """Only these scripts run, and nothing is loaded from anywhere."""
    digests = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"
    )


def _json(figures: Sequence[Figure]) -> Html:
    drawn = {figure.name: {"data": list(figure.data), "layout": figure.layout} for figure in figures}
    # Without any "<" no text in it can end the script element, or begin a comment.
    return Html(json.dumps(drawn, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"))
