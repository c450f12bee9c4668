"""An alarm that one process reports: at once in its own look-ups, soon in all, and not lost in an outage."""

from __future__ import annotations

import pytest

from tests.registry_hot_path.waiting import until_known
from tests.samples import KEY, profile
from tests.waiting import wait_until
from tje_middleware import CalibrationRegistry, ProfileKey
from tje_middleware.alarms import Alarm
from tje_middleware.registry import _following

DRIFT = Alarm("drift", "the drafts are others than the profile's", version=1, evidence={"ks": 0.4})


@pytest.fixture(params=["sqlite", "postgres"])
def url(request, tmp_path):
    url = request.getfixturevalue("postgres").url() if request.param == "postgres" else f"sqlite:///{tmp_path}/tje.db"
    with CalibrationRegistry(url) as registry:
        registry.put(profile())
    return url


@pytest.fixture
def registry(url):
    with CalibrationRegistry(url, refresh_seconds=0.2) as registry:
        until_known(registry, KEY)
        yield registry


class TestAnAlarm:
    def test_shows_at_once_here_and_soon_elsewhere(self, url, registry):
        with CalibrationRegistry(url, refresh_seconds=0.2) as elsewhere:
            until_known(elsewhere, KEY)
            assert elsewhere.lookup(KEY).alarm is None
            registry.report_alarm(KEY, DRIFT)
            assert registry.lookup(KEY).alarm == DRIFT
            wait_until(lambda: elsewhere.lookup(KEY).alarm is not None)
            assert elsewhere.lookup(KEY).alarm.detail == DRIFT.detail

    def test_is_stored_once_however_many_see_it(self, url, registry):
        with CalibrationRegistry(url) as elsewhere:
            for one in (registry, registry, elsewhere):
                one.report_alarm(KEY, DRIFT)
        registry.close()
        assert [stored.alarm.detail for stored in registry.alarms()] == [DRIFT.detail]

    def test_is_gone_when_somebody_dismissed_it(self, url, registry):
        registry.report_alarm(KEY, DRIFT)
        wait_until(registry.alarms)
        with CalibrationRegistry(url) as elsewhere:
            assert elsewhere.dismiss(KEY) == 1
        wait_until(lambda: registry.lookup(KEY).alarm is None)

    def test_does_not_outlive_its_version(self, registry):
        registry.report_alarm(KEY, DRIFT)
        registry.put(profile(0.9))
        assert registry.lookup(KEY).alarm is None

    def test_shows_under_an_alias(self, registry):
        dated = ProfileKey(model="m-2026-01-01", task="t")
        registry.alias(dated.model, "m")
        until_known(registry, dated)
        registry.report_alarm(dated, DRIFT)
        assert registry.lookup(dated).alarm == registry.lookup(KEY).alarm == DRIFT
        wait_until(registry.alarms)
        assert [stored.key for stored in registry.alarms()] == [KEY]

    def test_shows_under_an_alias_of_a_registry_that_was_closed_meanwhile(self, registry):
        dated = ProfileKey(model="m-2026-01-01", task="t")
        registry.alias(dated.model, "m")
        until_known(registry, dated)
        registry.close()
        registry.report_alarm(dated, DRIFT)
        assert registry.lookup(KEY).alarm == DRIFT

    def test_about_a_version_that_there_is_not_is_dropped(self, registry, caplog):
        registry.report_alarm(KEY, Alarm("drift", "of a version that was deleted", version=9))
        wait_until(lambda: "has no version 9" in caplog.text)
        registry.report_alarm(KEY, DRIFT)
        wait_until(registry.alarms)

    def test_is_stored_by_a_registry_that_is_closed_right_after(self, registry):
        registry.report_alarm(KEY, DRIFT)
        registry.close()
        assert len(registry.alarms()) == 1


def test_alarms_of_an_outage_are_stored_after_it(tmp_path):
    path = tmp_path / "tje.db"
    with CalibrationRegistry(f"sqlite:///{path}", refresh_seconds=0.2) as registry:
        registry.put(profile())
        until_known(registry, KEY)
        whole = path.read_bytes()
        path.write_bytes(b"this was a database" * 1000)
        registry.report_alarm(KEY, DRIFT)
        wait_until(lambda: registry.lookup(KEY).stale)
        assert registry.lookup(KEY).alarm == DRIFT
        path.write_bytes(whole)
        wait_until(lambda: not registry.lookup(KEY).stale)
        wait_until(registry.alarms)


def test_no_more_alarms_are_kept_than_there_is_room_for(tmp_path, monkeypatch):
    monkeypatch.setattr(_following, "_MOST_ALARMS", 10)
    with CalibrationRegistry(f"sqlite:///{tmp_path}/no/such/folder/tje.db") as registry:
        for version in range(1, 1000):
            registry.report_alarm(KEY, Alarm("drift", "of many", version=version))
        assert len(registry._following._alarms) == 10
