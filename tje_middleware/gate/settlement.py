"""What becomes of a decision: it is written down, told to telemetry, and held against the profile's records."""

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

# A draft may be judged again, by a node of a graph that finds no decision in it; soon, if at all.
_REMEMBERED = 4_096
_FIRST_SHARE = 0.9
_MOST_MONITORS = 8


class Circumstances(TypedDict, total=False):
    """What is known of an answer beside the decision, and told by whoever asked for it.

    Attributes:
        latency_seconds: From the question to the answer (seconds).
        draft_model: The model that wrote the draft; without it, its price stays unknown.
        deeper_model: The model that wrote the deeper answer.
        deeper_includes_draft: Whether always going deeper, which savings are counted against, costs the draft too,
            as where the deeper branch refines it.
        prompt: What was asked; kept only where texts are switched on.
        answer: What was answered; likewise.
    """

    latency_seconds: float | None
    draft_model: str | None
    deeper_model: str | None
    deeper_includes_draft: bool | None
    prompt: str | None
    answer: str | None


class DecisionFacts(Circumstances, total=False):
    """The circumstances, and what the gate adds to them.

    Attributes:
        profile: What it was decided by; without it, what accepting the draft saved stays unknown.
        risk_limit: Share of the drafts accepted like this that may be wrong (0 to 1), which feedback is held
            against; None: no promise.
    """

    profile: CalibrationProfile | None
    risk_limit: float | None


class DecisionSink(Protocol):
    """Where decisions are written down.

    Attributes:
        texts: Whether prompts and answers are kept there; False is what users expect.
    """

    texts: bool

    def record(self, decision: GateDecision, **facts: Unpack[DecisionFacts]) -> None:
        """Have a decision stored, soon; the last one of a ``decision_id`` counts. Never waits, never raises.

        Args:
            decision: The gate's, as far as it is settled.
            **facts: What else is known; each of :class:`DecisionFacts` may be left out.
        """
        ...


class _Seen(NamedTuple):
    """What a decision shows of the stream of drafts."""

    value: float
    profile: CalibrationProfile
    threshold: float | None
    may_abort: bool


