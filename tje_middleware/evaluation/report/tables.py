"""All numbers as tables: what a screen reader reads, and what can be copied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...calibration.profile import Threshold
from .. import ALWAYS, NEVER, ORACLE
from ..refinability import RefinabilityBin
from ..sample_size import AtSize, LearningCurve, MethodAtSize, Middle
from .inputs import Evidence
from .marks import symbol
from .markup import Html, join, tag
from .numbers import Histogram, RiskCoverage, Roc, thinned
from .words import NONE, area, number, p_value, percent, percent_of, points, sentence, span

_MOST_ROWS = 24


class Column(NamedTuple):
    """A column: its heading, and whether it holds words rather than numbers."""

    heading: str
    words: bool = False


def table(
    caption: str, columns: Sequence[str | Column], rows: Sequence[Sequence[str]], *, chosen: str | None = None
) -> Html:
    """A table in a box of its own that scrolls sideways; the first cell of a row is its heading."""
    kinds = [Column(column) if isinstance(column, str) else column for column in columns]
    classes = ["words" if kind.words else "num" for kind in kinds]
    head = (
        tag("th", kind.heading, scope="col", class_=one if place else "")
        for place, (kind, one) in enumerate(zip(kinds, classes, strict=True))
    )
    body = (
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            *(
                tag("td", cell if one == "words" else _two_lines(cell), class_=one)
                for cell, one in zip(row[1:], classes[1:], strict=True)
            ),
            class_="chosen" if row[0] == chosen else False,
        )
        for row in rows
    )
    made = tag("table", tag("caption", tag("span", caption)), tag("thead", tag("tr", *head)), tag("tbody", *body))
    return tag("div", made, class_="scroll", tabindex="0", role="region", aria_label=caption)


def _two_lines(cell: str) -> Html:
    """A figure, and below it its interval in brackets: tables become narrow enough to be seen whole."""
    figure, bracket, rest = cell.partition(" [" if " [" in cell else " (")
    return join(figure, tag("span", f"{bracket.strip()}{rest}", class_="interval")) if bracket else join(cell)


def folded(summary: str, content: Html) -> Html:
    """Shown when asked for."""
    return tag("details", tag("summary", summary), content)


def histogram_table(bars: Histogram) -> Html:
    """The counts behind the histogram."""
    rows = [
        (span((low, high)), f"{right:,}", f"{wrong:,}")
        for low, high, right, wrong in zip(bars.edges[:-1], bars.edges[1:], bars.right, bars.wrong, strict=True)
    ]
    return table("Drafts by value of the signal", ["signal", "right", "wrong"], rows)


def risk_coverage_table(curve: RiskCoverage) -> Html:
    """Some points of the curve."""
    rows = [
        (percent(curve.accepted[at]), percent(curve.wrong[at]), f"{curve.low[at]:.1%} to {curve.high[at]:.1%}")
        for at in thinned(len(curve.accepted), _MOST_ROWS)
    ]
    return table("Errors among accepted drafts", ["accepted", "wrong among them", "95 % interval"], rows)


def roc_table(curve: Roc) -> Html:
    """Some points of the curve."""
    rows = [
        (percent(curve.wrong_accepted[at]), percent(curve.right_accepted[at]))
        for at in thinned(len(curve.wrong_accepted), _MOST_ROWS)
    ]
    return table("Points of the ROC curve", ["of wrong drafts accepted", "of right drafts accepted"], rows)


def savings_table(evidence: Evidence) -> Html:
    """Some points of the savings curve."""
    curve = evidence.evaluation.curve
    if curve is None:
        return Html("")
    rows = [
        (
            percent(curve.accepted[at]),
            NONE if curve.saved is None else percent(curve.saved[at]),
            *(percent(accuracy[at]) for accuracy in (curve.gate, curve.random, curve.oracle)),
        )
        for at in thinned(len(curve.accepted), _MOST_ROWS)
    ]
    columns = ["accepted", "tokens saved by the gate", "accuracy: gate", "random", "oracle"]
    return table("Points of the savings curve", columns, rows)


def bins_table(bins: Sequence[RefinabilityBin]) -> Html:
    """Reliability and refinability."""
    rows = [
        (
            span((found.low, found.high)),
            f"{found.n:,}",
            percent_of(found.accuracy),
            percent_of(found.deeper),
            points(found.gain),
        )
        for found in bins
    ]
    columns = ["signal", "drafts", "draft right", "deeper right", "gain in points"]
    return table("By bins of the signal, with 95 % intervals", columns, rows)


def candidates_table(evidence: Evidence) -> Html:
    """What automatic choice looked at."""
    profile = evidence.profile
    rows = [
        (
            found.signal,
            area(found.auroc),
            area(found.auroc_out_of_fold),
            p_value(found.p_value),
            p_value(found.p_adjusted),
            NONE if found.chosen is None else f"{found.chosen:.0%}",
            found.reason or "",
        )
        for found in profile.candidates
    ]
    columns: list[str | Column] = [
        "signal",
        "AUROC",
        "out of fold",
        "p alone",
        "p corrected",
        "chosen in folds",
        Column("why it was left out", words=True),
    ]
    return table(
        "Signals that automatic choice looked at; the chosen one marked", columns, rows, chosen=profile.signal
    )


def thresholds_table(evidence: Evidence) -> Html:
    """Every method's threshold, with what holds for it or why there is none."""
    profile = evidence.profile
    found = list(profile.thresholds.items())
    if profile.abstain is not None:
        found.append(("give up", profile.abstain))
    rows = [
        (
            name,
            number(threshold.value),
            span(threshold.interval),
            percent(threshold.found),
            number(threshold.abstain_from),
            _said(threshold),
        )
        for name, threshold in found
    ]
    columns: list[str | Column] = [
        "method",
        "threshold",
        "95 % interval",
        "found in resamples",
        "gives up from",
        Column("what holds for it, or why there is no threshold", words=True),
    ]
    return table("Thresholds in the signal's unit", columns, rows, chosen=evidence.method)


