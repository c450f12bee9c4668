"""The sections behind the findings: labels, tables, drafts, and how it was computed."""

from __future__ import annotations

from ..._version import __version__
from ...gate.decision import Route
from .heatmap import heat_legend, heat_map
from .inputs import Evidence
from .learning_figure import learning_figure
from .markup import bullets, join, prose, tag
from .section import Section
from .tables import candidates_table, learning_table, thresholds_table
from .words import counted, meaning_of, number, unit_of

PAPER = "https://arxiv.org/abs/2510.08146"
_MOST_DRAFTS = 12


def labels(section: Section, evidence: Evidence) -> None:
    """How many labels it takes."""
    curve, method = evidence.curve, evidence.method
    if curve is None:
        section.say("Not drawn: no learning curve was computed. It shows how far figures spread with fewer labels.")
        return
    if curve.labels is not None:
        section.say(
            f"If the separation is what it seems, about {counted(curve.labels.needed, 'record')} show it; there are "
            f"{curve.records:,}."
        )
    if not curve.sizes:
        section.say(f"Not drawn: {counted(curve.records, 'record')} are too few to draw fewer from.")
        return
    section.draw(
        learning_figure(curve, method),
        "Calibrations on random draws of few records, each tried on records that it left out.",
        f"Below, what `{method}` makes of them: without a threshold every draft goes deeper." if method else "",
        "The axis of records is logarithmic.",
    )
    section.add(learning_table(curve, method))


def thresholds(section: Section, evidence: Evidence) -> None:
    """Signals and thresholds."""
    profile, evaluation = evidence.profile, evidence.evaluation
    if profile.candidates:
        section.say("The p-value that counts is the corrected one: it allows for having looked at all of them.")
        section.add(candidates_table(evidence))
    else:
        section.say(f"The signal `{profile.signal}` was named beforehand; no other was looked at.")
    if len(evaluation.signals) > 1:
        often = ", ".join(f"`{name}` in {count}" for name, count in evaluation.signals.items())
        section.say(f"Each fold of the replay chose anew: {often} of {sum(evaluation.signals.values())}.")
    section.add(tag("h3", "Thresholds"), thresholds_table(evidence))
    if evaluation.missing:
        section.add(
            tag("h3", "What was missing in the replay"),
            bullets(*(f"`{method}`: {reason}." for method, reason in evaluation.missing.items())),
        )


def drafts(section: Section, evidence: Evidence) -> None:
    """Drafts, token by token."""
    if not evidence.drafts:
        section.say("Not shown: the records hold no token texts, or none were given.")
        return
    method, shown = evidence.method, list(evidence.drafts)[:_MOST_DRAFTS]
    section.say(
        f"Some drafts, and where a gate by `{method}` that may give up would send them."
        if method
        else "Some drafts, and where a gate would send them: with this profile it accepts none."
    )
    section.add(heat_legend())
    for draft in shown:
        section.add(heat_map(draft, Route.DEEPER if draft.signal is None else evidence.route(draft.signal)))
    if len(evidence.drafts) > len(shown):
        section.say(f"{counted(len(evidence.drafts) - len(shown), 'more draft')} not shown.")


def how(section: Section, evidence: Evidence) -> None:
    """How it was computed."""
    facts = {**_made_of(evidence), **_definitions(evidence)}
    section.add(
        tag(
            "dl",
            *(join(tag("dt", name), tag("dd", prose(text))) for name, text in facts.items()),
            class_="definitions",
        )
    )
    paper = tag("a", "arXiv 2510.08146", href=PAPER, rel="noreferrer")
    about = prose(
        "Entropy as a gate, and `mean`, `info`, `bayes`, `universal`: Sharma & Chopra, Think Just Enough, 2025, "
    )
    section.add(tag("p", about, paper, "."))


def _made_of(evidence: Evidence) -> dict[str, str]:
    profile, evaluation = evidence.profile, evidence.evaluation
    key, version = profile.key, f", version {profile.version}" if profile.version else ""
    temperature = "not recorded" if key.temperature is None else number(key.temperature)
    folds = "records of their own" if evaluation.folds is None else f"{evaluation.folds} folds"
    facts = {
        "Library": f"tje-middleware {__version__}",
        "Profile": f"{key}{version}, made {profile.created_at:%Y-%m-%d %H:%M} UTC",
        "Asked under": f"top {key.top_k} alternatives, temperature {temperature}, prompt fingerprint "
        f"{key.prompt_fingerprint or 'not recorded'}",
        "Replay": f"{counted(evaluation.records, 'record')}, {folds}, margin {evaluation.margin * 100:g} points",
    }
    if profile.settings is not None:
        given = {name: value for name, value in profile.settings.model_dump().items() if value is not None}
        prices = profile.settings.prices
        if prices is not None:
            given["prices"] = ", ".join(f"{name} {number(value)}" for name, value in prices if value is not None)
        facts["Settings"] = "; ".join(f"{name} = {value}" for name, value in given.items())
    if profile.learned is not None:
        weights = ", ".join(f"{part.signal} {number(part.weight)}" for part in profile.learned.features)
        facts["Weights of the learned signal"] = f"{weights} (nats of log-odds per standard deviation)"
    return facts


def _definitions(evidence: Evidence) -> dict[str, str]:
    name = evidence.profile.signal
    meaning, margin = meaning_of(name), evidence.evaluation.margin * 100
    unit = f" Unit: {unit_of(name)}." if unit_of(name) else ""
    return {
        "Token entropy": "Shannon entropy in bits of the alternatives at a position, renormalised over them",
        "Signal": f"`{name}`: {meaning or 'a signal of your own, lower = more confident.'}{unit}",
        "Accepted": "the share of drafts that are the answer; all others go deeper",
        "Wrong among accepted": "wrong accepted drafts over accepted drafts; `risk` keeps it below alpha",
        "Tokens saved": "one minus the completion tokens that a policy spends over those of always going deeper",
        "Accuracy difference": "share of right answers minus that of always going deeper, in points, paired",
        "Not inferior": f"its interval lies above {margin:g} points below always going deeper",
        "Against random": "accuracy minus that of accepting as many drafts at random, in points",
        "Oracle": "accepts exactly the drafts that going deeper would not improve: a bound, not a policy to be had",
        "AUROC": "the probability that a right draft has the lower signal, ties counting half",
        "Cohen's d": "difference of the class means over their pooled standard deviation; wrong minus right drafts",
        "Intervals": "95 %: Wilson for shares, Tango for paired differences of accuracy, bootstrap for savings and "
        "thresholds, Newcombe for AUROC",
    }
