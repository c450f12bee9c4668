"""When drift is called drift."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DriftPolicy:
    """How sure and how large a change must be before an alarm is raised.

    Attributes:
        alpha: Probability that one gate of one process ever raises a false alarm about one profile's signal, however
            long it runs. One alarm stops them all, so that the probabilities of several gates and processes add up:
            for m of them at most m times alpha, so choose alpha / m. Copies of a gate count as one.
        window: Newest drafts that sizes of a change are measured over.
        least_psi: Population stability index below which a change, however certain, is too small to matter; 0.1
            and 0.25 are the customary marks of a moderate and of a large one.
        least_drafts: Drafts before which no alarm is raised: an alarm reaches every process, and the first few drafts
            of one may be of a single question, asked again. Each gate counts its own: one that is made anew for every
            request never gets there, and never raises an alarm.
        max_risk: Share of the accepted drafts that may be wrong; None: what the profile promises for the method
            ``risk``, and of other methods nothing. Feedback is held against it in a ledger that shares the
            registry's database, at a level of its own: a false alarm about a version with probability at most 1 %.

    Raises:
        ValueError: a value out of its range.
    """

    alpha: float = 0.01
    window: int = 200
    least_psi: float = 0.1
    least_drafts: int = 30
    max_risk: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha is a probability between 0 and 1, not {self.alpha}")
        for name, number, least in (("window", self.window, 2), ("least_drafts", self.least_drafts, 1)):
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                raise ValueError(f"{name} is a number of drafts, at least {least}, not {number!r}")
        if not 0 <= self.least_psi < float("inf"):
            raise ValueError(f"least_psi is a number from 0 on, not {self.least_psi}")
        if self.max_risk is not None and not 0 < self.max_risk < 1:
            raise ValueError(f"max_risk is a share between 0 and 1, or None, not {self.max_risk}")
