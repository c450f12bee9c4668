"""False alarms at the stated rate over a thousand streams and more, and real changes caught."""

from __future__ import annotations

import pytest

from tests.simulation.drift import CHANGES, LATE, SHAPES, detection, false_alarms, together

# Ten times the default, so that a test that is merely twice too eager would show.
ALPHA = 0.1
BY_NAME = {change.name: change for change in CHANGES}


@pytest.fixture(scope="module")
def rows():
    return [
        false_alarms(shape, records, streams=70, alpha=ALPHA, length=800)
        for records in (20, 100, 1000)
        for shape in SHAPES
    ]


def test_false_alarms_are_as_rare_as_stated_for_every_shape_and_size(rows):
    assert {(row.shape, row.records): row.certain for row in rows if row.certain / row.streams > row.at_most} == {}


def test_so_they_are_over_a_thousand_streams(rows):
    every = together(rows)
    assert every.streams >= 1_000
    assert every.alarms <= every.certain
    assert every.certain / every.streams <= ALPHA
    assert every.interval(every.certain)[0] > 0.01  # nor is it blind


def test_testing_every_new_window_anew_is_not(rows):
    every = together(rows)
    assert every.naive / every.streams > 2 * every.at_most


@pytest.mark.parametrize(
    ("change", "after", "median"),
    [("1 sd up", 0, 40), ("1 sd down", LATE, 150), ("another model", 0, 80), ("another model", LATE, 150)],
)
def test_a_large_change_is_caught_within_a_window(change, after, median):
    row = detection(BY_NAME[change], 100, after=after, streams=20, length=600)
    assert (row.found, row.early) == (1.0, 0)
    assert row.delay(0.5) <= median


def test_half_a_standard_deviation_is_caught_where_there_are_records_enough():
    row = detection(BY_NAME["0.5 sd up"], 1000, after=0, streams=20, length=600)
    assert row.found == 1.0
    assert row.delay(0.9) <= 250
