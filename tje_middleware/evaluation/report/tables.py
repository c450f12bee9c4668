"""The numbers of the figures as tables, for screen readers and for copying."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...calibration.profile import Threshold
from .. import ALWAYS, NEVER, ORACLE, SavingsCurve
from ..refinability import RefinabilityBin
from ..sample_size import AtSize, LearningCurve, MethodAtSize, Middle
from .inputs import Histogram, ReportInputs, RiskCoverage, Roc, thinned
from .traces import mark
from .words import NONE, area, number, p_value, percent, percent_of, points, sentence, span

_MOST_ROWS = 24


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        caption: The caption.
        columns: Headings of the columns; the first column holds the rows' headings.
        rows: The cells, as text.
        chosen: Heading of a row to mark.
        words: Heading of a column that holds words and not numbers.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    chosen: str | None = None
    words: str | None = None


def histogram_table(bars: Histogram) -> Table:
    """The counts behind the histogram."""
    rows = [
        (span((low, high)), f"{right:,}", f"{wrong:,}")
        for low, high, right, wrong in zip(bars.edges[:-1], bars.edges[1:], bars.right, bars.wrong, strict=True)
    ]
    return Table("Drafts by value of the signal", ["signal", "right", "wrong"], rows)


def risk_coverage_table(curve: RiskCoverage) -> Table:
    """Points of the curve of errors among accepted drafts."""
    rows = [
        (percent(curve.accepted[at]), percent(curve.wrong[at]), f"{curve.low[at]:.1%} to {curve.high[at]:.1%}")
        for at in thinned(len(curve.accepted), _MOST_ROWS)
    ]
    return Table("Errors among accepted drafts", ["accepted", "wrong among them", "95 % interval"], rows)


def roc_table(curve: Roc) -> Table:
    """Points of the ROC curve."""
    rows = [
        (percent(curve.wrong_accepted[at]), percent(curve.right_accepted[at]))
        for at in thinned(len(curve.wrong_accepted), _MOST_ROWS)
    ]
    return Table("Points of the ROC curve", ["of wrong drafts accepted", "of right drafts accepted"], rows)


def savings_table(curve: SavingsCurve) -> Table:
    """Points of the savings curve."""
    rows = [
        (
            percent(curve.accepted[at]),
            NONE if curve.saved is None else percent(curve.saved[at]),
            *(percent(accuracy[at]) for accuracy in (curve.gate, curve.random, curve.oracle)),
        )
        for at in thinned(len(curve.accepted), _MOST_ROWS)
    ]
    columns = ["accepted", "tokens saved by the gate", "accuracy: gate", "random", "oracle"]
    return Table("Points of the savings curve", columns, rows)


def bins_table(bins: Sequence[RefinabilityBin]) -> Table:
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
    return Table("By bins of the signal, with 95 % intervals", columns, rows)


def candidates_table(inputs: ReportInputs) -> Table:
    """The signals that ``"auto"`` tried."""
    profile = inputs.profile
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
    columns = ["signal", "AUROC", "out of fold", "p alone", "p corrected", "chosen in folds", "why it was left out"]
    return Table(
        "Signals that automatic choice looked at; the chosen one marked",
        columns,
        rows,
        profile.signal,
        words="why it was left out",
    )


def thresholds_table(inputs: ReportInputs) -> Table:
    """Every method's threshold, with its guarantee or the reason why there is none."""
    profile = inputs.profile
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
    columns = [
        "method",
        "threshold",
        "95 % interval",
        "found in resamples",
        "gives up from",
        "what holds for it, or why there is no threshold",
    ]
    return Table("Thresholds in the signal's unit", columns, rows, inputs.method, words=columns[-1])


def _said(threshold: Threshold) -> str:
    if threshold.value is None:
        return f"No threshold: {threshold.reason or 'no reason was given'}."
    return sentence(threshold.guarantee) if threshold.guarantee else "No guarantee."


def policies_table(inputs: ReportInputs) -> Table:
    """Every policy's figures."""
    policies = inputs.evaluation.policies
    order = [*(name for name in (NEVER, ALWAYS, ORACLE) if name in policies), *inputs.methods]
    order += [name for name in policies if name not in order]
    rows = []
    for name in order:
        figures = policies[name]
        verdict = {True: "yes", False: "not shown", None: NONE}[figures.not_inferior]
        rows.append(
            (
                name,
                mark(name)[1],
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
    return Table("Policies, with 95 % intervals", columns, rows, chosen=inputs.method)


def learning_table(curve: LearningCurve, method: str | None) -> Table:
    """Calibrations on draws of each size."""
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
    return Table(f"Median and range of nine draws in ten{f'; method {method}' if method else ''}", columns, rows)


def _learning_row(at: AtSize, method: MethodAtSize | None) -> tuple[str, ...]:
    verdicts = (f"{at.verdicts.get(verdict, 0.0):.0%}" for verdict in ("usable", "weak", "unusable"))
    realised = [NONE] * 6
    if method is not None:
        shares = (method.accepted, method.risk, method.accuracy_gain, method.saved)
        realised = [f"{method.found:.0%}", NONE, *map(_share, shares)]
        if method.threshold is not None:
            low, median, high = method.threshold.low, method.threshold.median, method.threshold.high
            realised[1] = f"{number(median)} ({span((low, high))})"
    area = NONE if at.auroc is None else f"{at.auroc.median:.3f} ({at.auroc.low:.3f} to {at.auroc.high:.3f})"
    return (f"{at.records:,}", f"{at.draws:,}", area, *verdicts, *realised)


def _share(found: Middle | None) -> str:
    return NONE if found is None else f"{percent(found.median)} ({percent(found.low)} to {percent(found.high)})"
