"""The sections with what was found, in the order in which a reader asks."""

from __future__ import annotations

from ..refinability import refinability
from .distribution import distribution
from .headline import headline, replayed_how
from .inputs import Evidence
from .marks import Figure
from .markup import tag
from .numbers import histogram, risk_coverage, roc
from .ordering import risk_coverage_figure, roc_figure
from .outcome_figures import policies_figure, reliability_figure, savings_figure
from .section import Section
from .tables import bins_table, folded, histogram_table, policies_table, risk_coverage_table, roc_table, savings_table
from .words import area, area_of, counted, meaning_of, number, percent, percent_of, sentence

_NO_DEEPER = (
    "Not drawn: what going deeper would have given was not recorded for every draft. With `deeper_correct` and "
    "`deeper_tokens` in the records this section shows what the gate saves, and what that costs."
)


def found(section: Section, evidence: Evidence) -> None:
    """The headline."""
    section.add(headline(evidence))


def signal(section: Section, evidence: Evidence) -> None:
    """Right and wrong drafts by the signal."""
    bars, profile = histogram(evidence.values, evidence.observations.correct), evidence.profile
    meaning = meaning_of(profile.signal)
    section.say(meaning if "confident" in meaning else f"{meaning} Lower means more confident.".strip())
    none = [f"`{name}`" for name, threshold in profile.thresholds.items() if threshold.value is None]
    section.draw(
        distribution(evidence, bars),
        f"The {counted(len(evidence.values), 'calibration record')}; the thresholds are made from them.",
        _learned_from(evidence),
        "A gate helps as far as the two sides differ.",
        f"{counted(bars.beyond, 'value')} farther out stand in the outermost bars." if bars.beyond else "",
        f"Without a threshold, and so not drawn: {', '.join(none)}; the table of thresholds says why."
        if none
        else "",
        "From where it says `give up` on, drafts are handed over." if _gives_up(evidence) else "",
        "" if evidence.usable else "The profile is unusable, so a gate uses none of these thresholds.",
    )
    section.add(folded("Counts as a table", histogram_table(bars)))


def _learned_from(evidence: Evidence) -> str:
    """A warning where the signal has seen some of the records that are drawn."""
    if evidence.profile.learned is None:
        return ""
    return "Some of the records are those that the signal's weights were learned from, which flatters it."


def _gives_up(evidence: Evidence) -> bool:
    thresholds = [*evidence.profile.thresholds.values(), evidence.profile.abstain]
    own = any(threshold is not None and threshold.abstain_from is not None for threshold in thresholds)
    return own or (thresholds[-1] is not None and thresholds[-1].value is not None)


def savings(section: Section, evidence: Evidence) -> None:
    """Savings against accuracy."""
    curve = evidence.evaluation.curve
    if curve is None:
        section.say(_NO_DEEPER)
    else:
        way = curve.share_of_way
        section.say(
            f"Averaged over all shares accepted, accuracy is {percent(curve.area)} by the signal's order, "
            f"{percent(curve.area_random)} at random and {percent(curve.area_oracle)} by the oracle: "
            + (
                "the oracle is no better than random acceptance here."
                if way is None
                else f"the signal covers {percent_of(way)} of the way from random to oracle."
            )
        )
        _savings_figures(section, evidence)
    if evidence.evaluation.policies:
        section.add(tag("h3", "Policy by policy"))
        section.draw(
            policies_figure(evidence),
            replayed_how(evidence),
            "A method without a threshold sends every draft deeper and saves nothing.",
            "" if curve is None else "Accuracy is drawn as points of difference to always going deeper.",
            "Bars are 95 % intervals; differences are paired by record.",
        )
        section.add(policies_table(evidence))


