"""An alarm that one process reports: at once in its own look-ups, soon in all, and not lost in an outage."""

from __future__ import annotations

import gc
import multiprocessing
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from tests.registry.cache.waiting import until_known
from tests.samples import KEY, profile
from tests.waiting import wait_until
from tje_middleware import CalibrationRegistry, DecisionLedger, ProfileKey
from tje_middleware.calibration.profile import Alarm
from tje_middleware.registry import cache

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


_REPORT = """
from tje_middleware import CalibrationRegistry, DecisionLedger, ProfileKey
from tje_middleware.calibration.profile import Alarm

def report(url):
    key, registry = ProfileKey(model="m", task="t"), CalibrationRegistry(url, refresh_seconds=3600)
    registry.lookup(key)
    registry.report_alarm(key, Alarm("drift", "reported at the end", version=1))
    return registry

"""


def report_and_end(url):
    """As a child of multiprocessing does it, which passes ``atexit`` over."""
    CalibrationRegistry(url).report_alarm(KEY, DRIFT)


def ended(url, code):
    """What a process has said that ran this code with :func:`report` of its own."""
    command = [sys.executable, "-c", f"import sys\n{_REPORT}\n{code}", url]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 0, process.stderr
    return process.stderr


class TestAProcessThatEndsRightAfter:
    @pytest.mark.parametrize(
        "code", ["registry = report(sys.argv[1])", "report(sys.argv[1])"], ids=["in use", "forgotten"]
    )
    def test_has_stored_it(self, url, code):
        assert ended(url, code) == ""
        with CalibrationRegistry(url) as registry:
            assert [stored.alarm.detail for stored in registry.alarms()] == ["reported at the end"]

    def test_has_stored_it_as_a_child_of_multiprocessing(self, url):
        child = multiprocessing.get_context("spawn").Process(target=report_and_end, args=(url,))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        with CalibrationRegistry(url) as registry:
            assert len(registry.alarms()) == 1

    @pytest.mark.parametrize("url", ["sqlite"], indirect=True)
    def test_has_stored_it_though_no_thread_can_be_started_any_more(self, url):
        refuse = """
def refuse(_thread):
    raise RuntimeError("can't start new thread")

import threading
from tje_middleware.registry.cache import Following
report_alarm = Following.report_alarm
Following.report_alarm = lambda *of: (setattr(threading.Thread, "start", refuse), report_alarm(*of))
registry = report(sys.argv[1])
"""
        ended(url, refuse)
        with CalibrationRegistry(url) as registry:
            assert len(registry.alarms()) == 1

    @pytest.mark.parametrize("url", ["sqlite"], indirect=True)
    def test_says_so_where_it_could_not_and_ends_all_the_same(self, url):
        ruin = """
from tje_middleware import _process
_process.SECONDS_TO_LEAVE = 0.5
with open(sys.argv[1].removeprefix("sqlite:///"), "wb") as file:
    file.write(b"this was a database" * 1000)
registry = report(sys.argv[1])
"""
        assert "1 alarm could not be stored before the process ended" in ended(url, ruin)


def test_a_registry_that_hangs_at_the_end_of_a_process_costs_no_ledger_its_decisions(tmp_path):
    pytest.importorskip("psycopg")
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    code = """
import socket
from tests.ledger.decisions import decision
from tje_middleware import DecisionLedger, _process
_process.SECONDS_TO_LEAVE = 2.0
silent = socket.create_server(("127.0.0.1", 0))  # takes connections and never answers
registry = CalibrationRegistry(f"postgresql+psycopg://tje@127.0.0.1:{silent.getsockname()[1]}/tje")
ledger = DecisionLedger(sys.argv[1], flush_seconds=3600)
registry.report_alarm(ProfileKey(model="m", task="t"), Alarm("drift", "reported at the end", version=1))
ledger.record(decision(decision_id="at the end"))
"""
    assert "1 alarm could not be stored before the process ended" in ended(url, code)
    with DecisionLedger(url) as ledger:
        assert ledger.holds("at the end")


def test_one_that_a_finalizer_reports_in_the_middle_of_a_look_up_waits_for_nobody(registry):
    class Stream:
        """As one that the garbage collector closes: it settles its decision, and that may raise an alarm."""

        def __init__(self):
            self.itself = self

        def __del__(self):
            registry.report_alarm(KEY, DRIFT)

    def look_up():
        thresholds = gc.get_threshold()
        try:
            for n in range(40):
                gc.disable()
                Stream()
                gc.enable()
                gc.set_threshold(3 + n % 9)
                registry.lookup(ProfileKey(model=f"m{n}", task="t"))
        finally:
            gc.set_threshold(*thresholds)

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


def test_one_that_cannot_be_read_hides_no_other_key(tmp_path):
    path, other = tmp_path / "tje.db", ProfileKey(model="m2", task="t")
    with CalibrationRegistry(f"sqlite:///{path}", refresh_seconds=0.05) as registry:
        registry.put(profile())
        registry.put(profile(key=other))
        until_known(registry, KEY)
        until_known(registry, other)
        registry.store_alarm(other, DRIFT)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("update tje_alarms set evidence = '{'")
        wait_until(lambda: registry.lookup(other).stale)
        assert "holds an alarm that cannot be read" in registry.lookup(other).problem
        assert registry.lookup(KEY).stale is False
        assert registry.put(profile()) == registry.lookup(KEY).profile.version == 2
        registry.dismiss(other)
        assert registry.lookup(other).stale is False


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
    monkeypatch.setattr(cache, "_MOST_ALARMS", 10)
    with CalibrationRegistry(f"sqlite:///{tmp_path}/no/such/folder/tje.db") as registry:
        for version in range(1, 1000):
            registry.report_alarm(KEY, Alarm("drift", "of many", version=version))
        assert len(registry._following.unstored_alarms) == 10
        registry._following.unstored_alarms.clear()  # the end of the run need not wait for them
