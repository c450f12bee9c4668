"""The entropy gate: a draft's logprobs in, a route out. No I/O, no framework, the same for sync and async."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from numbers import Real
from typing import Literal, TypedDict, get_args

from typing_extensions import Unpack

from ._options import described, require_one_of
from .capability import LogprobsCapabilities
from .criteria import GIVEN, Criteria, Making
from .decision import GateDecision, Reason, Route
from .early_abort import RejectionWatch
from .errors import GateError, MissingLogprobs, SignalError, UnreadableLogprobs
from .evidence import read
from .logprobs import SequenceLogprobs
from .profile import CalibrationProfile, ProfileKey, ProfileLookup
from .settings import METHOD_NAMES
from .signals import AUTO, resolve_signal
from .sources import FixedProfile, ProfileSource, ProfileStore, StoredProfile
from .warned import SaidOnce

OnMissing = Literal["deeper", "final", "raise"]
OnUnusable = Literal["missing", "use"]


class GatePolicies(TypedDict, total=False):
    """The keyword arguments of EntropyGate, for functions that pass them on."""

    method: str
    on_missing: OnMissing
    on_unusable: OnUnusable
    strict: bool
    min_tokens: int
    abstain: bool


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
        abstain: Give drafts up that going deeper is shown, or expected by the ``cost`` rule, not to improve: route
            ``abstain``. Off, they go deeper like any uncertain draft.

    Raises:
        CalibrationError: the profile has no threshold of this method; the message names those that it has.
        SignalError: the profile's signal is not known here.
        TypeError: what was given is no profile.
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
    ) -> None:
        require_one_of("on_missing", on_missing, get_args(OnMissing))
        require_one_of("on_unusable", on_unusable, get_args(OnUnusable))
        if min_tokens < 1:
            raise ValueError(f"min_tokens must be at least 1, not {min_tokens}")
        if isinstance(profile, CalibrationProfile):
            profile.threshold(method)
            profile.require_signal()
            profile = FixedProfile(profile)
        elif not hasattr(profile, "lookup"):
            raise TypeError(f"profile must be a CalibrationProfile, or a source of one, not {described(profile)}")
        self.key = profile.key
        self.method = method
        self.on_missing = on_missing
        self.on_unusable = on_unusable
        self.strict = strict
        self.min_tokens = min_tokens
        self.abstain = abstain
        #: Which models are known to refuse to give logprobs; whoever asks for this gate's drafts shares it.
        self.capabilities = LogprobsCapabilities()
        self._source = profile
        self._given: float | None = None
        #: Warns of a topic once: ``gate.say_once(topic, message)``.
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

        Never fails for want of a profile: until there is one, drafts are treated as ones that cannot be judged.
        The named arguments are those of ProfileKey, the policies those of EntropyGate; ``signal="auto"`` follows
        the profile whose signal calibration chose.

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
        require_one_of("method", policies.get("method", METHOD_NAMES[0]), METHOD_NAMES)
        return cls(StoredProfile(registry, key), **policies)

    def profile(self) -> CalibrationProfile | None:
        """The profile as it is now; None where the registry has none."""
        return self._source.lookup().profile

    def made(self, decision: GateDecision) -> bool:
        """Whether a decision is one of this gate's, by its key, method and threshold set by hand."""
        same = decision.key == str(self.key) and decision.method == self._method
        return same and (self._given is None or decision.threshold == self._given)

    def fingerprint(self) -> tuple[object, ...]:
        """All that a decision depends on beside the draft, the profile as it is now: for caches of gated answers."""
        profile = self._source.lookup().profile
        policies = (self._method, self._given, self.on_missing, self.on_unusable, self.strict, self.min_tokens)
        if profile is None:
            return (str(self.key), *policies, self.abstain, None)
        thresholds = tuple(sorted((name, threshold.value) for name, threshold in profile.thresholds.items()))
        found = (profile.signal, profile.version, profile.verdict, thresholds)
        return (str(self.key), *policies, self.abstain, *found)

    def __repr__(self) -> str:
        given = "" if self._given is None else f" threshold={self._given:g},"
        return f"EntropyGate({self.key}, method={self._method!r},{given} on_missing={self.on_missing!r})"

    def decide(
        self,
        draft: object,
        *,
        model: str | None = None,
        temperature: float | None = None,
        prompt_fingerprint: str | None = None,
    ) -> GateDecision:
        """Decide about one draft.

        Args:
            draft: Its SequenceLogprobs, or any payload that ``parse_logprobs`` reads, or the error that it raised
                for it, or None for no logprobs.
            model: The model that wrote it, where known; another model than the profile's cannot be judged.
            temperature: Its sampling temperature, where known; likewise.
            prompt_fingerprint: Its prompt's fingerprint, where known; likewise.

        Raises:
            GateError: the draft cannot be judged, and ``on_missing="raise"``.
        """
        found = self._source.lookup()
        criteria = self._criteria(found)
        if criteria is None:
            return self._unjudged(self._no_grounds(), "no_profile", found.problem or f"no profile for {self.key}")
        grounds = criteria.grounds()
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

        It holds the draft against the profile as it is now. Making it never fails for want of one, whatever
        ``on_missing`` says: it then just never rejects.

        Args:
            max_tokens: How many tokens the draft has at most, thinking included; means and shares, such as
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
        watch = RejectionWatch(criteria, making, unjudged=self.on_missing, max_tokens=max_tokens)
        if criteria is not None and watch.can_fire:
            self._warn_of(criteria)
        return watch

    def with_threshold(self, value: float) -> EntropyGate:
        """The same gate with a threshold set by hand, in the signal's unit; its decisions' method is ``given``.

        It shares this gate's profile or registry, policies and what was said once. The profile's verdict and, with
        ``abstain``, the value from which on its method gives drafts up hold as before.

        Raises:
            ValueError: no finite number.
        """
        if isinstance(value, bool) or not isinstance(value, Real) or not isfinite(value):
            raise ValueError(f"a threshold must be a finite number, not {value!r}")
        return self._changed(_given=float(value))

    def with_on_missing(self, on_missing: OnMissing) -> EntropyGate:
        """The same gate with another policy for drafts that cannot be judged; it shares the rest, as above.

        Raises:
            ValueError: a policy that does not exist.
        """
        require_one_of("on_missing", on_missing, get_args(OnMissing))
        return self if on_missing == self.on_missing else self._changed(on_missing=on_missing)

    def passed(self, reason: Reason, detail: str) -> GateDecision:
        """The decision about a draft that is accepted without being looked at, by a rule of whoever asks.

        Args:
            reason: Why, as one of a few words.
            detail: Why, as a sentence.
        """
        criteria = self._criteria(self._source.lookup())
        known = criteria.grounds() if criteria is not None else self._no_grounds()
        return replace(known, route=Route.FINAL, reason=reason, detail=detail)

    def _changed(self, **policies: object) -> EntropyGate:
        gate = object.__new__(type(self))
        vars(gate).update(vars(self), **policies)
        return gate

    def _no_grounds(self) -> GateDecision:
        """A decision without a profile; its route is still to be set."""
        return GateDecision(
            Route.DEEPER, "no_profile", "", signal=self.key.signal, method=self._method, key=str(self.key)
        )

    @property
    def _method(self) -> str:
        return self.method if self._given is None else GIVEN

    def _criteria(self, found: ProfileLookup) -> Criteria | None:
        if found.profile is None:
            return None
        if found.stale:
            self.say_once("stale", f"the last profile seen serves {self.key}: {found.problem}")
        return Criteria(
            profile=found.profile,
            method=self.method,
            given=self._given,
            stale=found.stale,
            use_unusable=self.on_unusable == "use",
            strict=self.strict,
            min_tokens=self.min_tokens,
            abstain=self.abstain,
        )

    def _judge(self, grounds: GateDecision, criteria: Criteria, sequence: SequenceLogprobs) -> GateDecision:
        """Measure a draft that fits the profile, and compare."""
        try:
            value = criteria.profile.measure(sequence)
        except SignalError as error:
            return self._unjudged(grounds, "no_signal", str(error))
        grounds = replace(grounds, signal_value=value)
        refusal, threshold = criteria.refusal(), criteria.threshold
        if refusal or threshold is None:
            return self._unjudged(grounds, "unusable_profile", refusal or "the profile has no threshold")
        self._warn_of(criteria)
        route, reason, words = criteria.route(value, threshold)
        return replace(grounds, route=route, reason=reason, detail=f"{grounds.signal} {value:.4g} is {words}")

    def _unjudged(self, grounds: GateDecision, reason: Reason, detail: str) -> GateDecision:
        """Apply ``on_missing`` to a draft that cannot be judged."""
        if self.on_missing == "raise":
            raise GateError(f"the draft cannot be judged: {detail}")
        self.say_once(reason, f"a draft for {self.key} cannot be judged and goes to {self.on_missing!r}: {detail}")
        return replace(grounds, route=Route(self.on_missing), reason=reason, detail=detail)

    def _warn_of(self, criteria: Criteria) -> None:
        profile = criteria.profile
        if profile.verdict == "weak":
            self.say_once("weak", f"the profile of {profile.key} is weak: {profile.verdict_reason}")
