"""Figures of what a gate would have done: savings against accuracy, policies, reliability."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from ...logprobs.arrays import FloatArray
from .. import ALWAYS, NEVER, ORACLE, Estimate, SavingsCurve
from ..refinability import RefinabilityBin
from .inputs import Evidence
from .marks import Figure, Trace, error_bars, estimates, line, point, signal_title, symbol
from .numbers import short, thinned


def savings_figure(evidence: Evidence, curve: SavingsCurve, *, tokens: bool) -> Figure:
    """Accuracy against tokens saved, or against the share of drafts accepted."""
    shown = thinned(len(curve.accepted), 400)
    x = curve.saved if tokens and curve.saved is not None else curve.accepted
    lines: list[tuple[FloatArray, FloatArray, str, str, str, str]] = [
        (
            x[[0, -1]],
            curve.random[[0, -1]],
            "var(--random)",
            "dash",
            "dashed ink-random",
            "drafts accepted at random",
        ),
        (
            x[shown],
            curve.gate[shown],
            "var(--gate)",
            "solid",
            "line ink-gate",
            "most confident drafts accepted first",
        ),
    ]
    if not tokens:
        best = (
            x[shown],
            curve.oracle[shown],
            "var(--oracle)",
            "dot",
            "dotted ink-oracle",
            "oracle: best possible order",
        )
        lines.insert(1, best)
    what = "%{x:.1%} of tokens saved" if tokens else "%{x:.1%} accepted"
    data = [
        line(short(xs), short(ys), color, dash=dash, hover=f"{what}, accuracy %{{y:.1%}}")
        for xs, ys, color, dash, _, _ in lines
    ]
    legend = [(kind, "", words) for *_, kind, words in lines]
    seen = [value for _, ys, *_ in lines for value in (float(ys.min()), float(ys.max()))]
    for policy, across, up in _operating_points(evidence, tokens=tokens):
        color = "var(--oracle)" if policy == ORACLE else "var(--ink)"
        data.append(point(policy, across, up, color=color, bars=tokens or curve.saved is None))
        legend.append((f"glyph ink-{'oracle' if policy == ORACLE else 'ink'}", symbol(policy)[1], policy))
        seen += [up.low, up.high]
    return Figure(
        name="savings-tokens" if tokens else "savings-accepted",
        label=f"Accuracy against {'the share of tokens saved' if tokens else 'the share of drafts accepted'}",
        data=data,
        layout={
            "height": 420,
            "xaxis": {
                "title": {"text": "tokens saved against always deeper" if tokens else "share of drafts accepted"},
                "tickformat": ".0%",
                **({"zeroline": True, "zerolinecolor": "var(--line)"} if tokens else {"range": [-0.03, 1.03]}),
            },
            "yaxis": {"title": {"text": "accuracy"}, "tickformat": ".0%", "range": accuracy_range(seen)},
        },
        legend=legend,
    )


def accuracy_range(values: Sequence[float]) -> list[float]:
    """An axis in steps of ten points around these shares; the caption says where it begins."""
    low, high = int(min(values) * 10 - 0.2), int(-(-(max(values) * 10 + 0.2) // 1))
    return [max(low, 0) / 10, min(high, 10) / 10 + (0.01 if high >= 10 else 0.0)]


def _operating_points(evidence: Evidence, *, tokens: bool) -> list[tuple[str, Estimate, Estimate]]:
    found = []
    for policy, figures in evidence.evaluation.policies.items():
        across = figures.saved if tokens else figures.accepted
        # Where nothing was chosen, neither was there anything uncertain about how much was accepted.
        if not tokens and policy in (NEVER, ALWAYS):
            across = Estimate(figures.accepted.value, figures.accepted.value, figures.accepted.value)
        if across is None or figures.accuracy is None or (policy == ORACLE and not tokens):
            continue
        found.append((policy, across, figures.accuracy))
    return found


def policies_figure(evidence: Evidence) -> Figure:
    """A row for each policy: what it saves, and what that costs."""
    policies = evidence.evaluation.policies
    saves = all(figures.saved is not None for figures in policies.values())
    compares = all(figures.accuracy_gain is not None for figures in policies.values())
    names = [name for name in (*evidence.methods, NEVER, ORACLE) if name in policies]
    left = [policies[name].saved if saves else policies[name].accepted for name in names]
    right = [policies[name].accuracy_gain if compares else policies[name].risk for name in names]
    data = [*_column(names, left, "x", "y"), *_column(names, right, "x2", "y2", scale=100 if compares else 1)]
    rows = {
        "range": [len(names) - 0.5, -0.5],
        "tickvals": list(range(len(names))),
        "tickfont": {"color": "var(--ink)"},
    }
    margin = evidence.evaluation.margin * 100
    zero = {"zeroline": True, "zerolinecolor": "var(--muted)", "tickformat": ".0%", "nticks": 5}
    return Figure(
        name="policies",
        label="Of each policy, what it saves and how its accuracy compares with always going deeper",
        data=data,
        layout={
            "height": 34 * len(names) + 110,
            "margin": {"t": 44},
            "xaxis": {**zero, "domain": [0, 0.45], "anchor": "y"},
            "xaxis2": {**zero, "domain": [0.55, 1], "anchor": "y2", **({"tickformat": ""} if compares else {})},
            "yaxis": {**rows, "ticktext": [f"{escape(name)} {symbol(name)[1]}" for name in names]},
            "yaxis2": {**rows, "anchor": "x2", "showticklabels": False},
            "annotations": [
                _heading("tokens saved" if saves else "drafts accepted", 0.0),
                _heading("accuracy, points" if compares else "of these wrong", 0.55),
            ],
            "shapes": [_upright(-margin, "x2")] if compares else [],
        },
        legend=[("dashed ink-bad", "", f"margin: {margin:g} points below always deeper")] if compares else [],
    )


def _column(
    names: Sequence[str], estimates: Sequence[Estimate | None], x: str, y: str, *, scale: float = 1
) -> list[Trace]:
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": short([found.value * scale]),
            "y": [place],
            "xaxis": x,
            "yaxis": y,
            "marker": {"symbol": symbol(name)[0], "size": 10, "color": "var(--ink)", "line": {"width": 1.5}},
            "error_x": error_bars([found.value * scale], [found.low * scale], [found.high * scale], "var(--ink)"),
            "hovertemplate": f"{escape(name)}: %{{x:{'+.1f' if scale > 1 else '.1%'}}}<extra></extra>",
        }
        for place, (name, found) in enumerate(zip(names, estimates, strict=True))
        if found is not None
    ]


def reliability_figure(evidence: Evidence, bins: Sequence[RefinabilityBin]) -> Figure:
    """Share right by bins of the signal; below it, where known, what going deeper adds."""
    middles = [found.middle for found in bins]
    gains = [_in_points(found.gain) for found in bins if found.gain is not None]
    deeper = [found.deeper for found in bins if found.deeper is not None]
    data = [estimates(middles, [found.accuracy for found in bins], "right", "circle", "draft right")]
    # Side by side, for both stand at one value of the signal.
    aside = [middle + 0.008 * (bins[-1].middle - bins[0].middle) for middle in middles]
    legend = [("glyph ink-right", "●", "draft right")]
    if deeper:
        data.append(estimates(aside, deeper, "oracle", "diamond-open", "deeper right"))
        legend.append(("glyph ink-oracle", "◇", "going deeper right"))
    if gains:
        data.append({**estimates(middles, gains, "gate", "square", "gain in points", form="+.1f"), "yaxis": "y2"})
        legend.append(("glyph ink-gate", "■", "gain of going deeper, paired"))
    abstain = evidence.profile.abstain
    shapes = []
    if abstain is not None and abstain.value is not None:
        shapes.append(_upright(abstain.value, "x"))
        legend.append(("dashed ink-bad", "", "give up from here on"))
    reach = max((abs(end) for gain in gains for end in (gain.low, gain.high)), default=100.0)
    return Figure(
        name="reliability",
        label="Share of right drafts by bins of the signal, and the gain of going deeper",
        data=data,
        layout={
            "height": 560 if gains else 360,
            "xaxis": {"title": {"text": signal_title(evidence.profile.signal)}, "anchor": "y2" if gains else "y"},
            "yaxis": {
                "title": {"text": "share right"},
                "range": [-0.02, 1.02],
                "tickformat": ".0%",
                "domain": [0.5, 1] if gains else [0, 1],
            },
            **({"yaxis2": _gain_axis(reach)} if gains else {}),
            "shapes": shapes,
        },
        legend=legend,
    )


def _gain_axis(reach: float) -> dict[str, Any]:
    edge = min(reach * 1.08, 102)
    zero = {"zeroline": True, "zerolinecolor": "var(--muted)"}
    return {**zero, "title": {"text": "gain, points"}, "domain": [0, 0.42], "range": [-edge, edge]}


def _in_points(found: Estimate) -> Estimate:
    return Estimate(found.value * 100, found.low * 100, found.high * 100)


def _upright(x: float, axis: str) -> dict[str, Any]:
    stroke = {"color": "var(--bad)", "width": 1.5, "dash": "dash"}
    return {"type": "line", "xref": axis, "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1, "line": stroke}


def _heading(text: str, x: float) -> dict[str, Any]:
    place = {"xref": "paper", "yref": "paper", "x": x, "y": 1, "xanchor": "left", "yanchor": "bottom", "yshift": 8}
    return {**place, "text": f"<b>{text}</b>", "showarrow": False}
