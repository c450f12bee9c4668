"""Decisions with exactly the numbers that a test names."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from tje_middleware import GateDecision, Route
from tje_middleware.calls.usage import TokenUsage
from tje_middleware.gate.decision import new_decision_id

if TYPE_CHECKING:
    from tje_middleware import CalibrationProfile

#: That of ``tests.samples``, in words.
KEY = "m / t / mean_entropy (top 20)"

ACCEPTED = GateDecision(
    Route.FINAL,
    "confident",
    "mean_entropy 0.2 is within the threshold",
    signal="mean_entropy",
    method="risk",
    signal_value=0.2,
    threshold=0.5,
    tokens=10,
    verdict="usable",
    profile_version=1,
    key=KEY,
    answered_by="draft",
    draft_usage=TokenUsage(100, 10, 1),
)
DEEPER = replace(
    ACCEPTED,
    route=Route.DEEPER,
    reason="uncertain",
    signal_value=0.9,
    answered_by="deeper",
    deeper_usage=TokenUsage(200, 300, 1),
)
GIVEN_UP = replace(ACCEPTED, route=Route.ABSTAIN, reason="hopeless", signal_value=2.0)


def decision(kind: GateDecision = ACCEPTED, **fields: object) -> GateDecision:
    """A decision of its own."""
    return replace(kind, **{"decision_id": new_decision_id(), **fields})


@cache
def profile_with_costs(*, version: int = 1) -> CalibrationProfile:
    """A profile whose records say that going deeper costs 200 tokens up to a signal of 0.5, and 400 above it."""
    from tests.samples import profile  # noqa: PLC0415 (scipy: not for every process of a test)
    from tje_middleware.calibration.reference import ReferenceDistribution  # noqa: PLC0415

    reference = ReferenceDistribution(n=20, values=(0.25, 1.0), ranks=(10, 20), deeper_tokens=(200.0, 400.0))
    return profile(version=version).model_copy(update={"reference": reference})
