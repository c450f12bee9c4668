"""What was found, in the sentences of somebody who has no interest in the outcome."""

from __future__ import annotations

from collections.abc import Iterator

from .. import ALWAYS, NEVER, Estimate, PolicyFigures
from .inputs import Evidence
from .markup import Html, bullets, join, paragraphs, prose, tag
from .words import area, area_of, counted, number, percent, percent_of, points, sentence, unit_of

_VERDICTS = {
    "usable": "Usable: the signal tells right from wrong drafts.",
    "weak": "Weak: it points the right way, but chance is not ruled out.",
    "unusable": "Unusable: do not gate by this signal.",
}


def headline(evidence: Evidence) -> Html:
    """The first section: the result, the verdict, what is shown and what is not."""
    profile = evidence.profile
    verdict = tag(
        "div",
        tag("p", tag("b", _VERDICTS[profile.verdict])),
        tag("p", prose(sentence(profile.verdict_reason, profile.signal))),
        class_=f"verdict {profile.verdict}",
    )
    lists = (("Shown by these records", "yes", [*_shown(evidence)]), ("Not shown", "no", [*_not_shown(evidence)]))
    columns = (tag("div", tag("h3", title), bullets(*texts), class_=kind) for title, kind, texts in lists if texts)
    notes = join(tag("h3", "Notes on the records"), bullets(*map(sentence, profile.notes))) if profile.notes else ""
    return join(
        tag("p", prose(result(evidence)), class_="lead"),
        verdict,
        _facts(evidence),
        tag("div", *columns, class_="shown"),
        notes,
    )


def result(evidence: Evidence) -> str:
    """The result in one or two sentences."""
    method, figures = evidence.method, evidence.figures(evidence.method)
    if not evidence.usable:
        return (
            "A gate with this profile accepts nothing: every draft goes deeper, and no tokens are saved. "
            "That is on purpose, for the records do not show that the signal tells right from wrong drafts."
        )
    if method is None or figures is None:
        return "No method found a threshold for these records: every draft goes deeper, and no tokens are saved."
    accepted = f"Accepting with `{method}` takes {percent_of(figures.accepted)} of the drafts as final"
    if figures.accuracy_gain is None:
        wrong = f", of which {percent_of(figures.risk)} are wrong" if figures.risk else ""
        return (
            f"{accepted}{wrong}. What going deeper would have made of them was not recorded, so neither savings nor "
            f"a loss of accuracy can be shown."
        )
    accuracy = f"at an accuracy difference of {points(figures.accuracy_gain)} points against always going deeper"
    if figures.saved is None:
        return f"{accepted}, {accuracy}."
    if figures.saved.value < 0:
        more = Estimate(-figures.saved.value, -figures.saved.high, -figures.saved.low)
        pays = "does not pay here: it " if more.low > 0 else ""
        return f"Accepting with `{method}` {pays}spends {percent_of(more)} more tokens, {accuracy}."
    return f"Accepting with `{method}` saves {percent_of(figures.saved)} of the tokens, {accuracy}."


def replayed_how(evidence: Evidence) -> str:
    """On which records the policies were tried."""
    evaluation, n = evidence.evaluation, counted(evidence.evaluation.records, "record")
    if evaluation.folds is None:
        return f"Policies were replayed over {n} that no threshold was made from."
    return (
        f"Policies were replayed over {n} in {evaluation.folds} folds: each is decided by a calibration on the "
        f"others, so no draft is judged by a threshold that it helped to make."
    )


def _facts(evidence: Evidence) -> Html:
    profile, n = evidence.profile, len(evidence.observations)
    right, unit = int(evidence.observations.correct.sum()), unit_of(profile.signal)
    auroc = "not defined" if profile.auroc is None else area_of(profile.auroc, profile.auroc_interval)
    if profile.auroc_out_of_fold is not None:
        auroc += f"; {area(profile.auroc_out_of_fold)} out of fold"
    named = f"{profile.signal}{f' ({unit})' if unit else ''}"
    facts = {
        "Model": profile.key.model,
        "Task": profile.key.task,
        "Signal": f"{named}, chosen automatically" if profile.chosen_signal else named,
        "Records": f"{n:,}: {right:,} right, {n - right:,} wrong",
        "AUROC": auroc,
        "Cohen's d": number(profile.cohens_d),
    }
    return join(
        tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts.items()), class_="facts"),
        paragraphs(f"{replayed_how(evidence)} Square brackets hold 95 % intervals."),
    )


def _shown(evidence: Evidence) -> Iterator[str]:
    profile, method, figures = evidence.profile, evidence.method, evidence.figures(evidence.method)
    if profile.verdict == "usable":
        yield f"`{profile.signal}` tells right from wrong drafts better than chance."
    if method is None or figures is None:
        return
    guarantee = profile.thresholds[method].guarantee
    if guarantee:
        yield f"`{method}`: {guarantee}."
    saved, gain, chance = figures.saved, figures.accuracy_gain, figures.over_random
    if saved is not None and saved.low > 0:
        yield f"`{method}` saves tokens: at least {percent(saved.low)} by its interval."
    if saved is not None and saved.high < 0:
        yield f"`{method}` costs tokens: at least {percent(-saved.high)} more by its interval."
    if figures.not_inferior:
        margin = evidence.evaluation.margin * 100
        yield f"`{method}` loses at most {margin:g} points of accuracy against always going deeper."
    if gain is not None and gain.high < 0:
        yield f"`{method}` is less accurate than always going deeper ({points(gain)} points)."
    if chance is not None and chance.low > 0:
        yield f"`{method}` chooses better what to accept than chance does ({points(chance)} points)."


def _not_shown(evidence: Evidence) -> Iterator[str]:
    profile, method, figures = evidence.profile, evidence.method, evidence.figures(evidence.method)
    if profile.verdict != "usable":
        yield f"That `{profile.signal}` tells right from wrong drafts: chance is not ruled out."
    for name in ("risk", "noninferior"):
        threshold = profile.thresholds.get(name)
        if threshold is not None and threshold.value is None:
            yield sentence(threshold.reason or f"{name} has no threshold", name)
    yield from _deeper_not_shown(evidence)
    if method is not None and figures is not None:
        yield from _not_shown_of(evidence, method, figures)


def _deeper_not_shown(evidence: Evidence) -> Iterator[str]:
    always, never = evidence.figures(ALWAYS), evidence.figures(NEVER)
    if evidence.observations.deeper_correct is None:
        yield "What going deeper would have given: `deeper_correct` is not in every record."
    elif (
        always is not None and never is not None and never.accuracy_gain is not None and never.accuracy_gain.high >= 0
    ):
        difference = points(never.accuracy_gain)
        yield f"That going deeper pays at all here: without it accuracy differs by {difference} points."


def _not_shown_of(evidence: Evidence, method: str, figures: PolicyFigures) -> Iterator[str]:
    saved, chance = figures.saved, figures.over_random
    if saved is not None and saved.low <= 0 <= saved.high:
        yield f"That `{method}` saves tokens: {percent_of(saved)}."
    if figures.not_inferior is False:
        yield (
            f"That `{method}` stays within {evidence.evaluation.margin * 100:g} points of always going deeper: its "
            f"interval reaches further ({points(figures.accuracy_gain)})."
        )
    better = f"That `{method}` chooses better what to accept than chance does"
    if chance is not None and chance.low <= 0:
        yield f"{better} ({points(chance)} points)."
    if chance is None and figures.accuracy_gain is not None:
        yield f"{better}: in the replay it accepts all or nothing."
