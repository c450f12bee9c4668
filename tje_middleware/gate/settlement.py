"""Settlement of decisions: they are recorded in the ledger, told to telemetry, and compared with the records."""

from __future__ import annotations

import os
import threading
from collections import deque
from dataclasses import replace
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypedDict

from typing_extensions import Unpack

from .._process import whoami
from ..calibration.profile import Alarm, CalibrationProfile
from ..calibration.thresholds.methods import METHODS
from . import telemetry
from .decision import GateDecision, savings_of
from .sources import ProfileLookup, ProfileSource

if TYPE_CHECKING:
    from ..calibration.reference import ReferenceDistribution
    from .drift import DriftMonitor, DriftPolicy

# So many decisions are remembered as settled. A draft may be settled again, by a node of a graph that finds no
# decision in it, but soon after the first time.
_REMEMBERED = 4_096
_FIRST_SHARE = 0.9
_MOST_MONITORS = 8


class Circumstances(TypedDict, total=False):
    """Facts about an answer that its decision does not hold.

    Attributes:
        latency_seconds: From the question to the answer (seconds).
        draft_model: The model that wrote the draft; without it the draft's price is unknown.
        deeper_model: The model that wrote the deeper answer.
        deeper_includes_draft: Whether always going deeper, which savings are counted against, costs the draft as
            well, as where the deeper branch refines it.
        prompt: The text of the question; kept only by a ledger with ``texts=True``.
        answer: The text of the answer; likewise.
    """

    latency_seconds: float | None
    draft_model: str | None
    deeper_model: str | None
    deeper_includes_draft: bool | None
    prompt: str | None
    answer: str | None


class DecisionFacts(Circumstances, total=False):
    """The circumstances, and facts that the gate adds.

    Attributes:
        profile: The profile that the draft was decided by; without it the saving of an accepted draft is unknown.
        risk_limit: The promised share of accepted drafts that may be wrong (0 to 1), with which feedback is compared;
            None: no promise.
    """

    profile: CalibrationProfile | None
    risk_limit: float | None


class DecisionSink(Protocol):
    """Where decisions are recorded, such as a DecisionLedger.

    Attributes:
        texts: Whether prompts and answers are kept; False by default.
    """

    texts: bool

    def record(self, decision: GateDecision, **facts: Unpack[DecisionFacts]) -> None:
        """Store a decision soon; the last one of a ``decision_id`` counts. Never waits, never raises.

        Args:
            decision: The gate's decision, as far as it is known.
            **facts: Further facts; each of :class:`DecisionFacts` may be left out.
        """


class _Seen(NamedTuple):
    """A draft to compare with the profile's records."""

    value: float
    profile: CalibrationProfile
    threshold: float | None
    may_abort: bool


