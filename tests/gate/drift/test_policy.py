"""What a policy may say."""

from __future__ import annotations

import pytest

from tje_middleware.gate.drift import DriftPolicy


@pytest.mark.parametrize(
    "given",
    [
        {"alpha": 0.0},
        {"alpha": 1.0},
        {"alpha": float("nan")},
        {"window": 1},
        {"window": 99.5},
        {"window": True},
        {"least_drafts": 0},
        {"least_drafts": 9.5},
        {"least_psi": -0.1},
        {"least_psi": float("inf")},
        {"max_risk": 0.0},
        {"max_risk": 1.0},
    ],
)
def test_what_means_nothing_is_refused_by_its_name(given):
    with pytest.raises(ValueError, match=next(iter(given))):
        DriftPolicy(**given)


def test_the_defaults_are_those_that_the_simulation_holds_to():
    stated = DriftPolicy(alpha=0.01, window=200, least_psi=0.1, least_drafts=30, max_risk=None)
    assert DriftPolicy() == stated
