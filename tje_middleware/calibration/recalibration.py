"""Recalibrating a profile from feedback on live drafts; the signal stays the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import CalibrationError
from ..logprobs.arrays import FloatArray
from ..records.columns import Observations
from .calibration import calibrate_observations
from .profile import CalibrationProfile, Threshold
from .reference import reference_of


@dataclass(frozen=True)
class LabelledDecision:
    """A decided draft with feedback on whether it was right.

    Attributes:
        signal_value: The signal of the whole draft, in the signal's unit. A draft that was stopped early has only a
            lower bound, and must not be used here.
        correct: Whether the draft was right, whichever answer was taken in the end.
        tokens: Tokens that the draft spent; None where they were not counted.
        deeper_correct: Whether the deeper answer was right; None where there is none, or no feedback on it.
        deeper_tokens: Tokens that the deeper branch spent; None where it did not run or they were not counted.
    """

    signal_value: float
    correct: bool
    tokens: int | None = None
    deeper_correct: bool | None = None
    deeper_tokens: int | None = None


def recalibrate(
    profile: CalibrationProfile,
    labelled: Iterable[LabelledDecision],
    *,
    threshold: float,
    share_accepted: float | None = None,
) -> CalibrationProfile:
    """Calibrate a profile from feedback, with the settings, the signal and the weights of the profile in use.

    Accepted drafts get feedback more often than rejected ones, but thresholds need a fair sample of all drafts. So
    drafts are removed at random from the side of the threshold with too much feedback, until the share of accepted
    drafts is ``share_accepted``.

    Args:
        profile: The profile that the drafts were decided by.
        labelled: The drafts with feedback.
        threshold: The value up to which they were accepted, in the signal's unit.
        share_accepted: The share that the threshold accepts of all drafts decided in that time, with feedback or
            without; None where it is unknown: then no draft is removed, and a note says so.

    Returns:
        A profile that is not stored anywhere: store it as a candidate.

    Raises:
        CalibrationError: there is no feedback, or none on one side of the threshold.
    """
    if share_accepted is not None and not 0 <= share_accepted <= 1:
        raise CalibrationError(f"the share of accepted drafts is between 0 and 1, not {share_accepted}")
    every = list(labelled)
    accepted = [each for each in every if each.signal_value <= threshold]
    rejected = [each for each in every if not each.signal_value <= threshold]
    _require_both_sides(accepted, rejected, threshold, share_accepted)
    seed = profile.settings.seed if profile.settings else 0
    kept = every if share_accepted is None else _in_proportion(accepted, rejected, share_accepted, seed)
    found = calibrate_observations(
        _columns(kept, profile.signal),
        # The signal was chosen or learned from other records, so it needs no correction here.
        key=profile.key.model_copy(update={"signal": profile.signal}),
        settings=profile.settings,
    )
    deeper_tokens = [np.nan if each.deeper_tokens is None else each.deeper_tokens for each in kept]
    return found.model_copy(
        update={
            "key": profile.key,
            "chosen_signal": profile.chosen_signal,
            "learned": profile.learned,
            "reference": reference_of(
                np.array([each.signal_value for each in kept]),
                tokens=_whole([each.tokens for each in kept]),
                deeper_tokens=np.array(deeper_tokens, dtype=np.float64),
            ),
            "notes": (
                *found.notes,
                *_lost(profile, found),
                *_notes(profile, every, kept, len(accepted), share_accepted),
            ),
        }
    )


def _require_both_sides(
    accepted: Sequence[LabelledDecision],
    rejected: Sequence[LabelledDecision],
    threshold: float,
    share_accepted: float | None,
) -> None:
    if not accepted and not rejected:
        raise CalibrationError(
            "there is no feedback to recalibrate from that says whether drafts were right: "
            "ledger.feedback(decision_id, draft_correct=...), or tje ledger feedback ID --draft-correct; what is "
            "said of the answer (correct=) counts only where the draft was it, which after a drift alarm none is"
        )
    if not rejected and share_accepted != 1:
        raise CalibrationError(
            f"all {len(accepted)} drafts with feedback were accepted (signal up to {threshold:g}): how often drafts "
            f"above it are right cannot be known from them. Grade some rejected drafts too, "
            f"ledger.feedback(decision_id, draft_correct=...), or let a gate that only annotates run for a while"
        )
    if not accepted and share_accepted != 0:
        raise CalibrationError(
            f"all {len(rejected)} drafts with feedback were rejected (signal above {threshold:g}): grade some "
            f"accepted ones too, ledger.feedback(decision_id, correct=...)"
        )


def _in_proportion(
    accepted: Sequence[LabelledDecision], rejected: Sequence[LabelledDecision], share_accepted: float, seed: int
) -> list[LabelledDecision]:
    """As many drafts of both sides as possible, such that ``share_accepted`` of them are accepted ones."""
    rng = np.random.default_rng(seed)
    shares = (share_accepted, 1 - share_accepted)
    sides = (accepted, rejected)
    total = min(len(side) / share for side, share in zip(sides, shares, strict=True) if share > 0)
    kept: list[LabelledDecision] = []
    for side, share in zip(sides, shares, strict=True):
        count = min(len(side), round(total * share))
        kept += [side[place] for place in np.sort(rng.choice(len(side), size=count, replace=False))]
    return [kept[place] for place in rng.permutation(len(kept))]


def _columns(labelled: Sequence[LabelledDecision], signal: str) -> Observations:
    deeper_correct = _whole([each.deeper_correct for each in labelled])
    told = {
        name: sum(getattr(each, name) is not None for each in labelled)
        for name in ("tokens", "deeper_correct", "deeper_tokens")
    }
    return Observations(
        correct=np.array([each.correct for each in labelled], dtype=np.bool_),
        signals={signal: np.array([each.signal_value for each in labelled], dtype=np.float64)},
        tokens=_whole([each.tokens for each in labelled]),
        deeper_correct=None if deeper_correct is None else deeper_correct > 0,
        deeper_tokens=_whole([each.deeper_tokens for each in labelled]),
        partial={name: count for name, count in told.items() if 0 < count < len(labelled)},
    )


def _whole(column: Sequence[float | None]) -> FloatArray | None:
    told = [value for value in column if value is not None]
    return np.array(told, dtype=np.float64) if len(told) == len(column) else None


def _lost(profile: CalibrationProfile, found: CalibrationProfile) -> Iterator[str]:
    """Notes on the methods that have a threshold in the profile in use, and none in the new one."""
    for name, threshold in _rules(profile).items():
        now = _rules(found).get(name)
        if threshold.value is not None and now is not None and now.value is None:
            yield f"{name} has no threshold any more: {now.reason}"


def _rules(profile: CalibrationProfile) -> dict[str, Threshold]:
    giving_up = {} if profile.abstain is None else {"abstain": profile.abstain}
    return {**profile.thresholds, **giving_up}


def _notes(
    profile: CalibrationProfile,
    every: Sequence[LabelledDecision],
    kept: Sequence[LabelledDecision],
    accepted: int,
    share_accepted: float | None,
) -> tuple[str, ...]:
    version = "an unstored profile" if profile.version is None else f"version {profile.version}"
    source = (
        f"calibrated on feedback about {len(every)} live drafts ({accepted} accepted, {len(every) - accepted} "
        f"rejected) that {version} decided; the signal is that version's"
    )
    if share_accepted is None:
        return source, (
            "it is not known how many drafts were decided without feedback: the graded ones are taken to be a fair "
            "sample of all"
        )
    if len(kept) < len(every):
        return source, (
            f"{len(kept)} of them were kept, so that {share_accepted:.1%} are accepted ones, as among all drafts"
        )
    return (source,)
