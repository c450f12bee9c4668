"""One self-contained HTML page about a calibration and its evaluation, for a person to read.

Importing it raises ImportError where plotly or jinja2 is not installed, before anything is computed; plotly is
imported when a page is rendered.
"""

from importlib.util import find_spec

for _needed in ("plotly", "jinja2"):
    if find_spec(_needed) is None:
        raise ImportError(f'a report needs {_needed}: pip install "tje-middleware[report]"', name=_needed)

from .heatmap import DraftText  # noqa: E402 (the check for missing packages comes first)
from .page import render_report, write_report  # noqa: E402

__all__ = ["DraftText", "render_report", "write_report"]