class Settlement:
    """Settles the decisions of one gate, and watches its drafts for drift; copies of a gate share it.

    Args:
        source: The source of the gate's profile.
        ledger: Where decisions are recorded; None: nowhere.
        policy: When a difference between live drafts and the records raises an alarm; None: the default policy.
        compares: Whether live drafts are compared with the records at all.
        deeper_includes_draft: Whether always going deeper costs the draft as well; None: as each decision's branch
            says.
    """

    def __init__(
        self,
        source: ProfileSource,
        *,
        ledger: DecisionSink | None,
        policy: DriftPolicy | None,
        compares: bool,
        deeper_includes_draft: bool | None,
    ) -> None:
        self.ledger = ledger
        self._source = source
        self._policy = policy
        self._compares = compares
        self._includes_draft = deeper_includes_draft
        self._compared: CalibrationProfile | None = None
        self._raised: Alarm | None = None
        self._heard = False  # whether the source had an alarm at the last look
        self._monitors: dict[float | None, DriftMonitor] = {}  # by the value above which drafts may be stopped
        # Settling never waits for a lock: a stream that the garbage collector closes settles its decision while this
        # thread may be in here. So drafts are put into a queue, which the thread that holds the lock empties.
        self._seen: deque[_Seen] = deque()
        self._taking_in = threading.Lock()
        self._process = os.getpid()
        self._told: dict[str, telemetry.Told] = {}  # by decision_id
        self._newest: deque[str] = deque()

    def alarm(self, found: ProfileLookup) -> Alarm | None:
        """The alarm about a profile, raised here or by another process; None: there is none."""
        if not self._compares:
            return None
        raised = self._raised if _is_same(self._compared, found.profile) else None
        was_alarmed, self._heard = self._heard or raised is not None, found.alarm is not None
        if was_alarmed and found.alarm is None and self._source.keeps_alarms:
            # The alarm was dismissed, so the comparison begins anew.
            self._monitors, self._raised = {}, None
            return None
        return found.alarm or raised

    def settle(
        self,
        decision: GateDecision,
        *,
        may_abort: bool,
        may_deepen: bool,
        **circumstances: Unpack[Circumstances],
    ) -> None:
        """Settle a decision; one that was settled before is only recorded again.

        Arguments are those of ``EntropyGate.settle``.
        """
        profile = self._profile_of(decision)
        self._record(decision, profile, circumstances, may_deepen=may_deepen)
        told = self._to_tell(decision, profile if may_deepen else None, circumstances)
        if not self._is_first(decision.decision_id, told):
            return
        telemetry.emit(
            decision,
            latency_seconds=circumstances.get("latency_seconds"),
            draft_model=circumstances.get("draft_model"),
            deeper_model=circumstances.get("deeper_model"),
            tokens_saved=told.tokens_saved,
        )
        value = decision.signal_value
        if self._compares and profile is not None and value is not None and isfinite(value):
            self._observe(_Seen(value, profile, decision.threshold, may_abort))

    def amend(self, decision: GateDecision, **circumstances: Unpack[Circumstances]) -> None:
        """Record changes of a decision since it was settled."""
        profile = self._profile_of(decision)
        self._record(decision, profile, circumstances)
        told = self._to_tell(decision, profile, circumstances)
        # Where another process settled the decision, its answer was not known then.
        before = self._to_tell(replace(decision, answered_by=None, deeper_usage=None), profile, circumstances)
        name = decision.decision_id
        if name is not None and not self._is_first(name, told):
            before = self._told.get(name, before)  # another thread may just have removed it
            if name in self._told:
                self._told[name] = told
        telemetry.emit_amended(
            decision,
            told=before,
            deeper_model=circumstances.get("deeper_model"),
            tokens_saved=told.tokens_saved,
        )

    def _to_tell(
        self, decision: GateDecision, profile: CalibrationProfile | None, circumstances: Circumstances
    ) -> telemetry.Told:
        saved = savings_of(decision, profile, deeper_includes_draft=self._includes(circumstances))
        return telemetry.Told(saved.tokens, decision.deeper_usage)

    def _includes(self, circumstances: Circumstances) -> bool:
        """Whether always going deeper costs the draft as well: as the user says, else as the branch says."""
        if self._includes_draft is not None:
            return self._includes_draft
        return bool(circumstances.get("deeper_includes_draft"))

    def _is_first(self, name: str | None, told: telemetry.Told) -> bool:
        """Whether no decision with this id is remembered; it is then remembered with what telemetry is told."""
        if name is None:
            return True
        if self._told.setdefault(name, told) is not told:
            return False
        self._newest.append(name)
        if len(self._newest) > _REMEMBERED:
            self._told.pop(self._newest.popleft(), None)
        return True

    def _record(
        self,
        decision: GateDecision,
        profile: CalibrationProfile | None,
        circumstances: Circumstances,
        *,
        may_deepen: bool = True,
    ) -> None:
        if self.ledger is not None:
            facts: DecisionFacts = {
                **circumstances,
                "profile": profile if may_deepen else None,
                "risk_limit": self._risk_limit(decision, profile),
                "deeper_includes_draft": self._includes(circumstances),
            }
            self.ledger.record(decision, **facts)

    def _risk_limit(self, decision: GateDecision, profile: CalibrationProfile | None) -> float | None:
        """The promised share of accepted drafts that may be wrong; None: no promise, or feedback is not compared."""
        if not self._compares:
            return None
        if self._policy is not None and self._policy.max_risk is not None:
            return self._policy.max_risk
        method = METHODS.get(decision.method)  # None for a threshold given by hand
        if method is None or method.risk_limit is None or profile is None or profile.settings is None:
            return None
        return method.risk_limit(profile.settings)

    def _profile_of(self, decision: GateDecision) -> CalibrationProfile | None:
        """The profile that a decision was made by; None where another version was promoted meanwhile."""
        profile = self._source.lookup().profile
        return profile if profile is not None and profile.version == decision.profile_version else None

    def _observe(self, seen: _Seen) -> None:
        if self._process != os.getpid():  # a forked process compares its own drafts; an alarm stays raised
            self._seen, self._taking_in, self._monitors = deque(), threading.Lock(), {}
            self._process = os.getpid()
        self._seen.append(seen)
        while self._seen and self._taking_in.acquire(blocking=False):
            try:
                while self._seen:
                    self._take_in(self._seen.popleft())
            finally:
                self._taking_in.release()

    def _take_in(self, seen: _Seen) -> None:
        reference = seen.profile.reference
        if reference is None:  # calibrated by an earlier release
            return
        if not _is_same(self._compared, seen.profile):
            self._compared, self._raised, self._monitors = seen.profile, None, {}
        if self._raised is not None:
            return
        # Of drafts that may be stopped, a value above the threshold is only known to be above it.
        censored_above = seen.threshold if seen.may_abort else None
        monitor = self._monitors.get(censored_above)
        if monitor is None:
            if len(self._monitors) == _MOST_MONITORS:  # with a new threshold for each run there is nothing to compare
                return
            monitor = self._made_monitor(reference, seen.threshold, censored_above)
        alarm = monitor.observe(seen.value)
        if alarm is not None:
            raised = replace(alarm, version=seen.profile.version, raised_by=whoami())
            # Reported before it is kept here: an alarm that is kept here and that the source lacks was dismissed.
            self._source.report_alarm(raised)
            self._raised = raised

    def _made_monitor(
        self, reference: ReferenceDistribution, threshold: float | None, censored_above: float | None
    ) -> DriftMonitor:
        from .drift import DriftMonitor, DriftPolicy  # noqa: PLC0415 (not before a gate's first answer)

        policy = self._policy or DriftPolicy()
        # Most gates deliver drafts in one way: its monitor gets most of the probability of a false alarm.
        share = _FIRST_SHARE if not self._monitors else (1 - _FIRST_SHARE) / 2 ** len(self._monitors)
        monitor = DriftMonitor(
            reference,
            replace(policy, alpha=policy.alpha * share),
            threshold=threshold,
            censored_above=censored_above,
        )
        self._monitors[censored_above] = monitor
        return monitor

    def __reduce__(self) -> tuple[object, ...]:
        # A copy in another process compares its own drafts.
        made = partial(
            type(self),
            ledger=self.ledger,
            policy=self._policy,
            compares=self._compares,
            deeper_includes_draft=self._includes_draft,
        )
        return made, (self._source,)


def _is_same(profile: CalibrationProfile | None, other: CalibrationProfile | None) -> bool:
    """Whether two profiles are the same version of the same key, even where it was read twice."""
    if profile is None or other is None or profile is other:
        return profile is other
    return (profile.version, profile.created_at, profile.key) == (other.version, other.created_at, other.key)
