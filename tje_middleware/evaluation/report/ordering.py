"""Figures of how well the signal orders drafts: risk-coverage and ROC."""

from __future__ import annotations

from math import ceil

from .inputs import Evidence
from .marks import Figure, Trace, band, line, point, share_axis, symbol
from .numbers import RiskCoverage, Roc, short
from .words import percent


def risk_coverage_figure(evidence: Evidence, curve: RiskCoverage) -> Figure:
    """Error among accepted drafts against the share accepted."""
    settings, figures = evidence.profile.settings, evidence.figures("risk")
    accepted = short(curve.accepted)
    alpha = settings.alpha if settings is not None else 0.0
    seen = figures.risk.high if figures is not None and figures.risk is not None else 0.0
    # From zero, and as far up as the curve goes; the first few drafts' intervals may leave the picture.
    top = min(ceil(max(float(curve.wrong.max()), float(curve.high[-1]), 2 * alpha, seen) * 10 + 0.5) / 10, 1.0)
    data: list[Trace] = [
        band(accepted, short(curve.low), short(curve.high)),
        line(accepted, short(curve.wrong), "var(--gate)", hover="%{y:.1%} wrong of %{x:.1%} accepted"),
    ]
    legend = [
        ("line ink-gate", "", "wrong among accepted, on the calibration records"),
        ("filled ink-soft", "", "95 % interval of each point"),
    ]
    if settings is not None:
        data.append(line([0, 1], [alpha] * 2, "var(--bad)", dash="dash"))
        legend.append(("dashed ink-bad", "", f"alpha = {percent(alpha)}"))
    if figures is not None and figures.risk is not None:
        data.append(point("risk", figures.accepted, figures.risk))
        legend.append(("glyph ink-ink", symbol("risk")[1], "`risk`, replayed on other records, with 95 % intervals"))
    return Figure(
        name="risk-coverage",
        label="Share of wrong drafts among accepted ones against the share of drafts accepted",
        data=data,
        layout={
            "height": 360,
            "xaxis": share_axis("share of drafts accepted"),
            "yaxis": {**share_axis("wrong among accepted"), "range": [-0.02 * top, top], "dtick": top / 5},
        },
        legend=legend,
    )


def roc_figure(curve: Roc) -> Figure:
    """Right against wrong drafts accepted."""
    return Figure(
        name="roc",
        label="ROC curve: share of right drafts accepted against share of wrong drafts accepted",
        data=[
            line([0, 1], [0, 1], "var(--random)", dash="dash"),
            {
                **line(short(curve.wrong_accepted), short(curve.right_accepted), "var(--gate)"),
                "hovertemplate": "%{y:.1%} of right, %{x:.1%} of wrong drafts accepted<extra></extra>",
            },
        ],
        layout={
            "height": 430,
            "xaxis": share_axis("share of wrong drafts accepted"),
            "yaxis": share_axis("share of right drafts accepted"),
        },
        legend=[("line ink-gate", "", "the signal"), ("dashed ink-random", "", "chance")],
        square=True,
    )
