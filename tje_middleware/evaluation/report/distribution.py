"""How the signal is distributed over right and wrong drafts, with every threshold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import numpy as np

from ...calibration.profile import Threshold
from .inputs import Evidence
from .marks import Figure, Trace, error_bars, signal_title, symbol
from .numbers import Histogram, short
from .words import number

# Pixels of a threshold's row.
_ROW = 30
_STRIPES = {"shape": "/", "fgcolor": "var(--wrong)", "size": 5, "solidity": 0.4, "fillmode": "overlay"}


def distribution(evidence: Evidence, bars: Histogram) -> Figure:
    """Right drafts upwards, wrong ones downwards; below them a row for each threshold."""
    rows = _drawn(evidence)
    tall, low_part = 300, _ROW * len(rows)
    height = tall + low_part + 60
    split = (low_part + 14) / (height - 60) if rows else 0.0
    middles, widths = (bars.edges[:-1] + bars.edges[1:]) / 2, np.diff(bars.edges)
    widths = np.where(widths > 0, widths, 1.0)
    most = max(int(bars.right.max()), int(bars.wrong.max()), 1)
    up, down = (max(1.08 * int(counts.max()), 0.12 * most) for counts in (bars.right, bars.wrong))
    data: list[Trace] = []
    for counts, name, sign in ((bars.right, "right", 1), (bars.wrong, "wrong", -1)):
        data.append(
            {
                "type": "bar",
                "x": short(middles),
                "y": (sign * counts).tolist(),
                "width": short(widths * 0.96),
                "customdata": counts.tolist(),
                "marker": {
                    "color": f"var(--{name}-soft)" if name == "wrong" else "var(--right)",
                    "line": {"color": f"var(--{name})", "width": (counts > 0).astype(int).tolist()},
                    **({"pattern": _STRIPES} if name == "wrong" else {}),
                },
                "hovertemplate": f"%{{customdata}} {name} near %{{x:.4g}}<extra></extra>",
            }
        )
    x_range = _range([bars.edges[0], bars.edges[-1], *(row[2].value or 0.0 for row in rows)])
    data += _threshold_rows(rows)
    return Figure(
        name="distribution",
        label="Histogram of the signal, right drafts upwards and wrong drafts downwards, with every threshold",
        data=data,
        layout={
            "height": height,
            "barmode": "overlay",
            "bargap": 0,
            "xaxis": {
                "title": {"text": signal_title(evidence.profile.signal)},
                "range": x_range,
                "anchor": "y2" if rows else "y",
            },
            "yaxis": {
                "domain": [split, 1],
                "range": [-down, up],
                # Turned by a quarter, so that the arrows point down and up.
                "title": {"text": "\N{LEFTWARDS ARROW} wrong drafts · right drafts \N{RIGHTWARDS ARROW}"},
                "zeroline": True,
                "zerolinecolor": "var(--muted)",
                **_counts_both_ways(most, down, up),
            },
            **({"yaxis2": _rows_axis([_row_name(row) for row in rows], [0, split - 0.02])} if rows else {}),
            "shapes": list(_threshold_lines(rows, split)),
        },
        legend=[
            ("filled ink-right", "", "right drafts"),
            ("striped", "", "wrong drafts"),
            *(
                [("glyph ink-ink", "●", "threshold: drafts to its left are accepted; bar: 95 % interval")]
                if rows
                else []
            ),
        ],
    )


def _drawn(evidence: Evidence) -> list[tuple[str, str, Threshold]]:
    """Every threshold that has a value: the method, what its row is called, and itself; ascending."""
    profile = evidence.profile
    found = [(name, name, threshold) for name, threshold in profile.thresholds.items() if threshold.value is not None]
    found += [
        (name, f"{name}: give up", Threshold(value=threshold.abstain_from))
        for name, _, threshold in found
        if threshold.abstain_from is not None
    ]
    if profile.abstain is not None and profile.abstain.value is not None:
        found.append(("abstain", "give up", profile.abstain))
    return sorted(found, key=lambda row: row[2].value or 0.0)


def _row_name(row: tuple[str, str, Threshold]) -> str:
    return f"{escape(row[1])} <b>{number(row[2].value)}</b>"


def _rows_axis(names: Sequence[str], domain: list[float]) -> dict[str, Any]:
    return {
        "domain": domain,
        "range": [len(names) - 0.5, -0.5],
        "tickvals": list(range(len(names))),
        "ticktext": list(names),
        "tickfont": {"color": "var(--ink)"},
        "zeroline": False,
    }


def _threshold_rows(rows: Sequence[tuple[str, str, Threshold]]) -> Iterator[Trace]:
    for place, (method, _, threshold) in enumerate(rows):
        value = threshold.value or 0.0
        low, high = threshold.interval or (value, value)
        yield {
            "type": "scatter",
            "mode": "markers",
            "x": short([value]),
            "y": [place],
            "yaxis": "y2",
            "marker": {"symbol": symbol(method)[0], "size": 10, "color": "var(--ink)"},
            "error_x": error_bars([value], [low], [high], "var(--ink)"),
            "hovertemplate": f"{escape(method)}: {number(value)}<extra></extra>",
        }


def _threshold_lines(rows: Sequence[tuple[str, str, Threshold]], split: float) -> Iterator[dict[str, Any]]:
    for place, row in enumerate(rows):
        bottom = (split - 0.02) * (1 - (place + 0.5) / len(rows))
        yield {
            "type": "line",
            "xref": "x",
            "yref": "paper",
            "x0": row[2].value,
            "x1": row[2].value,
            "y0": round(bottom, 4),
            "y1": 1,
            "line": {"color": "var(--muted)", "width": 1, "dash": "dot"},
        }


def _counts_both_ways(most: int, down: float, up: float) -> dict[str, Any]:
    """Ticks that count away from zero on both sides, as far as either goes."""
    step = max(int(float(f"{most / 3:.0e}")), 1)
    values = [count for count in range(-step * (most // step), most + 1, step) if -down < count < up]
    return {"tickvals": values, "ticktext": [f"{abs(value):,}" for value in values]}


def _range(values: Sequence[float]) -> list[float]:
    low, high = float(min(values)), float(max(values))
    room = (high - low) * 0.03 or max(abs(high), 1.0) * 0.5
    return short([low - room, high + room])
