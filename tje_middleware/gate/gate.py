"""EntropyGate: decides a route from a draft's logprobs, without I/O or a framework, for sync and async code alike."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from typing_extensions import Unpack

from ..calibration.key import ProfileKey
from ..calibration.profile import CalibrationProfile
from ..calibration.thresholds.methods import METHODS
from ..calls.request import LogprobsCapabilities
from ..errors import GateError, MissingLogprobs, SignalError, UnreadableLogprobs, described, require_one_of
from ..logprobs import SequenceLogprobs
from ..logprobs.evidence import read
from ..signals import AUTO, resolve_signal
from .decision import GateDecision, Reason, Route, new_decision_id
from .policy import Criteria, GatePolicies, Making, OnDrift, OnMissing, OnUnusable, Policies, SaidOnce
from .settlement import Circumstances, DecisionSink, Settlement
from .sources import FixedProfile, ProfileLookup, ProfileSource, ProfileStore, StoredProfile
from .stopping.watch import RejectionWatch

if TYPE_CHECKING:
    from .drift import DriftPolicy


class EntropyGate:
    """Accept a draft as final, or send it to the deeper branch.

    Example:
        >>> import numpy as np
        >>> from tje_middleware import CalibrationRecord, EntropyGate, ProfileKey, calibrate
        >>> key = ProfileKey(model="m", task="t")
        >>> records = [CalibrationRecord(correct=i % 2 == 0, signals={"mean_entropy": 0.2 + i % 2 + i / 100})
        ...            for i in range(20)]
        >>> gate = EntropyGate(calibrate(records, key=key))
        >>> certain = np.full((5, 20), -30.0); certain[:, 0] = 0.0
        >>> gate.decide(certain).route
        <Route.FINAL: 'final'>

    Args:
        profile: The calibrated profile, or a source that answers with the newest one.
        method: Which of its thresholds to use. ``mean`` is the most cautious of the paper's four.
        on_missing: What to do with a draft that cannot be judged: no or unreadable logprobs, too few tokens,
            no usable profile, other settings than the profile's. ``"raise"`` raises GateError.
        on_unusable: ``"missing"`` treats every draft as one that cannot be judged when the profile's verdict is
            ``unusable``; ``"use"`` uses its threshold all the same.
        strict: Treat a ``weak`` profile as unusable instead of warning once.
        min_tokens: Drafts with fewer measured tokens cannot be judged.
        abstain: Give up drafts (route ``abstain``) that going deeper is shown not to improve, or that the ``cost``
            rule gives up. If False, they go deeper like any uncertain draft.
        ledger: Where every decision is recorded, such as a DecisionLedger; None: nowhere.
        on_drift: What to do once live drafts are shown to differ from the profile's records, or another process has
            raised an alarm about the profile: ``"missing"`` treats drafts as ones that cannot be judged, ``"warn"``
            warns once and in each decision, ``"ignore"`` compares nothing.
        drift: How large and sure a difference must be for an alarm; None: DriftPolicy's defaults.
        deeper_includes_draft: Whether always going deeper, which savings are counted against, costs the draft as
            well, as where the deeper branch refines it. None: as the branch says.

    Raises:
        CalibrationError: the profile has no threshold of this method; the message names those that it has.
        SignalError: the profile's signal is not known here.
        TypeError: ``profile`` is neither a profile nor a source of one, or ``ledger`` is no ledger.
        ValueError: a policy that does not exist.
    """

    def __init__(
        self,
        profile: CalibrationProfile | ProfileSource,
        *,
        method: str = "mean",
        on_missing: OnMissing = "deeper",
        on_unusable: OnUnusable = "missing",
        strict: bool = False,
        min_tokens: int = 1,
        abstain: bool = False,
        ledger: DecisionSink | None = None,
        on_drift: OnDrift = "missing",
        drift: DriftPolicy | None = None,
        deeper_includes_draft: bool | None = None,
    ) -> None:
        #: The gate's options.
        self.policies = Policies(method, on_missing, on_unusable, strict, min_tokens, abstain, on_drift)
        if ledger is not None and not hasattr(ledger, "record"):
            raise TypeError(f"ledger must be a DecisionLedger, not {described(ledger)}")
        if isinstance(profile, CalibrationProfile):
            profile.threshold(method)
            profile.require_signal()
            profile = FixedProfile(profile)
        elif not hasattr(profile, "lookup"):
            raise TypeError(f"profile must be a CalibrationProfile, or a source of one, not {described(profile)}")
        self.key = profile.key
        #: The models that refuse to give logprobs; all that ask for this gate's drafts share it.
        self.capabilities = LogprobsCapabilities()
        self._source = profile
        self._settlement = Settlement(
            profile,
            ledger=ledger,
            policy=drift,
            compares=on_drift != "ignore",
            deeper_includes_draft=deeper_includes_draft,
        )
        #: Warns about a topic once: ``gate.say_once(topic, message)``.
        self.say_once = SaidOnce()

    @classmethod
    def from_registry(
        cls,
        registry: ProfileStore,
        *,
        model: str,
        task: str,
        signal: str = "mean_entropy",
        top_k: int = 20,
        temperature: float | None = None,
        prompt_fingerprint: str | None = None,
        **policies: Unpack[GatePolicies],
    ) -> EntropyGate:
        """A gate that follows the registry's newest profile of a key.

        It does not need a profile yet: until there is one, drafts are treated as ones that cannot be judged. The
        named arguments are those of ProfileKey, the policies are the options of EntropyGate; ``signal="auto"``
        follows the profile whose signal calibration chose.

        Raises:
            SignalError: the signal is not known here.
            ValueError: a method or policy that does not exist.
        """
        key = ProfileKey(
            model=model,
            task=task,
            signal=signal,
            top_k=top_k,
            temperature=temperature,
            prompt_fingerprint=prompt_fingerprint,
        )
        if signal != AUTO:
            resolve_signal(signal)
        require_one_of("method", policies.get("method", "mean"), tuple(METHODS))
        return cls(StoredProfile(registry, key), **policies)

    async def ready(self) -> None:
        """Fetch the profile, so that :meth:`decide` does not wait for a registry on the event loop."""
        await self._source.ready()

    def profile(self) -> CalibrationProfile | None:
        """The profile as it is now; None where the registry has none."""
        return self._source.lookup().profile

    def lookup(self) -> ProfileLookup:
        """The profile as it is now, whether it is stale, and the alarm about it."""
        found = self._source.lookup()
        return replace(found, alarm=self._settlement.alarm(found))

    def made(self, decision: GateDecision) -> bool:
        """Whether a decision is of this gate's key and method, and of its threshold where that was set by hand."""
        given, profile = self.policies.given, self.profile()
        # Where the gate's model is an alias, decisions have the key of the profile.
        is_of_key = decision.key == str(self.key) or (profile is not None and decision.key == str(profile.key))
        same = is_of_key and decision.method == self.policies.method_in_force
        return same and (given is None or decision.threshold == given)

    def fingerprint(self) -> tuple[object, ...]:
        """Everything that a decision depends on beside the draft, with the profile as it is now; for caches."""
        found = self._source.lookup()
        state = (str(self.key), self.policies, self._settlement.alarm(found) is not None)
        if found.profile is None:
            return (*state, None)
        profile = found.profile
        thresholds = tuple(sorted((name, threshold.value) for name, threshold in profile.thresholds.items()))
        return (*state, profile.signal, profile.version, profile.verdict, thresholds)

    def __repr__(self) -> str:
        policies = self.policies
        given = "" if policies.given is None else f" threshold={policies.given:g},"
        return (
            f"EntropyGate({self.key}, method={policies.method_in_force!r},{given} on_missing={policies.on_missing!r})"
        )

    def decide(
        self,
        draft: object,
        *,
        model: str | None = None,
        temperature: float | None = None,
        prompt_fingerprint: str | None = None,
    ) -> GateDecision:
        """Decide about one draft, and settle the decision: :meth:`judge`, then :meth:`settle`.

        Args:
            draft: The draft's SequenceLogprobs, any payload that ``parse_logprobs`` reads, the error that it raised,
                or None for no logprobs.
            model: The model that wrote the draft, where known; drafts of another model than the key's cannot be
                judged.
            temperature: The draft's sampling temperature, where known; likewise.
            prompt_fingerprint: The fingerprint of the draft's prompt, where known; likewise.

        Raises:
            GateError: the draft cannot be judged, and ``on_missing="raise"``.
        """
        decision = self.judge(draft, model=model, temperature=temperature, prompt_fingerprint=prompt_fingerprint)
        self.settle(decision, draft_model=model)
        return decision

    def settle(
        self,
        decision: GateDecision,
        *,
        may_abort: bool = False,
        may_deepen: bool = True,
        **circumstances: Unpack[Circumstances],
    ) -> None:
        """Record a decision of :meth:`judge` in the ledger, tell telemetry, and compare the draft for drift; once.

        Never waits, never raises. Later changes are recorded by :meth:`amend`.

        Args:
            decision: The decision, with all that is known by now.
            may_abort: Whether the draft would have been stopped where it was sure to be rejected.
            may_deepen: Whether the draft would have gone deeper if rejected; if not, accepting it saves nothing.
            **circumstances: ``latency_seconds`` from question to answer; ``draft_model`` and ``deeper_model``, the
                models that wrote the draft and the deeper answer; ``deeper_includes_draft``, as the branch says;
                ``prompt`` and ``answer``, which a ledger keeps only with ``texts=True``.
        """
        self._settlement.settle(decision, may_abort=may_abort, may_deepen=may_deepen, **circumstances)

    def amend(self, decision: GateDecision, **circumstances: Unpack[Circumstances]) -> None:
        """Record changes of a settled decision: which answer was taken in the end, and its tokens.

        Never waits, never raises.
        """
        self._settlement.amend(decision, **circumstances)

    @property
    def ledger(self) -> DecisionSink | None:
        """Where decisions are recorded."""
        return self._settlement.ledger

    @property
    def keeps_texts(self) -> bool:
        """Whether the ledger keeps prompts and answers."""
        return self.ledger is not None and self.ledger.texts

    def judge(
        self,
        draft: object,
        *,
        model: str | None = None,
        temperature: float | None = None,
        prompt_fingerprint: str | None = None,
    ) -> GateDecision:
        """Decide about one draft without settling: for one of several drafts of an answer, or to look ahead.

        Arguments and errors are those of :meth:`decide`.
        """
        found = self._source.lookup()
        criteria = self._criteria(found)
        grounds = self._grounds(criteria)
        if criteria is None:
            return self._unjudged(grounds, "no_profile", found.problem or f"no profile for {self.key}")
        if draft is None:
            return self._unjudged(grounds, "no_logprobs", "the draft came without logprobs")
        sequence = draft if isinstance(draft, UnreadableLogprobs) else read(draft)
        if isinstance(sequence, MissingLogprobs):
            return self._unjudged(grounds, "no_logprobs", str(sequence))
        if isinstance(sequence, UnreadableLogprobs):
            return self._unjudged(grounds, "unreadable_logprobs", str(sequence))
        grounds = replace(grounds, tokens=len(sequence))
        making = Making(model=model, temperature=temperature, prompt_fingerprint=prompt_fingerprint)
        misfit = criteria.misfit(len(sequence), sequence.top_k, making)
        if misfit is not None:
            return self._unjudged(grounds, *misfit)
        return self._judge(grounds, criteria, sequence)

    def watch(
        self,
        *,
        max_tokens: int | None = None,
        model: str | None = None,
        temperature: float | None = None,
        prompt_fingerprint: str | None = None,
    ) -> RejectionWatch:
        """Watch one draft's stream, to stop it as soon as it is sure to be rejected.

        The draft is compared with the profile as it is now. Without a profile the watch never rejects; it does not
        raise, whatever ``on_missing`` is.

        Args:
            max_tokens: The limit of the draft's tokens, thinking included; means and shares, such as
                ``mean_entropy``, can be watched only with it. A draft that gets longer is not rejected early.
            model: As in :meth:`decide`.
            temperature: As in :meth:`decide`.
            prompt_fingerprint: As in :meth:`decide`.

        Raises:
            ValueError: ``max_tokens`` is below 1.
        """
        if max_tokens is not None and max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, not {max_tokens}")
        criteria = self._criteria(self._source.lookup())
        making = Making(model=model, temperature=temperature, prompt_fingerprint=prompt_fingerprint)
        watch = RejectionWatch(criteria, making, unjudged=self.policies.on_missing, max_tokens=max_tokens)
        if criteria is not None and watch.can_fire:
            self._warn_of(criteria)
        return watch

    def with_threshold(self, value: float) -> EntropyGate:
        """The same gate with a threshold set by hand, in the signal's unit; its decisions' method is ``given``.

        It shares everything else with this gate, also the warnings given. The profile's verdict and, with
        ``abstain``, the value from which on its method gives drafts up stay in force.

        Raises:
            ValueError: no finite number.
        """
        return self._under(self.policies.with_threshold(value))

    def with_on_missing(self, on_missing: OnMissing) -> EntropyGate:
        """The same gate with another ``on_missing``; it shares everything else with this gate.

        Raises:
            ValueError: a policy that does not exist.
        """
        changed = replace(self.policies, on_missing=on_missing)
        return self if changed == self.policies else self._under(changed)

    def passed(self, reason: Reason, detail: str) -> GateDecision:
        """The decision about a draft that is accepted unjudged, by a rule of the caller.

        Args:
            reason: Why, as one of a few words.
            detail: Why, as a sentence.
        """
        grounds = self._grounds(self._criteria(self._source.lookup()))
        return replace(grounds, route=Route.FINAL, reason=reason, detail=detail)

    def _under(self, policies: Policies) -> EntropyGate:
        gate = object.__new__(type(self))
        vars(gate).update(vars(self), policies=policies)
        return gate

    def _grounds(self, criteria: Criteria | None) -> GateDecision:
        """A decision with what is known before the draft is measured; its route is set later."""
        if criteria is not None:
            return criteria.grounds()
        return GateDecision(
            Route.DEEPER,
            "no_profile",
            "",
            signal=self.key.signal,
            method=self.policies.method_in_force,
            key=str(self.key),
            decision_id=new_decision_id(),
        )

    def _criteria(self, found: ProfileLookup) -> Criteria | None:
        if found.profile is None:
            return None
        if found.stale:
            self.say_once("stale", f"the last profile seen serves {self.key}: {found.problem}")
        alarm = self._settlement.alarm(found)
        if alarm is not None:
            remedy = "calibrate anew, or dismiss it (tje registry alarms, tje registry dismiss)"
            about = f"an alarm was raised about {found.profile.key}: {alarm.detail}; {remedy}"
            self.say_once(f"alarm {alarm.raised_at}", about)
        return Criteria(found.profile, self.policies, stale=found.stale, alarm=alarm, names=found.names)

    def _judge(self, grounds: GateDecision, criteria: Criteria, sequence: SequenceLogprobs) -> GateDecision:
        """Measure a draft whose settings are those of the profile, and compare it with the threshold."""
        try:
            value = criteria.profile.measure(sequence)
        except SignalError as error:
            return self._unjudged(grounds, "no_signal", str(error))
        grounds = replace(grounds, signal_value=value)
        refusal, threshold = criteria.refusal(), criteria.threshold
        if refusal is not None or threshold is None:
            return self._unjudged(grounds, *(refusal or ("unusable_profile", "the profile has no threshold")))
        self._warn_of(criteria)
        route, reason, words = criteria.route(value, threshold)
        return replace(grounds, route=route, reason=reason, detail=f"{grounds.signal} {value:.4g} is {words}")

    def _unjudged(self, grounds: GateDecision, reason: Reason, detail: str) -> GateDecision:
        """Apply ``on_missing`` to a draft that cannot be judged."""
        on_missing = self.policies.on_missing
        if on_missing == "raise":
            raise GateError(f"the draft cannot be judged: {detail}")
        self.say_once(reason, f"a draft for {self.key} cannot be judged and goes to {on_missing!r}: {detail}")
        return replace(grounds, route=Route(on_missing), reason=reason, detail=detail)

    def _warn_of(self, criteria: Criteria) -> None:
        profile = criteria.profile
        if profile.verdict == "weak":
            self.say_once("weak", f"the profile of {profile.key} is weak: {profile.verdict_reason}")