def _said(threshold: Threshold) -> str:
    if threshold.value is None:
        return f"No threshold: {threshold.reason or 'no reason was given'}."
    return sentence(threshold.guarantee) if threshold.guarantee else "No guarantee."


def policies_table(evidence: Evidence) -> Html:
    """Every policy's figures."""
    policies = evidence.evaluation.policies
    order = [*(name for name in (NEVER, ALWAYS, ORACLE) if name in policies), *evidence.methods]
    order += [name for name in policies if name not in order]
    rows = []
    for name in order:
        figures = policies[name]
        verdict = {True: "yes", False: "not shown", None: NONE}[figures.not_inferior]
        rows.append(
            (
                name,
                symbol(name)[1],
                percent_of(figures.accepted),
                percent_of(figures.risk),
                percent_of(figures.accuracy),
                points(figures.accuracy_gain),
                points(figures.over_random),
                NONE if figures.tokens is None else f"{figures.tokens:,}",
                percent_of(figures.saved),
                NONE if name == ALWAYS else verdict,
            )
        )
    columns = [
        "policy",
        "mark",
        "accepted",
        "wrong among accepted",
        "accuracy",
        "against always, points",
        "against random, points",
        "tokens",
        "saved",
        "not inferior",
    ]
    return table("Policies, with 95 % intervals", columns, rows, chosen=evidence.method)


def learning_table(curve: LearningCurve, method: str | None) -> Html:
    """What became of draws of each size."""
    rows = [_learning_row(at, at.methods.get(method or "")) for at in curve.sizes]
    columns = [
        "records",
        "draws",
        "AUROC",
        "usable",
        "weak",
        "unusable",
        "threshold found",
        "threshold",
        "accepted",
        "wrong among accepted",
        "accuracy difference",
        "tokens saved",
    ]
    return table(f"Median and range of nine draws in ten{f'; method {method}' if method else ''}", columns, rows)


def _learning_row(at: AtSize, method: MethodAtSize | None) -> tuple[str, ...]:
    verdicts = (f"{at.verdicts.get(verdict, 0.0):.0%}" for verdict in ("usable", "weak", "unusable"))
    realised = (
        [NONE] * 6
        if method is None
        else [
            f"{method.found:.0%}",
            NONE if method.threshold is None else f"{number(method.threshold.median)} ({_ends(method.threshold)})",
            *(_share(found) for found in (method.accepted, method.risk, method.accuracy_gain, method.saved)),
        ]
    )
    area = NONE if at.auroc is None else f"{at.auroc.median:.3f} ({at.auroc.low:.3f} to {at.auroc.high:.3f})"
    return (f"{at.records:,}", f"{at.draws:,}", area, *verdicts, *realised)


def _ends(found: Middle) -> str:
    return span((found.low, found.high))


def _share(found: Middle | None) -> str:
    return NONE if found is None else f"{percent(found.median)} ({percent(found.low)} to {percent(found.high)})"
