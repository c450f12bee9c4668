"""Tables of a profile, an evaluation and a learning curve for the terminal; an evaluation as plain values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from ..calibration.profile import CalibrationProfile, Candidate
from .estimates import Estimate
from .result import ALWAYS, NEVER, ORACLE, Evaluation, SavingsCurve

if TYPE_CHECKING:
    from .sample_size import LearningCurve, Middle

_NOTHING = "-"
_UNGATED = (NEVER, ALWAYS, ORACLE)
# From this many records on figures are shown to a tenth of a percent.
_MANY = 1_000
_MOST_POINTS = 201


def evaluation_table(evaluation: Evaluation) -> RenderableType:
    """Every policy with its figures, and their meaning; it fits from 80 columns on."""
    return Group(_verdict(evaluation.profile), _Fitted(partial(_policies, evaluation)), *_remarks(evaluation))


def profile_table(profile: CalibrationProfile) -> RenderableType:
    """The verdict, every method's threshold, the signals that ``"auto"`` tried, and notes on the records."""
    parts: list[RenderableType] = [_verdict(profile), _thresholds(profile)]
    if profile.candidates:
        parts += ["", _candidates(profile)]
    if profile.verdict == "unusable":
        parts.append(Text("\nA gate accepts nothing by an unusable profile.", style="yellow"))
    parts += [Text(f"\nNote: {note.rstrip('.')}.", style="yellow") for note in profile.notes]
    return Group(*parts)


def learning_table(curve: LearningCurve, method: str) -> RenderableType:
    """Calibrations on few records, by one method."""
    remark = "Medians, in brackets where nine of ten draws lie. 'Found': draws with such a threshold."
    if curve.labels is not None:
        remark += f" About {curve.labels.needed:,} records show a separation like this one"
        remark += f": {curve.labels.more:,} more." if curve.labels.more else ": there are enough."
    return Group(_Fitted(partial(_sizes, curve, method)), Text(remark, style="dim"))


def as_dict(evaluation: Evaluation) -> dict[str, Any]:
    """Plain values, fit for JSON: None instead of what is not finite, and at most 201 points of the curve."""
    plain = {
        "profile": evaluation.profile.model_dump(mode="json"),
        "records": evaluation.records,
        "folds": evaluation.folds,
        "margin": evaluation.margin,
        "deeper_includes_draft": evaluation.deeper_includes_draft,
        "policies": {name: asdict(figures) for name, figures in evaluation.policies.items()},
        "missing": dict(evaluation.missing),
        "signals": dict(evaluation.signals),
        "curve": None if evaluation.curve is None else _thinned(evaluation.curve),
    }
    return {name: _plain(value) for name, value in plain.items()}


def _verdict(profile: CalibrationProfile) -> Text:
    n, key = profile.n_correct + profile.n_incorrect, profile.key
    signal = profile.signal if profile.chosen_signal is None else f"{profile.signal}, chosen by calibration"
    if profile.learned is not None:
        signal += f" ({', '.join(part.signal for part in profile.learned.features)})"
    auroc = "" if profile.auroc is None else f"AUROC {profile.auroc:.3f}"
    if profile.auroc_interval is not None:
        auroc += f" [{profile.auroc_interval[0]:.3f}, {profile.auroc_interval[1]:.3f}]"
    if profile.auroc_out_of_fold is not None:
        auroc += f", {profile.auroc_out_of_fold:.3f} out of fold"
    effect = "" if profile.cohens_d is None else f"Cohen's d {profile.cohens_d:.2f}"
    separation = "; ".join(part for part in (auroc, effect) if part)
    return Text.assemble(
        "\n",
        (f"{key.model} / {key.task}", "bold"),
        f": {n:,} drafts, {profile.n_correct:,} right, {profile.n_incorrect:,} wrong.\nSignal: {signal}.",
        f" {separation}.\nVerdict " if separation else "\nVerdict ",
        (profile.verdict, {"usable": "bold green", "weak": "bold yellow"}.get(profile.verdict, "bold red")),
        f": {profile.verdict_reason}.\n",
    )


