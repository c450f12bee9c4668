"""What a gate does, by its user's choice, where a profile and a draft leave it open."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, Literal, TypedDict, get_args

from ._options import require_one_of

if TYPE_CHECKING:
    from .drift import DriftPolicy
    from .sources import DecisionSink

#: What to do with a draft that cannot be judged.
OnMissing = Literal["deeper", "final", "raise"]
#: What to do with a profile whose verdict is ``unusable``.
OnUnusable = Literal["missing", "use"]
#: What to do once live drafts are not like those that the profile was calibrated on, or a promise is not kept.
OnDrift = Literal["missing", "warn", "ignore"]
#: The threshold method of a decision whose threshold was set by hand.
GIVEN = "given"


class GatePolicies(TypedDict, total=False):
    """The keyword arguments of EntropyGate, for functions that pass them on."""

    method: str
    on_missing: OnMissing
    on_unusable: OnUnusable
    strict: bool
    min_tokens: int
    abstain: bool
    ledger: DecisionSink | None
    on_drift: OnDrift
    drift: DriftPolicy | None
    deeper_includes_draft: bool


@dataclass(frozen=True)
class Policies:
    """One gate's, as EntropyGate describes them.

    Attributes:
        method: The threshold method.
        on_missing: What to do with drafts that cannot be judged.
        on_unusable: What to do with a profile whose verdict is ``unusable``.
        strict: Whether one whose verdict is ``weak`` may not accept anything.
        min_tokens: Drafts with fewer measured tokens cannot be judged.
        abstain: Whether hopeless drafts are given up.
        on_drift: What to do once an alarm was raised.
        given: A threshold set by hand, in the place of the method's.

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
        """The same with a threshold set by hand.

        Raises:
            ValueError: no finite number.
        """
        if isinstance(value, bool) or not isinstance(value, Real) or not isfinite(value):
            raise ValueError(f"a threshold must be a finite number, not {value!r}")
        return replace(self, given=float(value))
