"""One alarm, when live drafts are surely and materially other than the records; none before, none after."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from tje_middleware.calibration.profile import Alarm
from tje_middleware.calibration.reference import reference_of
from tje_middleware.gate.drift import DriftMonitor, DriftPolicy


def records(n=200, seed=0):
    return np.random.default_rng(seed).gamma(2.0, 0.2, n)


def live(n, *, times=1.0, seed=1):
    return (times * np.random.default_rng(seed).gamma(2.0, 0.2, n)).tolist()


def alarms(monitor, values):
    return [(place, alarm) for place, alarm in enumerate(map(monitor.observe, values), 1) if alarm is not None]


@pytest.fixture(scope="module")
def raised():
    monitor = DriftMonitor(reference_of(records()), threshold=0.4)
    ((place, alarm),) = alarms(monitor, live(600, times=1.8))
    return place, alarm, monitor


class TestAlarm:
    def test_is_raised_once_and_soon(self, raised):
        place, alarm, monitor = raised
        assert isinstance(alarm, Alarm)
        assert alarm.kind == "drift"
        assert place < 60
        assert monitor.state().alarmed

    def test_says_in_a_sentence_what_it_rests_on(self, raised):
        place, alarm, _ = raised
        assert f"the newest {place} of {place} drafts is not distributed as that of the 200 records" in alarm.detail
        assert f"PSI {alarm.evidence['psi']:.2f}" in alarm.detail
        assert f"{alarm.evidence['accepted']:.0%} of them are within the threshold" in alarm.detail
        assert f"e-value {alarm.evidence['e_value']:.3g}" in alarm.detail

    def test_holds_the_numbers_by_name(self, raised):
        place, alarm, _ = raised
        found = dict(alarm.evidence)
        assert found.pop("observations") == place
        assert found.pop("e_value") >= 100
        assert found.pop("psi") >= 0.1
        assert found.pop("ks_p") < 0.01
        assert found.pop("ks") > 0.2
        assert found.pop("accepted") < found.pop("accepted_of_records") - 0.2
        assert found == {}

    def test_without_a_threshold_nothing_is_said_of_accepted_ones(self):
        ((_, alarm),) = alarms(DriftMonitor(reference_of(records())), live(300, times=2))
        assert "threshold" not in alarm.detail
        assert "accepted" not in alarm.evidence


class TestNoAlarm:
    def test_as_long_as_nothing_changes(self):
        monitor = DriftMonitor(reference_of(records(2_000)))
        assert alarms(monitor, live(5_000)) == []
        state = monitor.state()
        assert (state.observations, state.alarmed) == (5_000, False)
        assert state.e_value < 100
        assert state.psi < 0.1

    def test_of_a_change_that_is_certain_but_too_small_to_matter(self):
        values = live(600, times=1.8)
        monitor = DriftMonitor(reference_of(records()), DriftPolicy(least_psi=50.0))
        assert alarms(monitor, values) == []
        assert monitor.state().e_value > 1e6

    def test_of_a_few_drafts_whatever_they_are(self):
        monitor = DriftMonitor(reference_of(records()), DriftPolicy(least_drafts=40))
        assert [place for place, _ in alarms(monitor, [9.0] * 100)] == [40]

    def test_of_one_value_that_stays_one_value(self):
        assert alarms(DriftMonitor(reference_of(np.full(100, 3.0))), [3.0] * 2_000) == []

    def test_but_one_where_one_value_becomes_another(self):
        assert alarms(DriftMonitor(reference_of(np.full(100, 3.0))), [3.0] * 300 + [3.1] * 200)

    @pytest.mark.parametrize("n", [1, 2, 5])
    def test_of_a_handful_of_records_and_what_is_like_them(self, n):
        assert alarms(DriftMonitor(reference_of(records(n))), live(1_000)) == []


class TestStoppedDrafts:
    """Their values are lower bounds: any number above the threshold."""

    def test_are_judged_alike_whatever_their_bounds(self):
        values, threshold = np.array(live(400, times=1.5)), 0.4
        bounds = np.where(values > threshold, threshold + 1e-3, values)
        reference = reference_of(records())
        one, other = (DriftMonitor(reference, censored_above=threshold) for _ in range(2))
        first, second = (alarms(monitor, seen.tolist()) for monitor, seen in ((one, values), (other, bounds)))
        assert [place for place, _ in first] == [place for place, _ in second] != []
        assert one.state() == other.state()

    def test_would_raise_a_false_alarm_if_the_bounds_were_taken_for_values(self):
        values, threshold = np.array(live(1_000)), 0.4
        bounds = np.where(values > threshold, threshold + 1e-3, values).tolist()
        assert alarms(DriftMonitor(reference_of(records())), bounds)
        assert alarms(DriftMonitor(reference_of(records()), censored_above=threshold), bounds) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_refused_and_not_counted(value):
    monitor = DriftMonitor(reference_of(records()))
    with pytest.raises(ValueError, match="finite number"):
        monitor.observe(value)
    assert monitor.state().observations == 0


def test_threads_lose_no_draft_and_raise_one_alarm():
    monitor, found = DriftMonitor(reference_of(records())), []

    def watch(seed):
        found.extend(alarms(monitor, live(500, times=2, seed=seed)))

    threads = [threading.Thread(target=watch, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1
    assert monitor.state().observations == 4_000


def test_the_state_before_the_first_draft_is_that_nothing_is_known():
    state = DriftMonitor(reference_of(records()), threshold=0.4).state()
    assert (state.observations, state.e_value, state.accepted, state.alarmed) == (0, 1.0, None, False)
    assert state.accepted_of_records == pytest.approx((records() <= 0.4).mean())
