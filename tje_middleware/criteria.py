"""What a gate holds a draft against: one profile under the gate's policies, the draft being whole or still coming."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from .decision import GateDecision, Reason, Route
from .errors import CalibrationError
from .profile import CalibrationProfile

#: The threshold method of a decision whose threshold was set by hand.
GIVEN = "given"


class Making(TypedDict, total=False):
    """How a draft was made, as far as that is known."""

    model: str | None
    temperature: float | None
    prompt_fingerprint: str | None


@dataclass(frozen=True)
class Criteria:
    """A profile as one gate applies it.

    Attributes:
        profile: What calibration found.
        method: The threshold method.
        given: A threshold set by hand, in the place of the method's.
        stale: Whether the profile is the last one seen of a registry that cannot be asked.
        use_unusable: Whether a profile whose verdict is ``unusable`` may accept drafts.
        strict: Whether one whose verdict is ``weak`` may not.
        min_tokens: Drafts with fewer tokens cannot be judged.
        abstain: Whether hopeless drafts are given up.
    """

    profile: CalibrationProfile
    method: str
    given: float | None
    stale: bool
    use_unusable: bool
    strict: bool
    min_tokens: int
    abstain: bool

    @property
    def threshold(self) -> float | None:
        """The value up to which drafts are accepted, in the signal's unit; None where there is none."""
        if self.given is not None:
            return self.given
        found = self.profile.thresholds.get(self.method)
        return found.value if found else None

    @property
    def hopeless_from(self) -> float | None:
        """The value from which on a draft that is not accepted is given up; None: none ever is."""
        if not self.abstain or self.method not in self.profile.thresholds:
            return None
        return self.profile.hopeless_from(self.method)

    def grounds(self) -> GateDecision:
        """A decision with what is known before the draft is looked at; its route is still to be set."""
        return GateDecision(
            route=Route.DEEPER,
            reason="no_profile",
            detail="",
            signal=self.profile.signal,
            method=self.method if self.given is None else GIVEN,
            threshold=self.threshold,
            verdict=self.profile.verdict,
            profile_version=self.profile.version,
            stale=self.stale,
            key=str(self.profile.key),
        )

    def refusal(self) -> str | None:
        """Why this profile may not accept anything, or None."""
        profile = self.profile
        if profile.verdict == "unusable" and not self.use_unusable:
            return f"the profile of {profile.key} is unusable: {profile.verdict_reason}"
        if profile.verdict == "weak" and self.strict:
            return f"the profile of {profile.key} is weak, and strict=True: {profile.verdict_reason}"
        if self.given is None:
            try:
                profile.threshold(self.method)
            except CalibrationError as error:
                return str(error)
        return None

    def misfit(self, tokens: int, top_k: int, making: Making) -> tuple[Reason, str] | None:
        """Why a draft of so many tokens and alternatives, made so, cannot be judged by this profile, or None.

        More tokens or alternatives never make a misfit of a draft that is none.
        """
        if tokens < self.min_tokens:
            return "too_few_tokens", f"{tokens} tokens, fewer than min_tokens={self.min_tokens}"
        difference = self.profile.key.difference(top_k, **making)
        return ("other_settings", difference) if difference else None

    def route(self, value: float, threshold: float) -> tuple[Route, Reason, str]:
        """Where a draft of this signal value goes, why, and why in words that follow the value."""
        if value <= threshold:
            return Route.FINAL, "confident", f"within the threshold {threshold:.4g}"
        hopeless_from = self.hopeless_from
        if hopeless_from is not None and value >= hopeless_from:
            return (
                Route.ABSTAIN,
                "hopeless",
                f"not below {hopeless_from:.4g}, from where on going deeper does not pay",
            )
        return Route.DEEPER, "uncertain", f"above the threshold {threshold:.4g}"

    def rejection(self, least: float, threshold: float) -> tuple[Route, Reason, str] | None:
        """The same for every draft of at least this value, where all of them are rejected by one route."""
        route, reason, words = self.route(least, threshold)
        undecided = route is Route.DEEPER and self.hopeless_from is not None
        return None if route is Route.FINAL or undecided else (route, reason, words)

    @property
    def surest_rejection(self) -> Route:
        """The only route by which :meth:`rejection` can reject."""
        return Route.DEEPER if self.hopeless_from is None else Route.ABSTAIN
