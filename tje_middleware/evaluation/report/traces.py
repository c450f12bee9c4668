"""Parts of figures: lines, points with intervals, axes. Colours are names of CSS variables."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go  # type: ignore[import-untyped]

from ...calibration.thresholds.methods import METHODS
from .. import ALWAYS, NEVER, ORACLE, Estimate
from .inputs import short
from .words import unit_of

INK, MUTED, GATE, RANDOM, BAD = (f"var(--{name})" for name in ("ink", "muted", "gate", "random", "bad"))
ZERO = {"zeroline": True, "zerolinecolor": MUTED}
# Marks of the policies without a gate, and of a method that is unknown here: plotly's symbol, and a character.
_UNGATED = {NEVER: ("circle-open", "○"), ALWAYS: ("square-open", "□"), ORACLE: ("diamond-open", "◇")}
_OTHER = ("pentagon", "⬟")


def mark(policy: str) -> tuple[str, str]:
    """The mark of a method or policy: plotly's name of the symbol, and the character."""
    return METHODS[policy].mark if policy in METHODS else _UNGATED.get(policy, _OTHER)


def signal_title(signal: str) -> str:
    """The title of an axis of the signal."""
    unit = unit_of(signal)
    return f"{escape(signal)}{f' ({unit})' if unit else ''}"


def line(
    x: Sequence[float], y: Sequence[float], color: str, *, dash: str = "solid", hover: str | None = None
) -> go.Scatter:
    """A line; without ``hover`` it shows no text under the pointer."""
    told = {"hoverinfo": "skip"} if hover is None else {"hovertemplate": f"{hover}<extra></extra>"}
    return go.Scatter(mode="lines", x=x, y=y, line={"color": color, "width": 2, "dash": dash}, **told)


def point(policy: str, x: Estimate, y: Estimate, *, color: str = INK, bars: bool = True) -> go.Scatter:
    """A policy as a point of two estimates, with their intervals."""
    across, upright = ([x], [y]) if bars else (None, None)
    hover = f"{escape(policy)}: %{{x:.1%}}, %{{y:.1%}}"
    return marks([x.value], [y.value], mark(policy)[0], hover, color=color, size=12, across=across, upright=upright)


def estimates(
    x: Sequence[float],
    found: Sequence[Estimate],
    ink: str,
    symbol: str,
    what: str,
    *,
    form: str = ".1%",
    yaxis: str = "y",
) -> go.Scatter:
    """Points at these places, with upright intervals."""
    hover, values = f"{what}: %{{y:{form}}}", [at.value for at in found]
    return marks(x, values, symbol, hover, color=f"var(--{ink})", size=9, upright=found, axes=("x", yaxis))


def marks(
    x: Sequence[float],
    y: Sequence[float],
    symbol: str,
    hover: str,
    *,
    color: str = INK,
    size: int = 10,
    across: Sequence[Estimate] | None = None,
    upright: Sequence[Estimate] | None = None,
    axes: tuple[str, str] = ("x", "y"),
) -> go.Scatter:
    """Points, with bars for the intervals of estimates."""
    bars = {
        name: {
            "symmetric": False,
            "array": short([max(at.high - at.value, 0.0) for at in found]),
            "arrayminus": short([max(at.value - at.low, 0.0) for at in found]),
            "color": color,
            "thickness": 1.2,
            "width": 3,
        }
        for name, found in (("error_x", across), ("error_y", upright))
        if found is not None
    }
    return go.Scatter(
        mode="markers",
        x=short(x),
        y=short(y),
        xaxis=axes[0],
        yaxis=axes[1],
        cliponaxis=False,
        marker={"symbol": symbol, "size": size, "color": color, "line": {"width": 1.5, "color": color}},
        hovertemplate=f"{hover}<extra></extra>",
        **bars,
    )


def named_rows(names: Sequence[str]) -> dict[str, Any]:
    """An upright axis of rows, the first on top."""
    places, tickfont = list(range(len(names))), {"color": INK}
    return {
        "range": [len(names) - 0.5, -0.5],
        "tickvals": places,
        "ticktext": list(names),
        "tickfont": tickfont,
        "zeroline": False,
    }


def share_axis(title: str) -> dict[str, Any]:
    """An axis over all shares, 0 to 100 %."""
    return {"title_text": title, "range": [-0.02, 1.02], "tickformat": ".0%", "dtick": 0.2}


def upright_line(
    x: float, axis: str, *, color: str = BAD, width: float = 1.5, dash: str = "dash", bottom: float = 0
) -> dict[str, Any]:
    """A line at a value, from a height to the top of the picture."""
    stroke = {"color": color, "width": width, "dash": dash}
    return {"type": "line", "xref": axis, "yref": "paper", "x0": x, "x1": x, "y0": bottom, "y1": 1, "line": stroke}


def in_points(found: Estimate) -> Estimate:
    """A share as percentage points."""
    return Estimate(found.value * 100, found.low * 100, found.high * 100)
