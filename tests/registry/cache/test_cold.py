"""The first look-up of a key: one reading for all who ask, and nobody waits long for it."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest
from sqlalchemy import Engine, event

from tests.registry.cache.waiting import until_known
from tests.samples import KEY, profile
from tests.waiting import wait_until
from tje_middleware import CalibrationRegistry, ProfileKey
from tje_middleware.registry import cache

OTHER = ProfileKey(model="m2", task="t")


@pytest.fixture
def url(tmp_path):
    with CalibrationRegistry(f"sqlite:///{tmp_path}/tje.db") as registry:
        registry.put(profile())
    return f"sqlite:///{tmp_path}/tje.db"


@pytest.fixture
def hanging_server():
    """The URL of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        yield f"postgresql+psycopg://tje:geheim@127.0.0.1:{port}/tje?connect_timeout=3"


@contextmanager
def profile_queries(hold_up_seconds=0.0):
    """The queries for profiles, each of which takes a while."""
    with queries("FROM tje_profiles", hold_up_seconds) as seen:
        yield seen


@contextmanager
def queries(of, hold_up_seconds=0.0):
    """The queries that say this, each of which takes a while."""
    seen = []

    def note(_connection, _cursor, statement, *_rest):
        if of in statement:
            seen.append(statement)
            time.sleep(hold_up_seconds)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


class TestSingleFlight:
    def test_200_threads_that_ask_at_once_cause_one_query(self, url, monkeypatch):
        monkeypatch.setattr(cache, "_LOOKUP_PATIENCE_SECONDS", 60.0)  # who is forgotten waits for ever
        together = threading.Barrier(200)

        def ask(_):
            together.wait()
            return registry.lookup(KEY)

        with (
            CalibrationRegistry(url) as registry,
            profile_queries(hold_up_seconds=0.1) as queries,
            ThreadPoolExecutor(max_workers=200) as pool,
        ):
            answers = list(pool.map(ask, range(200), timeout=30))
        assert len(queries) == 1
        assert {id(answer) for answer in answers} == {id(answers[0])}
        assert answers[0].profile.version == 1

    def test_threads_and_tasks_share_a_flight(self, url):
        async def ask():
            return await asyncio.gather(
                *(registry.alookup(KEY) for _ in range(20)), *(asyncio.to_thread(registry.lookup, KEY) for _ in "ab")
            )

        with CalibrationRegistry(url) as registry, profile_queries(hold_up_seconds=0.1) as queries:
            answers = asyncio.run(ask())
        assert len(queries) == 1
        assert all(answer.profile.version == 1 for answer in answers)

    def test_a_task_that_is_cancelled_leaves_the_others_their_answer(self, url):
        async def ask():
            first, second = (asyncio.create_task(registry.alookup(KEY)) for _ in "ab")
            await asyncio.sleep(0.01)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            return await second

        with CalibrationRegistry(url) as registry, profile_queries(hold_up_seconds=0.2):
            assert asyncio.run(ask()).profile.version == 1

    def test_a_warm_key_is_not_asked_for(self, url):
        with CalibrationRegistry(url) as registry:
            first = registry.lookup(KEY)
            with profile_queries() as queries:
                assert registry.lookup(ProfileKey(model="m", task="t")) is first
                assert asyncio.run(registry.alookup(KEY)) is first
            assert queries == []


