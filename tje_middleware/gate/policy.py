"""The gate's policies, and its criteria: a profile as a gate with these policies applies it to drafts."""

from __future__ import annotations

import sys
import threading
import warnings
from dataclasses import dataclass, replace
from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, Literal, TypedDict, get_args

from ..calibration.profile import Alarm, CalibrationProfile
from ..errors import CalibrationError, TjeWarning, require_one_of
from .decision import GateDecision, Reason, Route, new_decision_id

if TYPE_CHECKING:
    from .drift import DriftPolicy
    from .settlement import DecisionSink

#: What to do with a draft that cannot be judged.
OnMissing = Literal["deeper", "final", "raise"]
#: What to do with a profile whose verdict is ``unusable``.
OnUnusable = Literal["missing", "use"]
#: What to do once live drafts differ from the profile's records, or a method's promise is broken.
OnDrift = Literal["missing", "warn", "ignore"]
#: The threshold method of a decision whose threshold was set by hand.
GIVEN = "given"


class GatePolicies(TypedDict, total=False):
    """The options of EntropyGate, for functions that pass them on."""

    method: str
    on_missing: OnMissing
    on_unusable: OnUnusable
    strict: bool
    min_tokens: int
    abstain: bool
    ledger: DecisionSink | None
    on_drift: OnDrift
    drift: DriftPolicy | None
    deeper_includes_draft: bool | None


@dataclass(frozen=True)
class Policies:
    """The options of a gate that its decisions depend on, as EntropyGate documents them.

    Attributes:
        given: A threshold set by hand, which replaces the method's.

    Raises:
        ValueError: a policy that does not exist.
    """

    method: str
    on_missing: OnMissing
    on_unusable: OnUnusable
    strict: bool
    min_tokens: int
    abstain: bool
    on_drift: OnDrift
    given: float | None = None

    def __post_init__(self) -> None:
        require_one_of("on_missing", self.on_missing, get_args(OnMissing))
        require_one_of("on_unusable", self.on_unusable, get_args(OnUnusable))
        require_one_of("on_drift", self.on_drift, get_args(OnDrift))
        if self.min_tokens < 1:
            raise ValueError(f"min_tokens must be at least 1, not {self.min_tokens}")

    @property
    def method_in_force(self) -> str:
        """The threshold method as decisions name it."""
        return self.method if self.given is None else GIVEN

    def with_threshold(self, value: float) -> Policies:
        """The same policies with a threshold set by hand.

        Raises:
            ValueError: no finite number.
        """
        if isinstance(value, bool) or not isinstance(value, Real) or not isfinite(value):
            raise ValueError(f"a threshold must be a finite number, not {value!r}")
        return replace(self, given=float(value))


class Making(TypedDict, total=False):
    """The settings under which a draft was made, as far as they are known."""

    model: str | None
    temperature: float | None
    prompt_fingerprint: str | None


