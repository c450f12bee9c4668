"""The figures, drawn by plotly; their colours are CSS variables of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil
from typing import Any

import numpy as np
import plotly.graph_objects as go  # type: ignore[import-untyped]

from ...calibration.profile import Threshold
from ...logprobs.arrays import FloatArray
from .. import ALWAYS, NEVER, ORACLE, Estimate, SavingsCurve
from ..sample_size import LearningCurve, Middle
from .inputs import ReportInputs, Roc, short, thinned
from .traces import (
    BAD,
    GATE,
    MUTED,
    RANDOM,
    ZERO,
    estimates,
    in_points,
    line,
    mark,
    marks,
    named_rows,
    point,
    share_axis,
    signal_title,
    upright_line,
)
from .words import number, percent

# Pixels of a threshold's row.
_ROW = 30
_STRIPES = {"shape": "/", "fgcolor": "var(--wrong)", "size": 5, "solidity": 0.4, "fillmode": "overlay"}


@dataclass(frozen=True)
class Figure:
    """One figure of the page.

    Attributes:
        name: Its id.
        label: A description for screen readers.
        data: plotly's traces.
        layout: plotly's layout; the page adds fonts, margins and colours.
        legend: The meaning of the marks: for each a CSS class, its character, and words.
        square: Whether it must not be wider than it is high.
    """

    name: str
    label: str
    data: Sequence[Any]
    layout: dict[str, Any]
    legend: Sequence[tuple[str, str, str]] = ()
    square: bool = False

    def drawn(self) -> dict[str, Any]:
        """Plain values for plotly's JavaScript, checked against its schema."""
        traces = [trace.to_plotly_json() for trace in self.data]
        return {"data": traces, "layout": go.Layout(**self.layout).to_plotly_json()}


def draw(inputs: ReportInputs) -> dict[str, Figure]:
    """All figures that can be drawn from these inputs, by name, in the order of the page."""
    curve, learning, made = inputs.evaluation.curve, inputs.learning, [_distribution(inputs)]
    if curve is not None:
        made += [
            _savings(inputs, curve, tokens=tokens)
            for tokens in (True, False)
            if curve.saved is not None or not tokens
        ]
    if inputs.evaluation.policies:
        made.append(_policies(inputs))
    made.append(_risk_coverage(inputs))
    if inputs.roc is not None:
        made.append(_roc(inputs.roc))
    made.append(_reliability(inputs))
    if learning is not None and learning.sizes:
        made.append(_learning(learning, inputs.method))
    return {figure.name: figure for figure in made}