def _savings_figures(section: Section, evidence: Evidence) -> None:
    curve = evidence.evaluation.curve
    if curve is None:
        return
    if curve.saved is not None:
        figure = savings_figure(evidence, curve, tokens=True)
        section.draw(
            figure,
            "Up and to the right is better; bars are 95 % intervals.",
            _axis_note(figure),
            "Always going deeper pays for the draft as well."
            if evidence.evaluation.deeper_includes_draft
            else "Always going deeper writes no draft, so one that is not accepted is spent in vain: below zero a "
            "gate costs more than it saves.",
        )
    figure = savings_figure(evidence, curve, tokens=False)
    section.draw(
        figure,
        "Tokens of both branches were not recorded, so the share accepted stands in for savings."
        if curve.saved is None
        else "The same by the share of drafts accepted.",
        _axis_note(figure),
        "What the oracle reaches is the most that any order could.",
    )
    section.add(folded("Points of the curve as a table", savings_table(evidence)))


def _axis_note(figure: Figure) -> str:
    low, high = figure.layout["yaxis"]["range"]
    if low <= 0 and high >= 1:
        return ""
    return f"The accuracy axis runs from {low:.0%} to {min(high, 1):.0%}, not from 0% to 100%."


def risk(section: Section, evidence: Evidence) -> None:
    """Errors among accepted drafts."""
    curve = risk_coverage(evidence.values, evidence.observations.correct)
    threshold, figures = evidence.profile.thresholds.get("risk"), evidence.figures("risk")
    if threshold is not None:
        section.say(
            f"`risk`: {threshold.guarantee}."
            if threshold.guarantee
            else sentence(threshold.reason or "risk has no threshold", "risk")
        )
    figure = risk_coverage_figure(evidence, curve)
    top = figure.layout["yaxis"]["range"][1]
    section.draw(
        figure,
        "How often accepted drafts are wrong when the most confident share is accepted.",
        _learned_from(evidence),
        f"The upright axis ends at {top:.0%}." if top < 1 else "",
        "In the replay `risk` accepted no draft, so it has no point here."
        if figures is not None and figures.risk is None
        else "",
    )
    section.add(folded("Points of the curve as a table", risk_coverage_table(curve)))


def order(section: Section, evidence: Evidence) -> None:
    """How well the signal orders drafts."""
    curve, profile = roc(evidence.values, evidence.observations.correct), evidence.profile
    if curve is None or profile.auroc is None:
        which = "right" if evidence.observations.correct.all() else "wrong"
        section.say(f"Not drawn: all drafts are {which}, and an ROC curve compares right with wrong ones.")
        return
    section.say(
        f"AUROC {area_of(profile.auroc, profile.auroc_interval)}: the probability that a right draft is more "
        f"confident than a wrong one; 0.5 is chance."
    )
    if profile.auroc_out_of_fold is not None:
        outside = area(profile.auroc_out_of_fold)
        section.say(f"On folds that had no part in choosing the signal it is {outside}: expect that on new drafts.")
    looks = sum(candidate.auroc is not None for candidate in profile.candidates)
    section.draw(
        roc_figure(curve),
        "On the calibration records.",
        _learned_from(evidence),
        f"The same records chose this signal among {looks}: the curve flatters it a little." if looks > 1 else "",
    )
    section.add(folded("Points of the curve as a table", roc_table(curve)))


def reliability(section: Section, evidence: Evidence) -> None:
    """What a value means, and what going deeper adds."""
    bins, abstain = refinability(evidence.observations, evidence.profile.signal), evidence.profile.abstain
    section.say(
        f"{counted(len(bins), 'bin')} of about equally many drafts, drawn at the median of each. If the signal means "
        f"something, the share of right drafts falls from left to right."
        if len(bins) > 1
        else f"{counted(len(evidence.values), 'draft')} make one bin: too few to see a trend."
    )
    if evidence.observations.deeper_correct is None:
        section.say("What going deeper adds is not drawn: `deeper_correct` is not in every record.")
    elif abstain is not None:
        section.say(
            "Where the gain is not above zero, going deeper burns tokens for nothing.",
            f"Giving up from {number(abstain.value)} on: {abstain.guarantee}."
            if abstain.value is not None
            else sentence(abstain.reason or ""),
        )
    section.draw(
        reliability_figure(evidence, bins),
        "Bars are 95 % intervals: Wilson's for shares, Tango's for the paired gain."
        if evidence.observations.deeper_correct is not None
        else "Bars are Wilson's 95 % intervals.",
    )
    section.add(bins_table(bins))
