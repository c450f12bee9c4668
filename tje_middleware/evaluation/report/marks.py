"""What figures are drawn with: lines, points with intervals, axes. Plain plotly JSON, colours by CSS variable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import Estimate
from .markup import Html, prose, tag
from .numbers import short
from .words import unit_of

Trace = dict[str, Any]

#: Of each method, plotly's symbol and the same as a character: told apart without colour.
SYMBOLS = {
    "mean": ("circle", "●"),
    "info": ("square", "■"),
    "bayes": ("diamond", "◆"),
    "universal": ("triangle-up", "▲"),
    "risk": ("star", "★"),
    "noninferior": ("triangle-down", "▼"),
    "cost": ("cross", "✚"),
    "never": ("circle-open", "○"),
    "always": ("square-open", "□"),
    "oracle": ("diamond-open", "◇"),
}
_OTHER = ("pentagon", "⬟")


@dataclass(frozen=True)
class Figure:
    """One figure of the page.

    Attributes:
        name: Its id.
        label: What it shows, for who cannot see it.
        data: Traces.
        layout: plotly's layout; the page adds fonts, margins and colours.
        legend: What the marks mean: a class for the mark, its character, and words.
        square: Whether it must not become wide.
    """

    name: str
    label: str
    data: Sequence[Trace]
    layout: dict[str, Any]
    legend: Sequence[tuple[str, str, str]] = ()
    square: bool = False

    def markup(self, caption: str) -> Html:
        """The box that it is drawn into, its legend and caption."""
        keys = (
            tag("li", tag("span", glyph, class_=f"key {kind}"), tag("span", prose(words)))
            for kind, glyph, words in self.legend
        )
        return tag(
            "figure",
            tag(
                "div",
                class_="plot square" if self.square else "plot",
                data_figure=self.name,
                role="img",
                aria_label=self.label,
                style=f"min-height:{self.layout['height']}px",
            ),
            tag("ul", *keys, class_="legend") if self.legend else "",
            tag("figcaption", prose(caption)),
        )


def symbol(policy: str) -> tuple[str, str]:
    """The name for plotly and the character of a policy's mark."""
    return SYMBOLS.get(policy, _OTHER)


def signal_title(signal: str) -> str:
    """The title of an axis that the signal is on."""
    unit = unit_of(signal)
    return f"{escape(signal)}{f' ({unit})' if unit else ''}"


def line(
    x: Sequence[float], y: Sequence[float], color: str, *, dash: str = "solid", hover: str | None = None
) -> Trace:
    """A line; without words to hover it says nothing."""
    told = {"hoverinfo": "skip"} if hover is None else {"hovertemplate": f"{hover}<extra></extra>"}
    return {
        "type": "scatter",
        "mode": "lines",
        "x": list(x),
        "y": list(y),
        "line": {"color": color, "width": 2, "dash": dash},
        **told,
    }


def band(x: Sequence[float], low: Sequence[float], high: Sequence[float]) -> Trace:
    """An area between two curves."""
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [*x, *reversed(x)],
        "y": [*high, *reversed(low)],
        "fill": "toself",
        "fillcolor": "var(--gate-soft)",
        "line": {"width": 0},
        "hoverinfo": "skip",
    }


def point(policy: str, x: Estimate, y: Estimate, *, color: str = "var(--ink)", bars: bool = True) -> Trace:
    """An operating point: two estimates, with their intervals."""
    intervals = {
        "error_x": error_bars([x.value], [x.low], [x.high], color),
        "error_y": error_bars([y.value], [y.low], [y.high], color),
    }
    return {
        "type": "scatter",
        "mode": "markers",
        "x": short([x.value]),
        "y": short([y.value]),
        "cliponaxis": False,
        **(intervals if bars else {}),
        "marker": {"symbol": symbol(policy)[0], "size": 12, "color": color, "line": {"width": 1.5, "color": color}},
        "hovertemplate": f"{escape(policy)}: %{{x:.1%}}, %{{y:.1%}}<extra></extra>",
    }


def estimates(
    x: Sequence[float], found: Sequence[Estimate], ink: str, mark: str, what: str, *, form: str = ".1%"
) -> Trace:
    """Points with their intervals upright, one a place."""
    color = f"var(--{ink})"
    bars = ([at.value for at in found], [at.low for at in found], [at.high for at in found])
    return {
        "type": "scatter",
        "mode": "markers",
        "cliponaxis": False,
        "x": short(x),
        "y": short(bars[0]),
        "error_y": error_bars(*bars, color),
        "marker": {"symbol": mark, "size": 9, "color": color, "line": {"width": 1.5, "color": color}},
        "hovertemplate": f"{what}: %{{y:{form}}}<extra></extra>",
    }


def error_bars(values: ArrayLike, low: ArrayLike, high: ArrayLike, color: str) -> dict[str, Any]:
    """Bars from low to high."""
    middle = np.asarray(values, dtype=np.float64)
    return {
        "type": "data",
        "symmetric": False,
        "array": short(np.maximum(np.asarray(high) - middle, 0.0)),
        "arrayminus": short(np.maximum(middle - np.asarray(low), 0.0)),
        "color": color,
        "thickness": 1.2,
        "width": 3,
    }


def share_axis(title: str) -> dict[str, Any]:
    """An axis over all shares, 0 to 100 %."""
    return {"title": {"text": title}, "range": [-0.02, 1.02], "tickformat": ".0%", "dtick": 0.2}