class Settlement:
    """Where one gate's decisions go, and what they show together; copies of a gate share it.

    Args:
        source: Where the gate has its profile from.
        ledger: Where decisions are written down; None: nowhere.
        policy: By which live drafts are compared with the profile's records; None: the default one.
        compares: Whether they are compared at all.
        deeper_includes_draft: Whether always going deeper costs the draft too; None: as each decision's branch says.
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
        self._heard = False  # of an alarm that the source keeps
        self._monitors: dict[float | None, DriftMonitor] = {}  # by the value above which drafts may be stopped
        # Nobody waits here: a stream that the garbage collector closes in the middle of all this settles its
        # decision, too. What is seen is put down, and taken in by whoever is at it already.
        self._seen: deque[_Seen] = deque()
        self._taking_in = threading.Lock()
        self._process = os.getpid()
        self._told: dict[str, telemetry.Told] = {}  # by the decisions' names
        self._newest: deque[str] = deque()

    def alarm(self, found: ProfileLookup) -> Alarm | None:
        """The alarm about a profile, raised here or by another process; None: there is none."""
        if not self._compares:
            return None
        raised = self._raised if _is_same(self._compared, found.profile) else None
        was_alarmed, self._heard = self._heard or raised is not None, found.alarm is not None
        if was_alarmed and found.alarm is None and self._source.keeps_alarms:
            # It was dismissed: whoever raised it, the watch begins anew.
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
        """Take a decision in; one that was taken in before is only written down again.

        Args:
            decision: With what is known by now.
            may_abort: Whether its draft would have been stopped had it been sure to be rejected.
            may_deepen: Whether a rejected draft would have gone deeper; where not, an accepted one saves nothing.
            **circumstances: Of the answer.
        """
        profile = self._profile_of(decision)
        includes_draft = self._includes(circumstances)
        self._record(decision, profile, circumstances, may_deepen=may_deepen)
        saved = _saved(decision, profile if may_deepen else None, includes_draft=includes_draft)
        told = telemetry.Told(saved, decision.deeper_usage)
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
        """Write down what has become of a decision since it was settled."""
        profile = self._profile_of(decision)
        includes_draft = self._includes(circumstances)
        self._record(decision, profile, circumstances)
        told = telemetry.Told(_saved(decision, profile, includes_draft=includes_draft), decision.deeper_usage)
        # Another process may have settled it; it was open then.
        was_open = replace(decision, answered_by=None, deeper_usage=None)
        before = telemetry.Told(_saved(was_open, profile, includes_draft=includes_draft))
        name = decision.decision_id
        if name is not None and not self._is_first(name, told):
            before = self._told.get(name, before)  # another thread may just have forgotten it
            if name in self._told:
                self._told[name] = told
        telemetry.emit_amended(
            decision,
            told=before,
            deeper_model=circumstances.get("deeper_model"),
            tokens_saved=told.tokens_saved,
        )

    def _includes(self, circumstances: Circumstances) -> bool:
        """Whether always going deeper costs the draft too: as the user says, else as the branch does."""
        if self._includes_draft is not None:
            return self._includes_draft
        return bool(circumstances.get("deeper_includes_draft"))

    def _is_first(self, name: str | None, told: telemetry.Told) -> bool:
        """Whether a decision of that name is the first among the newest; and remember what is told of it."""
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
        """The share of drafts accepted like this that may be wrong; None: nobody promised one, or asks for it."""
        if not self._compares:
            return None
        if self._policy is not None and self._policy.max_risk is not None:
            return self._policy.max_risk
        method = METHODS.get(decision.method)  # None for a threshold given by hand
        if method is None or method.risk_limit is None or profile is None or profile.settings is None:
            return None
        return method.risk_limit(profile.settings)

    def _profile_of(self, decision: GateDecision) -> CalibrationProfile | None:
        """What a decision was made by; None where another was promoted meanwhile."""
        profile = self._source.lookup().profile
        return profile if profile is not None and profile.version == decision.profile_version else None

    def _observe(self, seen: _Seen) -> None:
        if self._process != os.getpid():  # a forked one sees drafts of its own; what was raised still holds
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
        # Drafts that may be stopped show no more of a value above the threshold than that it is above.
        censored_above = seen.threshold if seen.may_abort else None
        monitor = self._monitors.get(censored_above)
        if monitor is None:
            if len(self._monitors) == _MOST_MONITORS:  # a threshold of its own for each run shows no stream
                return
            monitor = self._made_monitor(reference, seen.threshold, censored_above)
        alarm = monitor.observe(seen.value)
        if alarm is not None:
            raised = replace(alarm, version=seen.profile.version, raised_by=whoami())
            # In this order: that the source shows none of what was raised means that it was dismissed.
            self._source.report_alarm(raised)
            self._raised = raised

    def _made_monitor(
        self, reference: ReferenceDistribution, threshold: float | None, censored_above: float | None
    ) -> DriftMonitor:
        from .drift import DriftMonitor, DriftPolicy  # noqa: PLC0415 (not before a gate's first answer)

        policy = self._policy or DriftPolicy()
        # Most gates have one way of delivering drafts: it gets most of the probability of a false alarm.
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
        # Another process sees drafts of its own.
        made = partial(
            type(self),
            ledger=self.ledger,
            policy=self._policy,
            compares=self._compares,
            deeper_includes_draft=self._includes_draft,
        )
        return made, (self._source,)


def _saved(decision: GateDecision, profile: CalibrationProfile | None, *, includes_draft: bool) -> float | None:
    return savings_of(decision, profile, deeper_includes_draft=includes_draft).tokens


def _is_same(profile: CalibrationProfile | None, other: CalibrationProfile | None) -> bool:
    """Whether two are one version of one key, be it read twice."""
    if profile is None or other is None or profile is other:
        return profile is other
    return (profile.version, profile.created_at, profile.key) == (other.version, other.created_at, other.key)