@dataclass(frozen=True)
class Criteria:
    """A profile as one gate applies it.

    Attributes:
        profile: The profile.
        policies: The gate's policies.
        stale: Whether the registry could not be asked and this is the last profile seen.
        alarm: The alarm about the profile; None: there is none.
        names: Other names of the profile's model.
    """

    profile: CalibrationProfile
    policies: Policies
    stale: bool = False
    alarm: Alarm | None = None
    names: frozenset[str] = frozenset()

    @property
    def threshold(self) -> float | None:
        """The value up to which drafts are accepted, in the signal's unit; None where there is none."""
        if self.policies.given is not None:
            return self.policies.given
        found = self.profile.thresholds.get(self.policies.method)
        return found.value if found else None

    @property
    def hopeless_from(self) -> float | None:
        """The value from which on a draft that is not accepted is given up; None: no draft is."""
        if not self.policies.abstain or self.policies.method not in self.profile.thresholds:
            return None
        return self.profile.hopeless_from(self.policies.method)

    def grounds(self) -> GateDecision:
        """A decision with what is known before the draft is measured; its route is set later."""
        return GateDecision(
            route=Route.DEEPER,
            reason="no_profile",
            detail="",
            signal=self.profile.signal,
            method=self.policies.method_in_force,
            threshold=self.threshold,
            verdict=self.profile.verdict,
            profile_version=self.profile.version,
            stale=self.stale,
            key=str(self.profile.key),
            decision_id=new_decision_id(),
            alarm=self.alarm.kind if self.alarm else None,
        )

    def refusal(self) -> tuple[Reason, str] | None:
        """Why no draft can be judged by this profile, as one word and as a sentence; or None."""
        if self.alarm is not None and self.policies.on_drift != "warn":
            return "drifted", f"an alarm was raised about the profile of {self.profile.key}: {self.alarm.detail}"
        profile, found = self.profile, None
        if profile.verdict == "unusable" and self.policies.on_unusable != "use":
            found = f"the profile of {profile.key} is unusable: {profile.verdict_reason}"
        elif profile.verdict == "weak" and self.policies.strict:
            found = f"the profile of {profile.key} is weak, and strict=True: {profile.verdict_reason}"
        elif self.policies.given is None:
            try:
                profile.threshold(self.policies.method)
            except CalibrationError as error:
                found = str(error)
        return None if found is None else ("unusable_profile", found)

    def misfit(self, tokens: int, top_k: int, making: Making) -> tuple[Reason, str] | None:
        """Why a draft with these settings cannot be judged by this profile, as one word and as a sentence; or None.

        A draft that fits still fits with more tokens or alternatives.
        """
        if tokens < self.policies.min_tokens:
            return "too_few_tokens", f"{tokens} tokens, fewer than min_tokens={self.policies.min_tokens}"
        if self._is_named(making.get("model")):  # an alias of the profile's model
            making = {**making, "model": None}
        difference = self.profile.key.difference(top_k, **making)
        return ("other_settings", difference) if difference else None

    def _is_named(self, model: str | None) -> bool:
        """Whether a name is another one of the profile's model, or its own as merged chunks double it ("mm")."""
        own = self.profile.key.model
        doubled = model is not None and len(model) > len(own) and model == own * (len(model) // len(own))
        return model in self.names or doubled

    def route(self, value: float, threshold: float) -> tuple[Route, Reason, str]:
        """The route of a draft with this signal value, the reason, and the reason in words that follow the value."""
        if value <= threshold:
            return Route.FINAL, "confident", f"within the threshold {threshold:.4g}"
        hopeless_from = self.hopeless_from
        if hopeless_from is not None and value >= hopeless_from:
            words = f"not below {hopeless_from:.4g}, from where on going deeper does not pay"
            return Route.ABSTAIN, "hopeless", words
        return Route.DEEPER, "uncertain", f"above the threshold {threshold:.4g}"

    def rejection(self, least: float, threshold: float) -> tuple[Route, Reason, str] | None:
        """The route of all drafts with at least this signal value; None where some are accepted, or routes differ."""
        route, reason, words = self.route(least, threshold)
        undecided = route is Route.DEEPER and self.hopeless_from is not None
        return None if route is Route.FINAL or undecided else (route, reason, words)

    @property
    def surest_rejection(self) -> Route:
        """The only route by which :meth:`rejection` can reject."""
        return Route.DEEPER if self.hopeless_from is None else Route.ABSTAIN


#: This library's packages, and those through which a user's call comes to it: a warning shows the user's line
#: instead.
_PASSED_OVER = frozenset(
    [
        "tje_middleware",
        "langchain_tje",
        "llama_index_tje",
        "langchain",
        "langchain_core",
        "langgraph",
        "langsmith",
        "llama_index",
        "llama_index_instrumentation",
        "workflows",
        "wrapt",
        "contextvars",
        "concurrent",
        "threading",
        "asyncio",
    ]
)


class SaidOnce:
    """Warns about each topic once; threads may share it. A copy in another process begins with no topics."""

    def __init__(self) -> None:
        self._topics: set[str] = set()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[SaidOnce], tuple[()]]:
        return type(self), ()

    def __call__(self, topic: str, message: str) -> None:
        """Warn with TjeWarning, unless a warning about the topic was given before."""
        with self._lock:
            if topic in self._topics:
                return
            self._topics.add(topic)
        warnings.warn(f"{message} (said once)", TjeWarning, stacklevel=_frames_of_ours())


def _frames_of_ours() -> int:
    """The ``stacklevel`` of a warning in the calling function that shows the first caller outside these packages."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _PASSED_OVER:
        frame, level = frame.f_back, level + 1
    return level
