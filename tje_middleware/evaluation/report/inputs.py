"""What the report is about: everything that its sections draw on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...calibration.profile import CalibrationProfile
from ...errors import CalibrationError
from ...gate.decision import Route
from ...logprobs.arrays import FloatArray
from ...records.columns import Observations
from .. import Evaluation, PolicyFigures
from ..replay import values_of
from ..sample_size import LearningCurve
from .heatmap import DraftText

# Which method's figures stand in the headline: guarantees before rules without any.
_PREFERRED = ("noninferior", "risk", "cost", "bayes", "mean", "info", "universal")


@dataclass(frozen=True)
class Evidence:
    """What the report is about.

    Attributes:
        evaluation: The replay, with the profile.
        observations: The records behind it, with the profile's signal among their signals.
        curve: How little a calibration would have done; None: not computed.
        drafts: Drafts with their texts.
    """

    evaluation: Evaluation
    observations: Observations
    curve: LearningCurve | None
    drafts: Sequence[DraftText]

    @classmethod
    def gather(
        cls,
        evaluation: Evaluation,
        observations: Observations,
        curve: LearningCurve | None,
        drafts: Sequence[DraftText],
    ) -> Evidence:
        """Put together; a learned signal is computed.

        Raises:
            CalibrationError: there are no records, or they lack the profile's signal.
        """
        if not len(observations):
            raise CalibrationError("there are no records to report on")
        profile = evaluation.profile
        observations = observations.with_signal(profile.signal, values_of(profile, observations))
        return cls(evaluation, observations, curve, drafts)

    @property
    def profile(self) -> CalibrationProfile:
        """What calibration found."""
        return self.evaluation.profile

    @property
    def values(self) -> FloatArray:
        """(n,) the profile's signal, in its unit."""
        return self.observations.signals[self.profile.signal]

    @property
    def usable(self) -> bool:
        """Whether a gate would use this profile."""
        return self.profile.verdict != "unusable"

    @property
    def methods(self) -> list[str]:
        """The methods that were replayed, in the profile's order."""
        return [name for name in self.profile.thresholds if name in self.evaluation.policies]

    @property
    def method(self) -> str | None:
        """The method in the headline; None where a gate uses none, or none has both a threshold and figures."""
        if not self.usable:
            return None
        found = [name for name in self.methods if self.profile.thresholds[name].value is not None]
        return next((name for name in _PREFERRED if name in found), found[0] if found else None)

    def figures(self, policy: str | None) -> PolicyFigures | None:
        """Of a policy; None where it was not replayed."""
        return None if policy is None else self.evaluation.policies.get(policy)

    def route(self, value: float) -> Route:
        """Where a gate with the headline's method and ``abstain=True`` would send a draft with this signal."""
        if self.method is None:
            return Route.DEEPER
        threshold = self.profile.thresholds[self.method]
        if threshold.value is not None and value <= threshold.value:
            return Route.FINAL
        given_up = self.profile.hopeless_from(self.method)
        return Route.ABSTAIN if given_up is not None and value >= given_up else Route.DEEPER
