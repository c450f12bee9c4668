"""What the demo found, for a person and for a machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from ..calibration.profile import CalibrationProfile
from ..evaluation import Comparison, Estimate
from ..records.record import CalibrationRecord

NEVER, ALWAYS, UNTIL_REPEATED = "never deeper", "always deeper", "until repeated"
_UNGATED = (NEVER, ALWAYS, UNTIL_REPEATED)


@dataclass(frozen=True)
class DemoResult:
    """What the demo found; printed by rich as a table.

    Attributes:
        model: The model that was asked.
        profile: What calibration found, as stored.
        comparisons: Of every policy, its figures against always going deeper.
        missing: Of every method without a threshold, the reason.
        calibrated_on: The records that calibration saw, with logprobs.
        tested_on: The tested questions as records, with logprobs; none of them is among the others.
    """

    model: str
    profile: CalibrationProfile
    comparisons: Mapping[str, Comparison]
    missing: Mapping[str, str]
    calibrated_on: Sequence[CalibrationRecord] = field(default=(), repr=False)
    tested_on: Sequence[CalibrationRecord] = field(default=(), repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return {
            "model": self.model,
            "profile": self.profile.model_dump(mode="json"),
            "policies": {name: asdict(comparison) for name, comparison in self.comparisons.items()},
            "missing": dict(self.missing),
        }

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._calibration()
        yield self._table()
        yield from self._guarantees()
        yield Text(" ".join(self._remarks()), style="dim")

    def _calibration(self) -> Text:
        profile = self.profile
        means = [
            f"{mean:.2f} over {name} drafts"
            for mean, name in ((profile.mean_correct, "right"), (profile.mean_incorrect, "wrong"))
            if mean is not None
        ]
        effect = "" if profile.cohens_d is None else f"; Cohen's d {profile.cohens_d:.2f}"
        looked = sum(candidate.auroc is not None for candidate in profile.candidates)
        return Text.assemble(
            "\n",
            (self.model, "bold"),
            f" was calibrated on {profile.n_correct + profile.n_incorrect} questions: "
            f"{profile.n_correct} drafts right, {profile.n_incorrect} wrong.\nOf {looked} signals ",
            (profile.signal, "bold"),
            f" tells them apart as well as any: on average {', '.join(means)}{effect}.\nVerdict ",
            (profile.verdict, "bold"),
            f": {profile.verdict_reason}.\n",
        )

    def _guarantees(self) -> Iterator[Text]:
        """What is promised, and what could not be."""
        for method, threshold in self.profile.thresholds.items():
            if threshold.guarantee is not None:
                yield Text(f"{method}: {threshold.guarantee}.")
            elif method in self.missing:
                yield Text(self.missing[method] + ".")

    def _table(self) -> Table:
        questions = self.comparisons[ALWAYS].questions
        title = f"{questions} other questions, every policy run for real"
        table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
        table.add_column("Policy", no_wrap=True)
        for heading in ("Right", "vs always", "Tokens", "Saved", "Accepted"):
            table.add_column(heading, justify="right", no_wrap=True)
        for name, figures in self.comparisons.items():
            table.add_row(
                label(name),
                _percent(figures.accuracy),
                "" if name == ALWAYS else _points(figures.accuracy_gain),
                f"{figures.output_tokens:,}",
                "" if name == ALWAYS else _percent(figures.saved),
                f"{figures.accepted.value:.0%}",
                end_section=name == UNTIL_REPEATED,
            )
        return table

    def _remarks(self) -> Iterable[str]:
        yield "Deeper is the paper's sequential refinement: the model is shown its answer and checks it, three times;"
        yield "'until repeated' stops at the first step that gives the same answer again."
        yield "Tokens are those that the model wrote; in brackets 95 % intervals, paired by question for differences."
        never, always = self.comparisons[NEVER].accuracy_gain, self.comparisons[ALWAYS].accuracy
        if never.value >= 0:
            yield (
                f"Note: on this model going deeper does not raise accuracy ({always.value:.0%} against "
                f"{self.comparisons[NEVER].accuracy.value:.0%} without), so never going deeper saves the most."
            )


def label(policy: str) -> str:
    """What a policy is called where a person sees it."""
    return policy if policy in _UNGATED else f"gated: {policy}"


def _percent(estimate: Estimate) -> str:
    return f"{estimate.value:.0%} [{estimate.low * 100:.0f}, {estimate.high * 100:.0f}]"


def _points(estimate: Estimate) -> str:
    return f"{estimate.value * 100:+.0f} [{estimate.low * 100:+.0f}, {estimate.high * 100:+.0f}]"
