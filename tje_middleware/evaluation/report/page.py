"""The page of a report: one self-contained HTML file."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from os import PathLike

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from ..._version import __version__
from ...errors import CalibrationError
from ...records.columns import Observations
from ...records.files import replaced
from .. import Evaluation
from ..sample_size import LearningCurve
from . import heatmap, words
from .heatmap import DraftText
from .inputs import ReportInputs


def write_report(
    path: str | PathLike[str],
    evaluation: Evaluation,
    observations: Observations,
    *,
    curve: LearningCurve | None = None,
    drafts: Sequence[DraftText] = (),
    title: str | None = None,
) -> None:
    """Write the page of a report; the file appears once all of it is written.

    Args:
        path: The HTML file.
        evaluation: As for :func:`render_report`, like the following arguments.
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
            # A token may be half of a character, which cannot be encoded; it is written as its code.
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
    """The page of a report as text; it needs no network, and its content security policy allows none.

    Args:
        evaluation: The replay; the report is about its profile.
        observations: The records that the profile was calibrated on.
        curve: Calibrations on fewer records; without it the section says that it is missing.
        drafts: Drafts with their texts, of which the first twelve are shown.
        title: Of the page; model and task unless given.

    Raises:
        CalibrationError: there are no records, or they lack the profile's signal.
    """
    # Imported here, as it takes half a second.
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]  # noqa: PLC0415

    from . import tables  # noqa: PLC0415 (it loads plotly)
    from .figures import draw  # noqa: PLC0415 (so does it)

    inputs = ReportInputs.gather(evaluation, observations, curve, drafts)
    figures = draw(inputs)
    script = read("page.js")
    # With line feeds: a browser reads every line end as one, and then checks the digest in the policy.
    plotly = get_plotlyjs().replace("\r\n", "\n").replace("\r", "\n")
    key = evaluation.profile.key
    return (
        environment()
        .get_template("page.html.jinja")
        .render(
            title=title or f"{key.model} on {key.task}",
            inputs=inputs,
            figures=figures,
            tables=tables,
            replayed=_replayed(evaluation),
            library=__version__,
            policy=_policy(script, plotly),
            style=Markup(read("page.css")),
            script=Markup(script),
            plotly=Markup(plotly),
            drawn=_as_json({name: figure.drawn() for name, figure in figures.items()}),
        )
    )


def environment() -> Environment:
    """The environment of the templates, with their filters; values in templates are escaped."""
    found = Environment(
        loader=FunctionLoader(read), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    for function in (
        words.area,
        words.area_of,
        words.counted,
        words.marked,
        words.meaning_of,
        words.negated,
        words.number,
        words.percent,
        words.percent_of,
        words.points,
        words.sentence,
        words.two_lines,
        words.unit_of,
        heatmap.legible,
    ):
        found.filters[function.__name__] = function
    found.globals["shades"] = heatmap.shades
    return found


def read(name: str) -> str:
    """The text of a file beside this one, in the repository or in a wheel."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _replayed(evaluation: Evaluation) -> str:
    """A sentence on the records that the policies were replayed over."""
    n = words.counted(evaluation.records, "record")
    if evaluation.folds is None:
        return f"Policies were replayed over {n} that no threshold was made from."
    return (
        f"Policies were replayed over {n} in {evaluation.folds} folds: each is decided by a calibration on the "
        f"others, so no draft is judged by a threshold that it helped to make."
    )


def _policy(*scripts: str) -> str:
    """A content security policy: only these scripts may run, and nothing may be loaded."""
    digests = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts
    )
    return (
        f"default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"
    )


def _as_json(figures: Mapping[str, object]) -> Markup:
    # Without "<" no text in it can end the script element or begin a comment.
    return Markup(json.dumps(figures, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"))