def _distribution(inputs: ReportInputs) -> Figure:
    """Right drafts upwards, wrong ones downwards; below them a row for each threshold."""
    bars, rows = inputs.bars, _threshold_rows(inputs)
    low_part = _ROW * len(rows)
    height = 360 + low_part
    split = (low_part + 14) / (height - 60) if rows else 0.0
    widths = np.diff(bars.edges)
    middles, widths = (bars.edges[:-1] + bars.edges[1:]) / 2, np.where(widths > 0, widths, 1.0)
    most = max(int(bars.right.max()), int(bars.wrong.max()), 1)
    up, down = (max(1.08 * int(counts.max()), 0.12 * most) for counts in (bars.right, bars.wrong))
    reach = [bars.edges[0], bars.edges[-1], *(threshold.value or 0.0 for *_, threshold in rows)]
    room = (max(reach) - min(reach)) * 0.03 or max(abs(max(reach)), 1.0) * 0.5
    data = [
        go.Bar(
            x=short(middles),
            y=(sign * counts).tolist(),
            width=short(widths * 0.96),
            customdata=counts.tolist(),
            marker={
                "color": color,
                "pattern": pattern,
                "line": {"color": f"var(--{name})", "width": (counts > 0).astype(int).tolist()},
            },
            hovertemplate=f"%{{customdata}} {name} near %{{x:.4g}}<extra></extra>",
        )
        for counts, name, sign, color, pattern in (
            (bars.right, "right", 1, "var(--right)", None),
            (bars.wrong, "wrong", -1, "var(--wrong-soft)", _STRIPES),
        )
    ]
    shapes = []
    for place, (method, _, threshold) in enumerate(rows):
        value = threshold.value or 0.0
        estimate = Estimate(value, *(threshold.interval or (value, value)))
        hover = f"{escape(method)}: {number(value)}"
        data.append(marks([value], [place], mark(method)[0], hover, across=[estimate], axes=("x", "y2")))
        bottom = round((split - 0.02) * (1 - (place + 0.5) / len(rows)), 4)
        shapes.append(upright_line(value, "x", color=MUTED, width=1, dash="dot", bottom=bottom))
    # Ticks count away from zero on both sides, as far as the bars go.
    step = max(int(float(f"{most / 3:.0e}")), 1)
    ticks = [count for count in range(-step * (most // step), most + 1, step) if -down < count < up]
    layout: dict[str, Any] = {
        "height": height,
        "barmode": "overlay",
        "bargap": 0,
        "xaxis": {
            "title_text": signal_title(inputs.profile.signal),
            "range": short([min(reach) - room, max(reach) + room]),
            "anchor": "y2" if rows else "y",
        },
        "yaxis": {
            **ZERO,
            "domain": [split, 1],
            "range": [-down, up],
            # The title is turned by a quarter, so the arrows point down and up.
            "title_text": "\N{LEFTWARDS ARROW} wrong drafts · right drafts \N{RIGHTWARDS ARROW}",
            "tickvals": ticks,
            "ticktext": [f"{abs(tick):,}" for tick in ticks],
        },
        "shapes": shapes,
    }
    legend = [("filled ink-right", "", "right drafts"), ("striped", "", "wrong drafts")]
    if rows:
        names = [f"{escape(title)} <b>{number(threshold.value)}</b>" for _, title, threshold in rows]
        layout["yaxis2"] = {**named_rows(names), "domain": [0, split - 0.02]}
        legend.append(("glyph ink-ink", "●", "threshold: drafts to its left are accepted; bar: 95 % interval"))
    label = "Histogram of the signal, right drafts upwards and wrong drafts downwards, with every threshold"
    return Figure("distribution", label, data, layout, legend)


def _threshold_rows(inputs: ReportInputs) -> list[tuple[str, str, Threshold]]:
    """All thresholds with a value, ascending: the method, the name of the row, and the threshold."""
    profile = inputs.profile
    found = [(name, name, threshold) for name, threshold in profile.thresholds.items() if threshold.value is not None]
    found += [
        (name, f"{name}: give up", Threshold(value=threshold.abstain_from))
        for name, _, threshold in found
        if threshold.abstain_from is not None
    ]
    if profile.abstain is not None and profile.abstain.value is not None:
        found.append(("abstain", "give up", profile.abstain))
    return sorted(found, key=lambda row: row[2].value or 0.0)


def _savings(inputs: ReportInputs, curve: SavingsCurve, *, tokens: bool) -> Figure:
    """Accuracy against tokens saved, or against the share of drafts accepted."""
    x, shown = (
        curve.saved if tokens and curve.saved is not None else curve.accepted,
        thinned(len(curve.accepted), 400),
    )
    ends = np.array([0, -1])
    lines: list[tuple[Any, FloatArray, str, str, str]] = [
        (ends, curve.random, "random", "dash", "drafts accepted at random"),
        (shown, curve.oracle, "oracle", "dot", "oracle: best possible order"),
        (shown, curve.gate, "gate", "solid", "most confident drafts accepted first"),
    ]
    what = "%{x:.1%} of tokens saved" if tokens else "%{x:.1%} accepted"
    data, legend, seen = [], [], []
    for places, accuracy, ink, dash, words in lines:
        if tokens and ink == "oracle":
            continue  # tokens are counted in the gate's order, so the oracle's order cannot be drawn on this axis
        hover = f"{what}, accuracy %{{y:.1%}}"
        data.append(line(short(x[places]), short(accuracy[places]), f"var(--{ink})", dash=dash, hover=hover))
        kind = {"dash": "dashed", "dot": "dotted", "solid": "line"}[dash]
        legend.append((f"{kind} ink-{ink}", "", words))
        seen += [float(accuracy.min()), float(accuracy.max())]
    for policy, figures in inputs.evaluation.policies.items():
        across, up = figures.saved if tokens else figures.accepted, figures.accuracy
        if across is None or up is None or (policy == ORACLE and not tokens):
            continue
        if not tokens and policy in (NEVER, ALWAYS):
            # The share that these policies accept is 0 or 1, without uncertainty.
            across = Estimate(across.value, across.value, across.value)
        ink = "oracle" if policy == ORACLE else "ink"
        data.append(point(policy, across, up, color=f"var(--{ink})", bars=tokens or curve.saved is None))
        legend.append((f"glyph ink-{ink}", mark(policy)[1], policy))
        seen += [up.low, up.high]
    # The axis ends at multiples of ten points around the curves; the caption says where it begins.
    low, high = int(min(seen) * 10 - 0.2), ceil(max(seen) * 10 + 0.2)
    name, title = ("tokens", "the share of tokens saved") if tokens else ("accepted", "the share of drafts accepted")
    across_axis = {"title_text": "tokens saved against always deeper", **ZERO, "zerolinecolor": "var(--line)"}
    layout = {
        "height": 420,
        "xaxis": {
            **(across_axis if tokens else {"title_text": "share of drafts accepted", "range": [-0.03, 1.03]}),
            "tickformat": ".0%",
        },
        "yaxis": {
            "title_text": "accuracy",
            "tickformat": ".0%",
            "range": [max(low, 0) / 10, min(high, 10) / 10 + (0.01 if high >= 10 else 0.0)],
        },
    }
    return Figure(f"savings-{name}", f"Accuracy against {title}", data, layout, legend)


def _policies(inputs: ReportInputs) -> Figure:
    """A row for each policy: what it saves, and what that costs."""
    policies = inputs.evaluation.policies
    saves = all(figures.saved is not None for figures in policies.values())
    compares = all(figures.accuracy_gain is not None for figures in policies.values())
    data = []
    names = [name for name in (*inputs.methods, NEVER, ORACLE) if name in policies]
    for place, name in enumerate(names):
        figures, (symbol, _) = policies[name], mark(name)
        left = figures.saved if saves else figures.accepted
        gain = figures.accuracy_gain
        right = in_points(gain) if compares and gain is not None else figures.risk
        for found, form, n in ((left, ".1%", ""), (right, "+.1f" if compares else ".1%", "2")):
            if found is not None:
                hover, axes = f"{escape(name)}: %{{x:{form}}}", (f"x{n}", f"y{n}")
                data.append(marks([found.value], [place], symbol, hover, across=[found], axes=axes))
    margin = inputs.evaluation.margin * 100
    rows = named_rows([f"{escape(name)} {mark(name)[1]}" for name in names])
    across: dict[str, Any] = {**ZERO, "tickformat": ".0%", "nticks": 5}
    above = {"xref": "paper", "yref": "paper", "y": 1, "xanchor": "left", "yanchor": "bottom", "yshift": 8}
    left_heading = "tokens saved" if saves else "drafts accepted"
    right_heading = "accuracy, points" if compares else "of these wrong"
    layout = {
        "height": 34 * len(names) + 110,
        "margin": {"t": 44},
        "xaxis": {**across, "domain": [0, 0.45], "anchor": "y"},
        "xaxis2": {**across, "domain": [0.55, 1], "anchor": "y2", **({"tickformat": ""} if compares else {})},
        "yaxis": rows,
        "yaxis2": {**rows, "anchor": "x2", "showticklabels": False, "ticktext": None},
        "annotations": [
            {**above, "x": x, "text": f"<b>{text}</b>", "showarrow": False}
            for x, text in ((0.0, left_heading), (0.55, right_heading))
        ],
        "shapes": [upright_line(-margin, "x2")] if compares else [],
    }
    legend = [("dashed ink-bad", "", f"margin: {margin:g} points below always deeper")] if compares else []
    label = "Of each policy, what it saves and how its accuracy compares with always going deeper"
    return Figure("policies", label, data, layout, legend)


def _risk_coverage(inputs: ReportInputs) -> Figure:
    """Error among accepted drafts against the share accepted."""
    curve, accepted = inputs.risk_coverage, short(inputs.risk_coverage.accepted)
    data = [
        go.Scatter(
            mode="lines",
            x=[*accepted, *reversed(accepted)],
            y=[*short(curve.high), *reversed(short(curve.low))],
            fill="toself",
            fillcolor="var(--gate-soft)",
            line={"width": 0},
            hoverinfo="skip",
        ),
        line(accepted, short(curve.wrong), GATE, hover="%{y:.1%} wrong of %{x:.1%} accepted"),
    ]
    legend = [
        ("line ink-gate", "", "wrong among accepted, on the calibration records"),
        ("filled ink-soft", "", "95 % interval of each point"),
    ]
    reach = [float(curve.wrong.max()), float(curve.high[-1])]
    for name, limit in inputs.limits.items():
        if limit is not None:
            data.append(line([0, 1], [limit] * 2, BAD, dash="dash"))
            legend.append(("dashed ink-bad", "", f"alpha = {percent(limit)}"))
            reach.append(2 * limit)
        figures = inputs.figures(name)
        if figures is not None and figures.risk is not None:
            data.append(point(name, figures.accepted, figures.risk))
            legend.append(
                ("glyph ink-ink", mark(name)[1], f"`{name}`, replayed on other records, with 95 % intervals")
            )
            reach.append(figures.risk.high)
    # From zero to the top of the curve; the intervals of the first few drafts may reach beyond the picture.
    top = min(ceil(max(reach) * 10 + 0.5) / 10, 1.0)
    layout = {
        "height": 360,
        "xaxis": share_axis("share of drafts accepted"),
        "yaxis": {**share_axis("wrong among accepted"), "range": [-0.02 * top, top], "dtick": top / 5},
    }
    label = "Share of wrong drafts among accepted ones against the share of drafts accepted"
    return Figure("risk-coverage", label, data, layout, legend)


def _roc(curve: Roc) -> Figure:
    """Right against wrong drafts accepted."""
    hover = "%{y:.1%} of right, %{x:.1%} of wrong drafts accepted"
    data = [
        line([0, 1], [0, 1], RANDOM, dash="dash"),
        line(short(curve.wrong_accepted), short(curve.right_accepted), GATE, hover=hover),
    ]
    layout = {
        "height": 430,
        "xaxis": share_axis("share of wrong drafts accepted"),
        "yaxis": share_axis("share of right drafts accepted"),
    }
    label = "ROC curve: share of right drafts accepted against share of wrong drafts accepted"
    legend = [("line ink-gate", "", "the signal"), ("dashed ink-random", "", "chance")]
    return Figure("roc", label, data, layout, legend, square=True)


def _reliability(inputs: ReportInputs) -> Figure:
    """Share right by bins of the signal; below it, where known, what going deeper adds."""
    bins, abstain, shapes = inputs.bins, inputs.profile.abstain, []
    middles = [found.middle for found in bins]
    gains = [in_points(found.gain) for found in bins if found.gain is not None]
    deeper = [found.deeper for found in bins if found.deeper is not None]
    data = [estimates(middles, [found.accuracy for found in bins], "right", "circle", "draft right")]
    legend = [("glyph ink-right", "●", "draft right")]
    if deeper:
        # Moved a little aside, as both points are at the same value of the signal.
        aside = [middle + 0.008 * (middles[-1] - middles[0]) for middle in middles]
        data.append(estimates(aside, deeper, "oracle", "diamond-open", "deeper right"))
        legend.append(("glyph ink-oracle", "◇", "going deeper right"))
    if gains:
        data.append(estimates(middles, gains, "gate", "square", "gain in points", form="+.1f", yaxis="y2"))
        legend.append(("glyph ink-gate", "■", "gain of going deeper, paired"))
    if abstain is not None and abstain.value is not None:
        shapes.append(upright_line(abstain.value, "x"))
        legend.append(("dashed ink-bad", "", "give up from here on"))
    layout: dict[str, Any] = {
        "height": 560 if gains else 360,
        "xaxis": {"title_text": signal_title(inputs.profile.signal), "anchor": "y2" if gains else "y"},
        "yaxis": {**share_axis("share right"), "dtick": None, "domain": [0.5, 1] if gains else [0, 1]},
        "shapes": shapes,
    }
    if gains:
        edge = min(max(abs(end) for gain in gains for end in (gain.low, gain.high)) * 1.08, 102)
        layout["yaxis2"] = {**ZERO, "title_text": "gain, points", "domain": [0, 0.42], "range": [-edge, edge]}
    label = "Share of right drafts by bins of the signal, and the gain of going deeper"
    return Figure("reliability", label, data, layout, legend)


def _learning(curve: LearningCurve, method: str | None) -> Figure:
    """How AUROC and what a method saves spread, by the number of labels."""
    areas = [(at.records, at.auroc) for at in curve.sizes if at.auroc is not None]
    made = [(at.records, at.methods[method]) for at in curve.sizes if method is not None and method in at.methods]
    saves = all(at.saved is not None for _, at in made)
    seconds = [(size, at.saved if saves and at.saved is not None else at.accepted) for size, at in made]
    what, sizes = "tokens saved" if saves else "drafts accepted", [at.records for at in curve.sizes]
    data, chance = [_spread(areas, "AUROC", ".3f")], {"color": RANDOM, "width": 1.5, "dash": "dash"}
    layout: dict[str, Any] = {
        "height": 520 if made else 340,
        "xaxis": {
            "title_text": "labelled records",
            "type": "log",
            "tickvals": sizes,
            "ticktext": [f"{size:,}" for size in sizes],
            "anchor": "y2" if made else "y",
        },
        "yaxis": {"title_text": "AUROC", "range": [-0.02, 1.06], "domain": [0.55, 1] if made else [0, 1]},
        "shapes": [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0.5, "y1": 0.5, "line": chance}],
    }
    if made:
        data.append(_spread(seconds, what, ".1%", yaxis="y2"))
        low, high = min(0.0, *(at.low for _, at in seconds)), max(0.1, *(at.high for _, at in seconds))
        layout["yaxis2"] = {
            **ZERO,
            "title_text": what,
            "tickformat": ".0%",
            "domain": [0, 0.45],
            "range": [low * 1.1 - 0.02, high * 1.08],
        }
    label = "AUROC and realised savings by the number of labelled records"
    legend = [
        ("glyph ink-gate", "●", "median over draws; bar: nine draws in ten"),
        ("dashed ink-random", "", "AUROC of chance"),
    ]
    return Figure("learning", label, data, layout, legend)


def _spread(middles: Sequence[tuple[int, Middle]], what: str, form: str, *, yaxis: str = "y") -> go.Scatter:
    found = [Estimate(at.median, at.low, at.high) for _, at in middles]
    trace = estimates([size for size, _ in middles], found, "gate", "circle", what, form=form, yaxis=yaxis)
    return trace.update(mode="lines+markers", line={"color": GATE, "width": 1.5})
