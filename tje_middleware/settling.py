"""What becomes of a decision: it is written down, told to telemetry, and held against the profile's records."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypedDict

from typing_extensions import Unpack

from . import telemetry
from .alarms import Alarm
from .decision import GateDecision
from .origin import whoami
from .profile import CalibrationProfile, ProfileLookup
from .savings import savings_of
from .sources import DecisionSink, ProfileSource

if TYPE_CHECKING:
    from .drift import DriftMonitor, DriftPolicy
    from .reference import ReferenceDistribution


class Circumstances(TypedDict, total=False):
    """What a gate does not know of its own decision; as ``DecisionSink.record`` has it."""

    latency_seconds: float | None
    draft_model: str | None
    deeper_model: str | None
    prompt: str | None
    answer: str | None


class Settlement:
    """Where one gate's decisions go, and what they show together; copies of a gate share it.

    Args:
        source: Where the gate has its profile from.
        ledger: Where decisions are written down; None: nowhere.
        policy: By which live drafts are compared with the profile's records; None: the default one.
        compares: Whether they are compared at all.
    """

    def __init__(
        self, source: ProfileSource, *, ledger: DecisionSink | None, policy: DriftPolicy | None, compares: bool
    ) -> None:
        self.ledger = ledger
        self._max_risk = policy.max_risk if policy is not None else None
        self._includes_draft = bool(getattr(ledger, "deeper_includes_draft", False))
        self._source = source
        self._policy = policy
        self._compares = compares
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._compared: CalibrationProfile | None = None
        self._censored_above: float | None = None
        self._monitor: DriftMonitor | None = None
        self._raised: Alarm | None = None

    def alarm(self, found: ProfileLookup) -> Alarm | None:
        """The alarm about a profile, raised here or by another process; None: there is none."""
        if not self._compares:
            return None
        if self._raised is not None and _is_same(self._compared, found.profile):
            return self._raised
        return found.alarm

    def settle(self, decision: GateDecision, *, may_abort: bool, **circumstances: Unpack[Circumstances]) -> None:
        """Take a decision in, once.

        Args:
            decision: With what is known by now.
            may_abort: Whether its draft would have been stopped had it been sure to be rejected.
            **circumstances: Of the answer.
        """
        profile = self._profile_of(decision)
        self._record(decision, profile, circumstances)
        telemetry.emit(
            decision,
            latency_seconds=circumstances.get("latency_seconds"),
            draft_model=circumstances.get("draft_model"),
            deeper_model=circumstances.get("deeper_model"),
            tokens_saved=savings_of(decision, profile, deeper_includes_draft=self._includes_draft).tokens,
        )
        if self._compares and profile is not None and decision.signal_value is not None:
            self._observe(decision.signal_value, profile, decision.threshold, may_abort=may_abort)

    def amend(self, decision: GateDecision, **circumstances: Unpack[Circumstances]) -> None:
        """Write down what has become of a decision since it was settled."""
        self._record(decision, self._profile_of(decision), circumstances)

    def _record(
        self, decision: GateDecision, profile: CalibrationProfile | None, circumstances: Circumstances
    ) -> None:
        if self.ledger is not None:
            self.ledger.record(decision, profile=profile, risk_limit=self._max_risk, **circumstances)

    def _profile_of(self, decision: GateDecision) -> CalibrationProfile | None:
        """What a decision was made by; None where another was promoted meanwhile."""
        profile = self._source.lookup().profile
        return profile if profile is not None and profile.version == decision.profile_version else None

    def _observe(
        self, value: float, profile: CalibrationProfile, threshold: float | None, *, may_abort: bool
    ) -> None:
        if profile.reference is None:  # calibrated by an earlier release
            return
        if self._process != os.getpid():  # a forked one sees drafts of its own, and a lock that may be held for ever
            self._forget()
        with self._lock:
            if not _is_same(self._compared, profile):
                self._compared, self._raised = profile, None
                # Drafts that may be stopped show no more of a value above the threshold than that it is above.
                self._censored_above = threshold if may_abort else None
                self._monitor = self._made_monitor(profile.reference, threshold)
            is_hidden = may_abort and threshold != self._censored_above
            if self._monitor is None or self._raised is not None or is_hidden:
                return
            alarm = self._monitor.observe(value)
            if alarm is None:
                return
            self._raised = alarm = replace(alarm, version=profile.version, raised_by=whoami())
        self._source.report_alarm(alarm)

    def _made_monitor(self, reference: ReferenceDistribution, threshold: float | None) -> DriftMonitor:
        from .drift import DriftMonitor  # noqa: PLC0415 (not before a gate's first answer)

        return DriftMonitor(reference, self._policy, threshold=threshold, censored_above=self._censored_above)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._compared = self._monitor = None
        self._process = os.getpid()

    def __reduce__(self) -> tuple[object, ...]:
        # Another process sees drafts of its own.
        made = partial(type(self), ledger=self.ledger, policy=self._policy, compares=self._compares)
        return made, (self._source,)


def _is_same(profile: CalibrationProfile | None, other: CalibrationProfile | None) -> bool:
    """Whether two are one version of one key, be it read twice."""
    if profile is None or other is None or profile is other:
        return profile is other
    return (profile.version, profile.created_at, profile.key) == (other.version, other.created_at, other.key)