def _policies(evaluation: Evaluation, layout: str) -> Table:
    how = "decided by one profile" if evaluation.folds is None else f"in {evaluation.folds} folds"
    table = _table(f"{evaluation.records:,} records, {how}; no policy has seen the record that it decides")
    table.add_column("Policy", no_wrap=True)
    for heading in (
        "Right",
        "vs\nalways",
        "Tokens\nsaved",
        "Accepted",
        "Wrong\nof these",
        "vs\nrandom",
        "Not\nworse",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    digits = 1 if evaluation.records >= _MANY else 0
    share, difference = f"{{:.{digits}f}}", f"{{:+.{digits}f}}"
    last = [name for name in evaluation.policies if name in _UNGATED][-1]
    for name, figures in evaluation.policies.items():
        compared = name != ALWAYS
        table.add_row(
            name,
            _interval(figures.accuracy, share, "%", layout),
            _interval(figures.accuracy_gain, difference, "", layout) if compared else "",
            _interval(figures.saved, share, "%", layout) if compared else "",
            f"{figures.accepted.value:.{digits}%}",
            _interval(figures.risk, share, "%", layout),
            _interval(figures.over_random, difference, "", layout),
            {True: "yes", False: "no", None: _NOTHING}[figures.not_inferior] if compared else "",
            end_section=name == last,
        )
    return table


def _sizes(curve: LearningCurve, method: str, layout: str) -> Table:
    table = _table(f"Calibrated on some of {curve.records:,} records, by {method}, tried on the others")
    for heading in (
        "Records",
        "AUROC",
        "Usable",
        "Weak",
        "Found",
        "Accepted",
        "Wrong\nof these",
        "vs\nalways",
        "Tokens\nsaved",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for size in curve.sizes:
        figures = size.methods[method]
        table.add_row(
            f"{size.records:,}",
            _spread(size.auroc, "{:.2f}", layout),
            f"{size.verdicts['usable']:.0%}",
            f"{size.verdicts['weak']:.0%}",
            f"{figures.found:.0%}",
            _spread(figures.accepted, "{:.0%}", layout),
            _spread(figures.risk, "{:.0%}", layout),
            _spread(figures.accuracy_gain, "{:+.0%}", layout),
            _spread(figures.saved, "{:.0%}", layout),
        )
    return table


def _remarks(evaluation: Evaluation) -> Iterator[RenderableType]:
    if len(evaluation.signals) > 1 or evaluation.profile.chosen_signal is not None:
        folds = ", ".join(f"{name} ({count})" for name, count in evaluation.signals.items())
        yield Text(f"Signals chosen in the folds: {folds}.\n")
    for reason, methods in _by_reason(evaluation.missing).items():
        yield Text.assemble((", ".join(methods), "bold"), f": {reason}.\n")
    if evaluation.curve is not None:
        yield Text(_curve_in_words(evaluation.curve))
    yield Text(" ".join(_legend(evaluation)), style="dim")


def _curve_in_words(curve: SavingsCurve) -> str:
    areas = (
        f"Accuracy, averaged over all shares accepted: {curve.area:.3f} by the signal, {curve.area_random:.3f} at "
        f"random, {curve.area_oracle:.3f} by an oracle"
    )
    if curve.share_of_way is None:
        return f"{areas}, which is no better than random here.\n"
    way = curve.share_of_way
    return f"{areas}: {way.value:.0%} of the way [{way.low * 100:.0f}, {way.high * 100:.0f}].\n"


def _legend(evaluation: Evaluation) -> Iterator[str]:
    yield "In brackets 95 % intervals, paired by record for differences, in percentage points."
    if evaluation.curve is None:
        yield "Without deeper_correct in every record, accuracy cannot be compared."
    else:
        yield (
            f"'vs random': against accepting as many at random. 'Not worse': yes where accuracy is shown to be at "
            f"most {evaluation.margin * 100:.3g} points below always going deeper."
        )
    if evaluation.policies[NEVER].saved is None:
        yield "Without tokens and deeper_tokens in every record, savings are unknown."
    elif evaluation.deeper_includes_draft:
        yield "Always going deeper writes the draft, too."
    else:
        yield (
            "Always going deeper writes no draft; a gate pays for every draft, and for the deeper answer where it "
            "rejects one."
        )
    if evaluation.folds is not None:
        yield "Where a fold has no threshold or no usable profile, its drafts go deeper."


def _thresholds(profile: CalibrationProfile) -> Table:
    table = _table("Accept a draft up to")
    table.add_column("Method", no_wrap=True)
    table.add_column("Threshold", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("Found", justify="right", no_wrap=True)
    table.add_column("What holds for it, or why there is none", overflow="fold")
    rows = dict(profile.thresholds)
    if profile.abstain is not None:
        rows["give up from"] = profile.abstain
    for name, threshold in rows.items():
        interval = _NOTHING
        if threshold.interval is not None:
            interval = " to ".join(_number(end) for end in threshold.interval)
        words = [threshold.guarantee or threshold.reason or "no guarantee"]
        if threshold.abstain_from is not None:
            words.append(f"gives up from {_number(threshold.abstain_from)} on")
        table.add_row(
            name,
            _NOTHING if threshold.value is None else _number(threshold.value),
            interval,
            _NOTHING if threshold.found is None else f"{threshold.found:.0%}",
            "; ".join(words),
        )
    table.caption = "Found: share of the bootstrap resamples that have such a threshold."
    table.caption_justify = "left"
    return table


def _candidates(profile: CalibrationProfile) -> Table:
    table = _table("Signals that were looked at, by AUROC")
    table.add_column("Signal", overflow="fold")
    for heading in ("AUROC", "Out of fold", "p", "p corrected", "Chosen"):
        table.add_column(heading, justify="right")
    skipped = {}
    for candidate in profile.candidates:
        if candidate.reason is not None:
            skipped[candidate.signal] = candidate.reason
            continue
        table.add_row(*_candidate(candidate), style="bold" if candidate.signal == profile.signal else "")
    caption = (
        "p: one-sided, labels permuted; corrected for the number of signals. Chosen: share of folds; of "
        "signals as good as the best the plainest is taken."
    )
    for reason, names in _by_reason(skipped).items():
        caption += f"\n{', '.join(names)}: {reason}."
    table.caption, table.caption_justify = caption, "left"
    return table


def _candidate(candidate: Candidate) -> tuple[str, ...]:
    areas = (candidate.auroc, candidate.auroc_out_of_fold, candidate.p_value, candidate.p_adjusted)
    figures = (_NOTHING if value is None else f"{value:.3f}" for value in areas)
    return candidate.signal, *figures, _NOTHING if candidate.chosen is None else f"{candidate.chosen:.0%}"


def _by_reason(missing: Mapping[str, str]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for name, reason in missing.items():
        reasons.setdefault(reason.rstrip("."), []).append(name)
    return reasons


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=0, pad_edge=False)


@dataclass(frozen=True)
class _Fitted:
    """A table with the intervals beside their figures or, in a narrow terminal, below them."""

    build: Callable[[str], Table]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        tables = [self.build(layout) for layout in ("{} [{}, {}]", "{}\n[{}, {}]", "{}\n[{},\n{}]")]
        unlimited = options.update(width=10_000)
        fitting = (
            table for table in tables if console.measure(table, options=unlimited).maximum <= options.max_width
        )
        yield next(fitting, tables[-1])


def _interval(estimate: Estimate | None, form: str, unit: str, layout: str) -> str:
    if estimate is None:
        return _NOTHING
    value, low, high = (form.format(100 * end) for end in (estimate.value, estimate.low, estimate.high))
    return layout.format(value + unit, low, high)


def _spread(middle: Middle | None, form: str, layout: str) -> str:
    if middle is None:
        return _NOTHING
    value, low, high = (form.format(end) for end in (middle.median, middle.low, middle.high))
    return layout.format(value, low.rstrip("%"), high.rstrip("%"))


def _number(value: float) -> str:
    return f"{value:.4g}"


def _thinned(curve: SavingsCurve) -> dict[str, Any]:
    points = np.linspace(0, len(curve.accepted) - 1, min(_MOST_POINTS, len(curve.accepted))).round().astype(int)
    fields = asdict(curve).items()
    return {name: value[points].tolist() if isinstance(value, np.ndarray) else value for name, value in fields}


def _plain(value: Any) -> Any:  # noqa: ANN401 (plain values of any kind)
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not isfinite(value) else value
