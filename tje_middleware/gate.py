"""The entropy gate: a draft's logprobs in, a route out. No I/O, no framework, the same for sync and async."""

from __future__ import annotations

import threading
import warnings
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypedDict, get_args

from typing_extensions import Unpack

from .decision import GateDecision, Reason, Route
from .errors import CalibrationError, GateError, MissingLogprobs, SignalError, TjeWarning, UnreadableLogprobs
from .logprobs import SequenceLogprobs, parse_logprobs
from .profile import CalibrationProfile, ProfileKey, ProfileLookup
from .settings import METHOD_NAMES
from .signals import AUTO, resolve_signal

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


class ProfileSource(Protocol):
    """Where a gate gets its profile from."""

    @property
    def key(self) -> ProfileKey:
        """The key whose profile it answers with."""
        ...

    def lookup(self) -> ProfileLookup:
        """The profile as it is now; never raises."""
        ...


class ProfileStore(Protocol):
    """What a gate needs of a registry."""

    def lookup(self, key: ProfileKey) -> ProfileLookup:
        """The newest profile of a key; answers from memory where it can, and never raises."""
        ...


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
        _require("on_missing", on_missing, get_args(OnMissing))
        _require("on_unusable", on_unusable, get_args(OnUnusable))
        if min_tokens < 1:
            raise ValueError(f"min_tokens must be at least 1, not {min_tokens}")
        if isinstance(profile, CalibrationProfile):
            profile.threshold(method)
            profile.require_signal()
            profile = _FixedProfile(profile)
        self.key = profile.key
        self.method = method
        self.on_missing = on_missing
        self.on_unusable = on_unusable
        self.strict = strict
        self.min_tokens = min_tokens
        self.abstain = abstain
        self._source = profile
        self._said: set[str] = set()
        self._said_lock = threading.Lock()

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
        _require("method", policies.get("method", METHOD_NAMES[0]), METHOD_NAMES)
        return cls(_StoredProfile(registry, key), **policies)

    def __getstate__(self) -> dict[str, object]:
        # A lock cannot go to another process, and what was said here was not said there.
        return {name: value for name, value in vars(self).items() if not name.startswith("_said")}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._said = set()
        self._said_lock = threading.Lock()

    def __repr__(self) -> str:
        return f"EntropyGate({self.key}, method={self.method!r}, on_missing={self.on_missing!r})"

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
        profile = found.profile
        if profile is None:
            return self._unjudged(self._grounds(), "no_profile", found.problem or f"no profile for {self.key}")
        if found.stale:
            self._say_once("stale", f"the last profile seen serves {self.key}: {found.problem}")
        grounds = self._grounds(profile, stale=found.stale)
        if draft is None:
            return self._unjudged(grounds, "no_logprobs", "the draft came without logprobs")
        try:
            if isinstance(draft, UnreadableLogprobs):
                raise draft
            sequence = parse_logprobs(draft)
        except MissingLogprobs as error:
            return self._unjudged(grounds, "no_logprobs", str(error))
        except UnreadableLogprobs as error:
            return self._unjudged(grounds, "unreadable_logprobs", str(error))
        grounds = replace(grounds, tokens=len(sequence))
        difference = profile.key.difference(
            sequence.top_k, model=model, temperature=temperature, prompt_fingerprint=prompt_fingerprint
        )
        if len(sequence) < self.min_tokens:
            few = f"{len(sequence)} tokens, fewer than min_tokens={self.min_tokens}"
            return self._unjudged(grounds, "too_few_tokens", few)
        if difference:
            return self._unjudged(grounds, "other_settings", difference)
        return self._judge(grounds, profile, sequence)

    def _judge(self, grounds: GateDecision, profile: CalibrationProfile, sequence: SequenceLogprobs) -> GateDecision:
        """Measure a draft that fits the profile, and compare."""
        try:
            value = profile.measure(sequence)
        except SignalError as error:
            return self._unjudged(grounds, "no_signal", str(error))
        grounds = replace(grounds, signal_value=value)
        refusal = self._refusal(profile)
        if refusal or grounds.threshold is None:
            return self._unjudged(grounds, "unusable_profile", refusal or "the profile has no threshold")
        measured = f"{profile.signal} {value:.4g} is"
        if value <= grounds.threshold:
            detail = f"{measured} within the threshold {grounds.threshold:.4g}"
            return replace(grounds, route=Route.FINAL, reason="confident", detail=detail)
        hopeless_from = profile.hopeless_from(self.method) if self.abstain else None
        if hopeless_from is not None and value >= hopeless_from:
            detail = f"{measured} not below {hopeless_from:.4g}, from where on going deeper does not pay"
            return replace(grounds, route=Route.ABSTAIN, reason="hopeless", detail=detail)
        detail = f"{measured} above the threshold {grounds.threshold:.4g}"
        return replace(grounds, route=Route.DEEPER, reason="uncertain", detail=detail)

    def _grounds(self, profile: CalibrationProfile | None = None, *, stale: bool = False) -> GateDecision:
        """A decision with what is known before the draft is looked at; its route is still to be set."""
        threshold = profile.thresholds.get(self.method) if profile else None
        return GateDecision(
            route=Route.DEEPER,
            reason="no_profile",
            detail="",
            signal=profile.signal if profile else self.key.signal,
            method=self.method,
            threshold=threshold.value if threshold else None,
            verdict=profile.verdict if profile else None,
            profile_version=profile.version if profile else None,
            stale=stale,
        )

    def _refusal(self, profile: CalibrationProfile) -> str | None:
        """Why this profile may not accept anything, or None."""
        if profile.verdict == "unusable" and self.on_unusable == "missing":
            return f"the profile of {profile.key} is unusable: {profile.verdict_reason}"
        if profile.verdict == "weak":
            if self.strict:
                return f"the profile of {profile.key} is weak, and strict=True: {profile.verdict_reason}"
            self._say_once("weak", f"the profile of {profile.key} is weak: {profile.verdict_reason}")
        try:
            profile.threshold(self.method)
        except CalibrationError as error:
            return str(error)
        return None

    def _unjudged(self, grounds: GateDecision, reason: Reason, detail: str) -> GateDecision:
        """Apply ``on_missing`` to a draft that cannot be judged."""
        if self.on_missing == "raise":
            raise GateError(f"the draft cannot be judged: {detail}")
        self._say_once(reason, f"a draft for {self.key} cannot be judged and goes to {self.on_missing!r}: {detail}")
        return replace(grounds, route=Route(self.on_missing), reason=reason, detail=detail)

    def _say_once(self, topic: str, message: str) -> None:
        with self._said_lock:
            if topic in self._said:
                return
            self._said.add(topic)
        warnings.warn(f"{message} (said once)", TjeWarning, stacklevel=4)


@dataclass(frozen=True)
class _FixedProfile:
    """The source of a gate that was given its profile."""

    profile: CalibrationProfile

    @property
    def key(self) -> ProfileKey:
        return self.profile.key

    def lookup(self) -> ProfileLookup:
        return ProfileLookup(self.profile)


@dataclass(frozen=True)
class _StoredProfile:
    """The source of a gate that follows a registry."""

    store: ProfileStore
    key: ProfileKey

    def lookup(self) -> ProfileLookup:
        return self.store.lookup(self.key)


def _require(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