class TestPatience:
    def test_ends_before_a_server_that_hangs_has_answered(self, hanging_server):
        with CalibrationRegistry(hanging_server) as registry:
            answer = registry.lookup(KEY)
            assert (answer.profile, answer.stale) == (None, False)
            assert "has not answered within 0.5 seconds" in answer.problem
            assert "geheim" not in answer.problem
            assert registry.lookup(KEY) is answer

    def test_many_keys_wait_no_longer_than_one(self, hanging_server):
        landed = []

        def ask(number):
            landed.append(registry.lookup(ProfileKey(model=f"m{number}", task="t")))

        with CalibrationRegistry(hanging_server) as registry:
            threads = [threading.Thread(target=ask, args=[number], daemon=True) for number in range(50)]
            for thread in threads:
                thread.start()
            wait_until(lambda: len(landed) == 50, seconds=15)  # one after the other: 25
        assert all("has not answered" in answer.problem for answer in landed)

    def test_does_not_end_the_query_whose_answer_is_taken_up_later(self, url, monkeypatch):
        monkeypatch.setattr(cache, "_LOOKUP_PATIENCE_SECONDS", 0.01)
        with CalibrationRegistry(url) as registry:
            with profile_queries(hold_up_seconds=0.3) as queries:
                assert registry.lookup(KEY).profile is None
                wait_until(lambda: registry.lookup(KEY).profile is not None)
            assert len(queries) == 1

    def test_an_event_loop_goes_on_meanwhile(self, hanging_server):
        async def ask():
            ticks = 0

            async def tick():
                nonlocal ticks
                while True:
                    await asyncio.sleep(0.01)
                    ticks += 1

            ticking = asyncio.create_task(tick())
            answer = await registry.alookup(KEY)
            ticking.cancel()
            return answer, ticks

        with CalibrationRegistry(hanging_server) as registry:
            answer, ticks = asyncio.run(ask())
        assert "has not answered within" in answer.problem
        assert ticks >= 5  # of 50; with the loop held up there would be none

    def test_a_locked_file_is_named_as_such(self, tmp_path, url):
        with closing(sqlite3.connect(tmp_path / "tje.db", isolation_level=None)) as other:
            other.execute("PRAGMA locking_mode = EXCLUSIVE")
            other.execute("BEGIN EXCLUSIVE")
            with CalibrationRegistry(url) as registry:
                assert "another process holds it" in registry.lookup(KEY).problem


class TestWhatIsNotThere:
    def test_holds_up_nobody_who_asks_for_what_is(self, url, monkeypatch):
        monkeypatch.setattr("tje_middleware.registry.refresh.RETRY_SECONDS", 0.05)
        looking, done = threading.Event(), threading.Event()

        def hang(_connection, _cursor, statement, parameters, *_rest):
            if "FROM tje_profiles" in statement and OTHER.model_dump_json() in parameters:
                looking.set()
                done.wait(60)

        with CalibrationRegistry(url) as registry:
            assert registry.lookup(OTHER).profile is None
            event.listen(Engine, "before_cursor_execute", hang)
            try:
                looking.wait(30)
                until_known(registry, KEY)
            finally:
                done.set()
                event.remove(Engine, "before_cursor_execute", hang)

    def test_is_looked_for_together_however_much_it_is(self, url, monkeypatch):
        monkeypatch.setattr("tje_middleware.registry.refresh.RETRY_SECONDS", 3600.0)
        missing = [ProfileKey(model="m", task=f"t{number}") for number in range(100)]
        with CalibrationRegistry(url) as registry:
            for key in missing:
                registry.lookup(key)
            with queries("FROM tje_") as seen:
                registry._following.refresh_all()
        assert len(seen) <= 5

    def test_is_looked_for_in_the_background(self, url, monkeypatch):
        monkeypatch.setattr("tje_middleware.registry.refresh.RETRY_SECONDS", 0.1)
        with CalibrationRegistry(url) as registry, CalibrationRegistry(url) as elsewhere:
            assert registry.lookup(OTHER).profile is None
            elsewhere.put(profile(key=OTHER))
            wait_until(lambda: registry.lookup(OTHER).profile is not None)

    def test_is_not_looked_for_at_every_look_up(self, url):
        with CalibrationRegistry(url) as registry:
            missing = registry.lookup(OTHER)
            with profile_queries() as queries:
                assert all(registry.lookup(OTHER) is missing for _ in range(100))
            assert queries == []

    def test_is_there_at_once_when_this_process_puts_it(self, url):
        with CalibrationRegistry(url) as registry:
            assert registry.lookup(OTHER).profile is None
            registry.put(profile(key=OTHER))
            assert registry.lookup(OTHER).profile.version == 1

    def test_no_thread_to_be_had_is_an_answer(self, url, monkeypatch):
        def refuse(_thread):
            raise RuntimeError("can't start new thread")

        with CalibrationRegistry(url) as registry:
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", refuse)
                assert "no thread could be started" in registry.lookup(KEY).problem
            assert registry.lookup(KEY).profile.version == 1
