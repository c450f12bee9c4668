"""A profile: what calibration found for one key, and the alarms about it.

Plain data, validated where it is read (disk, network, user). It is computed in :mod:`.calibration`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, PositiveInt

from ..errors import CalibrationError, NoThreshold
from ..logprobs import SequenceLogprobs
from ..signals import measure, resolve_signal
from ..signals.learned import LearnedSignal
from .key import ProfileKey
from .reference import ReferenceDistribution
from .settings import CalibrationSettings
from .thresholds.methods import METHODS

#: ``drift``: the signal is distributed otherwise than in the profile's records. ``risk``: more of the accepted
#: drafts are wrong than the method promised.
AlarmKind = Literal["drift", "risk"]


@dataclass(frozen=True)
class Alarm:
    """One alarm about one profile; it holds until it is dismissed or another version is promoted.

    Attributes:
        kind: What is wrong.
        detail: What is wrong, as a sentence with the numbers behind it.
        version: The registry's version of the profile; None where it was not stored.
        raised_at: When the alarm was raised.
        raised_by: The host and process that raised it.
        evidence: The numbers behind it, by name.
    """

    kind: AlarmKind
    detail: str
    version: int | None = None
    raised_at: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    raised_by: str = ""
    evidence: Mapping[str, float] = field(default_factory=dict)


Verdict = Literal["usable", "weak", "unusable"]

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Threshold(BaseModel):
    """A method's threshold in the signal's unit, or the reason why it has none."""

    model_config = _FROZEN

    value: FiniteFloat | None = None
    reason: str | None = Field(default=None, description="Why there is no value.")
    interval: tuple[FiniteFloat, FiniteFloat] | None = Field(
        default=None, description="95 %, bootstrap over records; None: not computed."
    )
    found: float | None = Field(
        default=None, ge=0, le=1, description="Share of the bootstrap resamples in which there is such a threshold."
    )
    guarantee: str | None = Field(default=None, description="What holds for it, and with which probability.")
    abstain_from: FiniteFloat | None = Field(
        default=None, description="The rule's upper threshold: from here on it gives up; None: it never does."
    )


class Candidate(BaseModel):
    """One signal that ``"auto"`` tried. An AUROC is that of ordering right before wrong drafts."""

    model_config = _FROZEN

    signal: str
    auroc: FiniteFloat | None = Field(default=None, description="Over all records.")
    p_value: FiniteFloat | None = Field(default=None, description="One-sided, under permuted labels, alone.")
    p_adjusted: FiniteFloat | None = Field(default=None, description="The same, against the best of all candidates.")
    auroc_out_of_fold: FiniteFloat | None = Field(default=None, description="Cross-validated.")
    chosen: float | None = Field(default=None, description="Share of the folds on which it was chosen.")
    reason: str | None = Field(default=None, description="Why it could not be looked at.")


class CalibrationProfile(BaseModel):
    """What calibration found for one key. Means, sds and thresholds are in the signal's unit (bits)."""

    model_config = _FROZEN

    schema_version: Literal[1, 2, 3] = 3
    key: ProfileKey
    version: PositiveInt | None = Field(default=None, description="Given by the registry; None: not stored.")
    created_at: datetime = Field(default_factory=lambda: datetime.now(timezone.utc))
    n_correct: NonNegativeInt
    n_incorrect: NonNegativeInt
    mean_correct: FiniteFloat | None
    sd_correct: FiniteFloat | None
    mean_incorrect: FiniteFloat | None
    sd_incorrect: FiniteFloat | None
    cohens_d: FiniteFloat | None = Field(description="Positive when incorrect drafts are more uncertain.")
    welch_p: FiniteFloat | None = Field(description="Two-sided, of equal means.")
    mann_whitney_p: FiniteFloat | None = Field(description="Two-sided, of equal distributions.")
    auroc: FiniteFloat | None = Field(description="P(a correct draft is more confident than an incorrect one).")
    auroc_interval: tuple[FiniteFloat, FiniteFloat] | None = Field(description="95 %, Newcombe's method 5.")
    thresholds: dict[str, Threshold]
    verdict: Verdict
    verdict_reason: str
    chosen_signal: str | None = Field(default=None, description='The signal behind "auto"; None: the key names it.')
    learned: LearnedSignal | None = Field(default=None, description="The weights, where that signal is learned.")
    auroc_out_of_fold: FiniteFloat | None = Field(default=None, description="Of automatic choice, cross-validated.")
    candidates: tuple[Candidate, ...] = Field(default=(), description="What automatic choice looked at, best first.")
    abstain: Threshold | None = Field(default=None, description="From which value on going deeper is hopeless.")
    settings: CalibrationSettings | None = Field(default=None, description="What calibration was asked for.")
    notes: tuple[str, ...] = Field(default=(), description="What is odd about the records.")
    reference: ReferenceDistribution | None = Field(
        default=None, description="The signal over the records; None: of an earlier release, drift cannot be seen."
    )
    records_fingerprint: str | None = Field(
        default=None, description="SHA-256 of what the thresholds were computed from; None: not recorded."
    )

    @property
    def signal(self) -> str:
        """Name of the signal that the thresholds are of."""
        return self.chosen_signal or self.key.signal

    @property
    def needed_signals(self) -> list[str]:
        """Names of the signals to measure: those that a learned signal weighs, else the signal itself."""
        return [part.signal for part in self.learned.features] if self.learned else [self.signal]

    def require_signal(self) -> None:
        """Refuse a signal that is not known in this process.

        Raises:
            SignalError: the signal is not known, or one that a learned signal weighs.
        """
        for name in self.needed_signals:
            resolve_signal(name)

    def measure(self, sequence: SequenceLogprobs) -> float:
        """The signal of a draft over the key's ``top_k`` alternatives, in the signal's unit.

        Raises:
            SignalError: the signal is unknown here, or cannot be computed from these logprobs.
        """
        sequence = sequence.truncated(self.key.top_k)
        return self.learned(sequence) if self.learned else measure(self.signal, sequence)

    def hopeless_from(self, method: str) -> float | None:
        """The value from which on a gate with ``abstain=True`` gives drafts up by this method; None: it never does.

        A method that has its own ``abstain_from`` decides that alone, also where it has found none; for the other
        methods it is the profile's ``abstain`` threshold.
        """
        own = self.thresholds[method].abstain_from
        declared = METHODS.get(method)  # None: a method of another release
        if own is not None or self.abstain is None or (declared is not None and declared.has_own_abstention):
            return own
        return self.abstain.value

    def expected_deeper_tokens(self, threshold: float) -> float | None:
        """Mean cost of going deeper with a draft that the threshold accepts (tokens); None: not in the records."""
        return self.reference.expected_deeper_tokens(threshold) if self.reference else None

    def threshold(self, method: str) -> float:
        """The threshold of one method, in the signal's unit.

        Raises:
            NoThreshold: the method has none for these records; the message says why.
            CalibrationError: there is no such method.
        """
        found = self.thresholds.get(method)
        if found is None:
            raise CalibrationError(
                f"there is no method {method!r} in this profile; there are {', '.join(self.thresholds)} "
                f"(a profile of an earlier release lacks later methods: calibrate anew)"
            )
        if found.value is None:
            usable = [name for name, threshold in self.thresholds.items() if threshold.value is not None]
            raise NoThreshold(
                f"method {method!r} has no threshold for {self.key}: {found.reason} "
                f"(methods that have one: {', '.join(usable) or 'none'})"
            )
        return found.value
