"""What the demos found, for a person and for a machine."""

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
        table = _table(self.comparisons[ALWAYS], "Right", "vs always", "Tokens", "Saved", "Accepted")
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


@dataclass(frozen=True)
class GradedRuns:
    """What calibration was made from.

    Attributes:
        runs: How many runs of the ungated agent.
        right: How many of them ended with the right answer.
        turns: Model turns in them.
        calls: Turns that called the tool.
        unmeasured: Turns without logprobs; they are in no record.
    """

    runs: int
    right: int
    turns: int
    calls: int
    unmeasured: int


@dataclass(frozen=True)
class AgentFigures:
    """One policy over all test questions.

    Attributes:
        comparison: Accuracy and tokens, against always going deeper.
        turns: Drafts that were written, one a turn.
        calls: Turns that called the tool.
        accepted: Drafts that the gate accepted.
        deeper: Turns in which the deeper branch answered.
        unknown: Drafts among all that could not be judged.
        capped: Drafts that were the answer because of a cap.
        runs_capped: Runs in which that happened.
        runs_cut_off: Runs that were ended without an answer, by the limit of turns.
    """

    comparison: Comparison
    turns: int
    calls: int
    accepted: int
    deeper: int
    unknown: int
    capped: int
    runs_capped: int
    runs_cut_off: int


@dataclass(frozen=True)
class AgentDemoResult:
    """What the agent demo found; printed by rich as a table.

    Attributes:
        model: The model that was asked.
        profile: What calibration found, as stored.
        graded: What it was made from.
        policies: Of every policy, its figures.
        missing: Of every method that was to be run and has no threshold, the reason.
        max_turns: Model turns that a run may have.
        max_deeper_per_run: How often the gated agent may go deeper in one run.
    """

    model: str
    profile: CalibrationProfile
    graded: GradedRuns
    policies: Mapping[str, AgentFigures]
    missing: Mapping[str, str]
    max_turns: int
    max_deeper_per_run: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, fit for JSON."""
        return {**asdict(self), "profile": self.profile.model_dump(mode="json")}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self._calibration()
        yield self._table()
        for line in (*(f"{reason}." for reason in self.missing.values()), *self._findings()):
            yield Text(line)
        yield Text("\n" + " ".join(self._remarks()), style="dim")

    def _calibration(self) -> Text:
        profile, graded = self.profile, self.graded
        without = f" {graded.unmeasured} turns came without logprobs." if graded.unmeasured else ""
        return Text.assemble(
            "\n",
            (self.model, "bold"),
            f" as an agent with a calculator: {graded.right} of {graded.runs} ungated runs right, {graded.turns} "
            f"model turns, {graded.calls} of them calls of the tool.{without}\n"
            f"Calibrated on {profile.n_correct + profile.n_incorrect} turns, {profile.n_correct} of them right, "
            f"each graded by itself; signal ",
            (profile.signal, "bold"),
            ". Verdict ",
            (profile.verdict, "bold"),
            f": {profile.verdict_reason}.\n",
        )

    def _table(self) -> Table:
        always = self.policies[ALWAYS].comparison
        table = _table(always, "Right", "Written", "Saved", "Read", "Accepted", "Deeper")
        for name, figures in self.policies.items():
            compared = figures.comparison
            table.add_row(
                label(name),
                _percent(compared.accuracy),
                f"{compared.output_tokens:,}",
                "" if name == ALWAYS else _percent(compared.saved),
                f"{compared.input_tokens:,}",
                "" if name in _UNGATED else str(figures.accepted),
                "" if name == NEVER else str(figures.deeper),
                end_section=name == ALWAYS,
            )
        return table

    def _findings(self) -> Iterator[str]:
        """The result in words, whatever it is."""
        always, never = self.policies[ALWAYS].comparison, self.policies[NEVER].comparison
        for name, figures in self.policies.items():
            if name not in _UNGATED:
                yield f"{name}: {self._of_gate(figures)}"
        if never.accuracy.value >= always.accuracy.value:
            yield (
                f"Going deeper did not raise accuracy here ({_of(always)} right against {_of(never)} without), so "
                "never going deeper saves the most."
            )
        if not any(figures.calls for figures in self.policies.values()):
            yield "The model never called the tool."
        cut_off = sum(figures.runs_cut_off for figures in self.policies.values())
        if cut_off:
            yield f"{cut_off} runs had no answer after {self.max_turns} turns, and count as wrong."

    def _of_gate(self, figures: AgentFigures) -> str:
        counts = (
            f"of {figures.turns} drafts {figures.accepted} accepted, {figures.deeper} went deeper, "
            f"{figures.unknown} could not be judged, {figures.capped} were taken because of a cap"
        )
        if not figures.accepted:
            unusable = self.profile.verdict == "unusable"
            return f"{counts}: {'the profile is unusable' if unusable else 'none was below the threshold'}."
        compared = figures.comparison
        saved, gain = compared.saved.value, compared.accuracy_gain
        tokens = f"{saved:.0%} of the tokens saved" if saved >= 0 else f"{-saved:.0%} more tokens spent"
        accuracy = f"{'more' if gain.low > 0 else 'fewer'} runs right than always deeper"
        if not (gain.low > 0 or gain.high < 0):
            accuracy = f"no difference in accuracy shown by {compared.questions} questions"
        return f"{counts}; {tokens}, {accuracy}, {_points(gain, ' points')}."

    def _remarks(self) -> Iterator[str]:
        yield "Deeper is the same model, asked again with more worked examples before the question. Of a gated run"
        yield f"at most {self.max_deeper_per_run} turns go deeper; any run has at most {self.max_turns} turns."
        yield "In calibration a call is right where it calculates the answer, an answer after it where it says so."
        yield "The turns of a run are counted as independent, which they are not quite."
        yield "Written and read are tokens, and saved is of those written; in brackets 95 % intervals."


def label(policy: str) -> str:
    """What a policy is called where a person sees it."""
    return policy if policy in _UNGATED else f"gated: {policy}"


def _table(baseline: Comparison, *headings: str) -> Table:
    """A table without rows: one column for the policies, and one for each heading."""
    title = f"{baseline.questions} other questions, every policy run for real"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 0, 0, 1))
    table.add_column("Policy", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _of(compared: Comparison) -> str:
    return f"{round(compared.accuracy.value * compared.questions)} of {compared.questions}"


def _percent(estimate: Estimate) -> str:
    return f"{estimate.value:.0%} [{estimate.low * 100:.0f}, {estimate.high * 100:.0f}]"


def _points(estimate: Estimate, unit: str = "") -> str:
    return f"{estimate.value * 100:+.0f}{unit} [{estimate.low * 100:+.0f}, {estimate.high * 100:+.0f}]"
