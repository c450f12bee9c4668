"""One self-contained HTML page about a calibration and its evaluation, for a person to read.

Importing it raises ImportError where plotly is not installed, before anything is computed in vain; plotly itself is
loaded when a page is made.
"""

from importlib.util import find_spec

from .heatmap import DraftText
from .page import render_report, write_report

if find_spec("plotly") is None:
    raise ImportError('a report needs plotly: pip install "tje-middleware[report]"', name="plotly")


__all__ = ["DraftText", "render_report", "write_report"]
