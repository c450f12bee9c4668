"""The figure of how much a calibration depends on the number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import Estimate
from ..sample_size import LearningCurve, Middle
from .marks import Figure, Trace, estimates


def learning_figure(curve: LearningCurve, method: str | None) -> Figure:
    """How AUROC and what a method saves spread, by the number of labels."""
    sizes = [at for at in curve.sizes if at.auroc is not None]
    data = _spread([at.records for at in sizes], [at.auroc for at in sizes if at.auroc is not None], "y", "AUROC")
    realised = [(at.records, at.methods[method]) for at in curve.sizes if method is not None and method in at.methods]
    saves = all(at.saved is not None for _, at in realised)
    seconds = [at.saved if saves and at.saved is not None else at.accepted for _, at in realised]
    what = "tokens saved" if saves else "drafts accepted"
    if realised:
        data += _spread([records for records, _ in realised], seconds, "y2", what)
    records = [at.records for at in curve.sizes]
    low = min([0.0, *(at.low for at in seconds)])
    upper: dict[str, Any] = {"title": {"text": "AUROC"}, "range": [-0.02, 1.06], "domain": [0.55, 1]}
    if not realised:
        upper["domain"] = [0, 1]
    return Figure(
        name="learning",
        label="AUROC and realised savings by the number of labelled records",
        data=data,
        layout={
            "height": 520 if realised else 340,
            "xaxis": {
                "title": {"text": "labelled records"},
                "type": "log",
                "tickvals": records,
                "ticktext": [f"{size:,}" for size in records],
                "anchor": "y2" if realised else "y",
            },
            "yaxis": upper,
            **(
                {
                    "yaxis2": {
                        "title": {"text": what},
                        "tickformat": ".0%",
                        "domain": [0, 0.45],
                        "range": [low * 1.1 - 0.02, max([0.1, *(at.high for at in seconds)]) * 1.08],
                        "zeroline": True,
                        "zerolinecolor": "var(--muted)",
                    }
                }
                if realised
                else {}
            ),
            "shapes": [_level(0.5, "y")],
        },
        legend=[
            ("glyph ink-gate", "●", "median over draws; bar: nine draws in ten"),
            ("dashed ink-random", "", "AUROC of chance"),
        ],
    )


def _spread(sizes: Sequence[int], middles: Sequence[Middle], axis: str, what: str) -> list[Trace]:
    found = [Estimate(at.median, at.low, at.high) for at in middles]
    trace = estimates(
        [float(size) for size in sizes], found, "gate", "circle", what, form=".3f" if axis == "y" else ".1%"
    )
    return [{**trace, "yaxis": axis, "mode": "lines+markers", "line": {"color": "var(--gate)", "width": 1.5}}]


def _level(y: float, axis: str) -> dict[str, Any]:
    stroke = {"color": "var(--random)", "width": 1.5, "dash": "dash"}
    return {"type": "line", "xref": "paper", "yref": axis, "x0": 0, "x1": 1, "y0": y, "y1": y, "line": stroke}
