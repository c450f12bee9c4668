"""A process that forks amid its work: no child inherits an open file, a lock or an alarm that is the parent's."""

from __future__ import annotations

import gc
import os
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.children import in_child
from tests.registry.cache.waiting import until_known
from tests.samples import KEY, profile
from tests.waiting import wait_until
from tje_middleware import CalibrationRegistry, _process
from tje_middleware.calibration.profile import Alarm
from tje_middleware.storage import Database

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
DRIFT = Alarm("drift", "the drafts are others than the profile's", version=1)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "tje.db"


@pytest.fixture
def registry(path):
    with CalibrationRegistry(f"sqlite:///{path}", refresh_seconds=0.05) as registry:
        registry.put(profile())
        until_known(registry, KEY)
        yield registry


def open_files(path: Path) -> list[str]:
    """The files of this process that are the database's."""
    found = []
    for descriptor in list(Path("/proc/self/fd").iterdir()):
        try:
            target = str(descriptor.readlink())
        except OSError:  # the one that listed them
            continue
        if target.startswith(str(path)):
            found.append(target)
    return found


@contextmanager
def at_work(*pieces):
    """Threads that do their piece of work again and again."""
    done = threading.Event()

    def run(work):
        while not done.is_set():
            work()

    threads = [threading.Thread(target=run, args=[work]) for work in pieces]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


class TestAFile:
    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="nothing tells what is open here")
    def test_is_not_open_in_a_child_however_busy_the_parent(self, path, registry):
        with at_work(lambda: registry.get(KEY), lambda: registry.put(profile()), lambda: registry.versions(KEY)):
            inherited = [in_child(lambda: open_files(path)) for _ in range(30)]
        assert inherited == [[]] * 30

    def test_is_read_and_written_by_children_and_parent_without_harm(self, registry):
        with at_work(lambda: registry.get(KEY), lambda: registry.put(profile())):
            put = [in_child(lambda: registry.put(profile())) for _ in range(10)]
        numbers = [one.version for one in registry.history(KEY)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert set(put) <= set(numbers)
        with registry.database.engine.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"

    def test_that_the_forking_thread_has_open_is_not_waited_for(self, registry, caplog):
        with registry.database.reading():
            assert in_child(lambda: 1) == 1
        assert in_child(lambda: registry.get(KEY).version) == 1
        assert "forked while" not in caplog.text

    def test_that_is_not_closed_in_time_holds_no_fork_up_for_ever_and_is_told(self, registry, monkeypatch, caplog):
        monkeypatch.setattr(_process, "_PATIENCE_SECONDS", 0.05)
        opened, done = threading.Event(), threading.Event()

        def hold():
            with registry.database.reading():
                opened.set()
                done.wait()

        holder = threading.Thread(target=hold)
        holder.start()
        opened.wait()
        assert in_child(lambda: 1) == 1
        assert "forked while another thread" in caplog.text
        done.set()
        holder.join()
        assert registry.get(KEY).version == 1

    def test_that_cannot_be_opened_counts_as_none(self, tmp_path, caplog):
        registry = CalibrationRegistry(f"sqlite:///{tmp_path}/no/such/folder/tje.db")
        failing = threading.Thread(target=lambda: registry.lookup(KEY))
        failing.start()
        failing.join()
        wait_until(lambda: registry.lookup(KEY).problem)
        registry.close()
        assert in_child(lambda: 1) == 1
        assert "forked while" not in caplog.text


class TestAnAlarm:
    def test_that_the_parent_reported_does_not_stay_in_a_child_when_it_is_dismissed(self, registry):
        registry.report_alarm(KEY, DRIFT)
        wait_until(registry.alarms)

        def dismissed():
            registry.lookup(KEY)
            registry.dismiss(KEY)
            return registry.lookup(KEY).alarm is None

        assert in_child(dismissed) is True

    def test_that_the_parent_could_not_store_is_not_shown_for_ever(self, path, registry):
        whole = path.read_bytes()
        path.write_bytes(b"this was a database" * 1000)
        registry.report_alarm(KEY, DRIFT)
        wait_until(lambda: registry.lookup(KEY).stale)

        def forgotten():
            path.write_bytes(whole)
            wait_until(lambda: not registry.lookup(KEY).stale and registry.lookup(KEY).alarm is None, 20)
            return True

        assert registry.lookup(KEY).alarm == DRIFT
        assert in_child(forgotten) is True


def test_databases_that_nobody_has_any_more_are_told_of_no_fork():
    pytest.importorskip("psycopg")
    gc.collect()
    before = len(_process._FORKS.known)
    held = [Database("postgresql+psycopg://tje@127.0.0.1:1/tje") for _ in range(50)]
    assert len(_process._FORKS.known) == before + 50
    held.clear()
    gc.collect()
    assert len(_process._FORKS.known) == before
