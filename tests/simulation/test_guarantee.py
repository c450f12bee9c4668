"""The promises hold in at least 1 - delta of the simulated calibrations, and only by the methods that make them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.simulation.guarantee import (
    ABSTAIN,
    HOPELESS,
    NONINFERIOR,
    RISK,
    kept,
    kept_by_auto,
    noise_called_usable,
    overall,
)
from tests.simulation.worlds import CANDIDATES, COMPLEMENTARY, NOISE, WORLDS

REPEATS = 40


@pytest.fixture(
    scope="module", params=[(RISK, WORLDS), (NONINFERIOR, WORLDS), (ABSTAIN, HOPELESS)], ids=lambda p: p[0].name
)
def rows(request):
    promise, worlds = request.param
    return list(kept(promise, worlds, repeats=REPEATS))


def of_the_promise(rows):
    return [row for row in rows if row.method == row.promise]


def test_the_promise_is_kept_in_every_world(rows):
    assert {row.world: row.broken for row in of_the_promise(rows) if row.broken > row.at_most} == {}


def test_the_promise_is_kept_over_all_worlds(rows):
    (together,) = overall(of_the_promise(rows))
    assert together.runs >= 2_000
    assert together.broken <= together.at_most


def test_the_plug_in_rule_does_not_keep_it(rows):
    (together,) = overall(row for row in rows if row.method == "plug-in")
    assert together.broken > 2 * together.at_most


def test_the_promise_is_not_kept_by_accepting_nothing(rows):
    (together,) = overall(of_the_promise(rows))
    assert together.accepted > 0.3 * together.oracle


@pytest.mark.parametrize("scenario", CANDIDATES, ids=lambda scenario: scenario.name)
def test_risk_is_kept_by_a_signal_chosen_on_the_same_records(scenario):
    row = kept_by_auto(scenario, repeats=75)
    assert row.broken <= row.at_most


def test_risk_is_kept_by_a_learned_signal():
    row = kept_by_auto(COMPLEMENTARY, repeats=3)
    assert row.found > 0.5
    assert row.broken <= row.at_most


def test_automatic_choice_calls_pure_noise_unusable():
    calls = [call for scenario in NOISE for call in noise_called_usable(scenario, repeats=170)]
    assert len(calls) >= 1_000
    assert np.mean(calls) <= 0.05
