"""What is known is kept fresh in the background, says so when it is not, and leaves no thread behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import pickle
import sqlite3
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing

import pytest
from sqlalchemy import Engine, event

from tests.registry.cache.waiting import background_threads, until_known
from tests.samples import KEY, profile
from tests.waiting import wait_until
from tje_middleware import CalibrationRegistry, ProfileKey
from tje_middleware.registry.refresh import Refresher
from tje_middleware.registry.versions import add_version

OTHER = ProfileKey(model="m2", task="t")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tje.db"


@pytest.fixture
def elsewhere(path):
    """The same registry as another process has it, with a profile of threshold 0.5."""
    with CalibrationRegistry(f"sqlite:///{path}") as registry:
        registry.put(profile(0.5))
        yield registry


@pytest.fixture
def registry(path, elsewhere):
    """One that knows the key, and reads it again and again."""
    with CalibrationRegistry(f"sqlite:///{path}", refresh_seconds=0.05) as registry:
        until_known(registry, KEY)
        yield registry


def break_file(path):
    path.write_bytes(b"this was a database" * 1000)


def execute(path, statement, *values):
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement, values)


class TestFreshness:
    def test_what_others_put_and_promote_and_roll_back_is_followed(self, registry, elsewhere):
        elsewhere.put(profile(0.9))
        wait_until(lambda: registry.lookup(KEY).profile.version == 2)
        elsewhere.rollback(KEY)
        wait_until(lambda: registry.lookup(KEY).profile.version == 1)

    def test_a_profile_that_has_not_changed_is_not_parsed_again(self, registry, elsewhere):
        before = registry.lookup(KEY)
        elsewhere.alias("m-2026-01-01", "m")
        wait_until(lambda: registry.lookup(KEY).names)
        assert registry.lookup(KEY).profile is before.profile

    def test_what_is_deleted_is_missing_and_no_outage(self, registry, elsewhere):
        elsewhere.delete(KEY)
        wait_until(lambda: registry.lookup(KEY).profile is None)
        assert registry.lookup(KEY).stale is False
        assert "no profile" in registry.lookup(KEY).problem

    def test_an_alias_is_followed(self, registry, elsewhere):
        dated = ProfileKey(model="m-2026-01-01", task="t")
        assert registry.lookup(dated).profile is None
        elsewhere.alias("m-2026-01-01", "m")
        wait_until(lambda: registry.lookup(dated).profile is not None)
        wait_until(lambda: registry.lookup(KEY).names == {"m-2026-01-01"})

    def test_500_keys_are_read_with_a_few_queries(self, path, elsewhere):
        keys = [ProfileKey(model=f"m{number}", task="t") for number in range(500)]
        with elsewhere.database.writing() as connection:
            for key in keys:
                add_version(connection, profile(key=key), active=True, source="test", by="test")

        async def look_up_all():
            await asyncio.gather(*(registry.alookup(key) for key in keys))

        seen = []

        def note(_connection, _cursor, statement, *_rest):
            seen.append(statement)

        with CalibrationRegistry(f"sqlite:///{path}", refresh_seconds=3600) as registry:
            asyncio.run(look_up_all())
            wait_until(lambda: all(registry.lookup(key).profile is not None for key in keys))
            elsewhere.promote(keys[-1], elsewhere.put(profile(0.9, key=keys[-1])))
            event.listen(Engine, "before_cursor_execute", note)
            try:
                registry._following.refresh_all()
            finally:
                event.remove(Engine, "before_cursor_execute", note)
            assert registry.lookup(keys[-1]).profile.version == 2
        assert len(seen) <= 10

    @pytest.mark.parametrize(
        "change",
        [
            lambda registry: registry.put(profile(0.9)),
            lambda registry: registry.promote(KEY, registry.put(profile(0.9), candidate=True)),
        ],
        ids=["put", "promote"],
    )
    def test_own_changes_are_seen_at_once_however_slow_the_background(self, path, elsewhere, change):
        with CalibrationRegistry(f"sqlite:///{path}", refresh_seconds=3600) as registry:
            until_known(registry, KEY)
            change(registry)
            assert registry.lookup(KEY).profile.version == 2
            registry.rollback(KEY)
            assert registry.lookup(KEY).profile.version == 1
            registry.delete(KEY)
            assert registry.lookup(KEY).profile is None

    def test_changes_of_many_threads_leave_the_last_one(self, path, elsewhere):
        with CalibrationRegistry(f"sqlite:///{path}", refresh_seconds=3600) as registry:
            registry.lookup(KEY)
            threads = [threading.Thread(target=registry.put, args=[profile()]) for _ in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert registry.lookup(KEY).profile.version == 21


class TestOutage:
    @pytest.mark.parametrize("ruin", [break_file, lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
    def test_the_last_profile_serves_marked_stale_with_the_reason(self, registry, path, ruin):
        ruin(path)
        wait_until(lambda: registry.lookup(KEY).stale)
        answer = registry.lookup(KEY)
        assert answer.profile.version == 1
        assert str(path) in answer.problem
        for _ in range(3):  # not only the first time that it is asked
            registry._following.refresh()
            again = registry.lookup(KEY)
            assert (again.profile.version, again.stale) == (1, True)

    def test_is_over_by_itself(self, registry, elsewhere, path):
        whole = path.read_bytes()
        break_file(path)
        wait_until(lambda: registry.lookup(KEY).stale)
        path.write_bytes(whole)
        wait_until(lambda: not registry.lookup(KEY).stale)
        elsewhere.put(profile(0.9))
        wait_until(lambda: registry.lookup(KEY).profile.version == 2)

    def test_is_logged_once_with_its_end(self, registry, path, caplog):
        caplog.set_level(logging.INFO, "tje_middleware.registry")
        whole = path.read_bytes()
        break_file(path)
        failures = []
        event.listen(Engine, "do_connect", lambda *_: failures.append(1), once=False)
        wait_until(lambda: registry.lookup(KEY).stale)
        before = len(failures)
        wait_until(lambda: len(failures) > before + 3)
        path.write_bytes(whole)
        wait_until(lambda: "is back" in caplog.text)
        assert caplog.text.count("marked stale") == 1

    @pytest.mark.usefixtures("elsewhere")
    def test_from_the_start_is_logged_as_one_in_which_nothing_serves(self, path, caplog):
        break_file(path)
        with CalibrationRegistry(f"sqlite:///{path}", refresh_seconds=0.05) as registry:
            assert registry.lookup(KEY).profile is None
            wait_until(lambda: "no profile was seen yet, and none serves" in caplog.text)
        assert "marked stale" not in caplog.text

    def test_of_one_row_is_that_of_no_other(self, registry, elsewhere, path):
        elsewhere.put(profile(key=OTHER))
        until_known(registry, OTHER)
        execute(path, "update tje_profiles set body = '{' where key like ?", '%"m"%')
        wait_until(lambda: registry.lookup(KEY).stale)
        assert "cannot be read (version 1 of" in registry.lookup(KEY).problem
        assert registry.lookup(OTHER).stale is False

    @pytest.mark.usefixtures("elsewhere")
    def test_of_a_schema_of_another_release_is_an_answer_too(self, path):
        execute(path, "update tje_alembic_version set version_num = '9999'")
        with CalibrationRegistry(f"sqlite:///{path}") as registry:
            assert "upgrade tje-middleware" in registry.lookup(KEY).problem


class TestAge:
    def test_an_answer_that_the_background_cannot_renew_is_stale_while_the_server_says_nothing(
        self, registry, monkeypatch
    ):
        monkeypatch.setattr("tje_middleware.registry.refresh._PATIENCE_SECONDS", 0.1)
        hung = threading.Event()

        def hang(_connection, _cursor, statement, *_rest):
            if "FROM tje_profiles" in statement:
                hung.wait(30)

        event.listen(Engine, "before_cursor_execute", hang)
        try:
            wait_until(lambda: registry.lookup(KEY).stale)
            assert "has not answered for 0.1 seconds" in registry.lookup(KEY).problem
        finally:
            hung.set()
            event.remove(Engine, "before_cursor_execute", hang)
        wait_until(lambda: not registry.lookup(KEY).stale)


class TestTheEnd:
    @pytest.fixture(autouse=True)
    def _alone(self):
        wait_until(lambda: not background_threads())

    def test_no_thread_is_started_before_the_first_look_up(self, elsewhere):
        elsewhere.get(KEY)
        assert background_threads() == []

    def test_close_ends_it_and_the_registry_works_on(self, registry, elsewhere):
        assert "tje-registry" in background_threads()
        registry.close()
        wait_until(lambda: not background_threads())
        elsewhere.put(profile(0.9))
        wait_until(lambda: registry.lookup(KEY).profile.version == 2)

    def test_a_registry_that_nobody_has_any_more_takes_it_along(self, path, elsewhere):
        registry = CalibrationRegistry(f"sqlite:///{path}")
        registry.lookup(KEY)
        assert "tje-registry" in background_threads()
        del registry
        gc.collect()
        wait_until(lambda: not background_threads())

    def test_one_whose_database_is_gone_takes_it_along_too(self, path, elsewhere, caplog):
        registry = CalibrationRegistry(f"sqlite:///{path}", refresh_seconds=0.05)
        until_known(registry, KEY)
        break_file(path)
        wait_until(lambda: "marked stale" in caplog.text)
        del registry
        gc.collect()
        wait_until(lambda: not background_threads())

    def test_a_close_while_many_look_up_breaks_none_of_them(self, registry):
        done = threading.Event()
        wrong = []

        def look():
            while not done.is_set():
                if (answer := registry.lookup(KEY)).profile is None:
                    wrong.append(answer)

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(20):
            registry.close()
        done.set()
        for thread in threads:
            thread.join()
        assert wrong == []
        registry.close()
        wait_until(lambda: not background_threads())

    def test_a_copy_by_pickle_has_a_thread_of_its_own(self, registry):
        copy = pickle.loads(pickle.dumps(registry))
        assert copy.lookup(KEY) == registry.lookup(KEY)
        assert background_threads().count("tje-registry") == 2
        copy.close()
        wait_until(lambda: background_threads().count("tje-registry") == 1)

    def test_a_spawned_process_looks_up_for_itself(self, registry):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            assert pool.submit(registry.lookup, KEY).result() == registry.lookup(KEY)

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_a_thread_that_breaks_is_replaced(self, registry, elsewhere, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(Refresher, "_step", lambda _self, _following: 1 / 0)
            wait_until(lambda: not background_threads())
        elsewhere.put(profile(0.9))
        wait_until(lambda: registry.lookup(KEY).profile.version == 2)
