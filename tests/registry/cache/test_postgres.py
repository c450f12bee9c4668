"""PostgreSQL: a change reaches every process at once, and an outage is lived through."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tests.postgres import PASSWORD
from tests.registry.cache.waiting import background_threads, until_known
from tests.samples import KEY, draft, profile
from tests.waiting import wait_until
from tje_middleware import CalibrationRegistry, EntropyGate, TjeWarning
from tje_middleware.registry import refresh

# No poll comes near the end of a test: what is seen was told.
_NEVER = 3600.0

_CHANGE = """
import sys
from tje_middleware import CalibrationRegistry, ProfileKey
key, registry = ProfileKey(model="m", task="t"), CalibrationRegistry(sys.argv[1])
for line in sys.stdin:
    what, *version = line.split()
    print(getattr(registry, what)(key, *map(int, version)), flush=True)
"""


@pytest.fixture
def url(postgres):
    return postgres.url()


@pytest.fixture
def registry(url):
    """One that knows version 2 of three, and has been told of it by nobody."""
    with CalibrationRegistry(url) as before:
        for threshold in (0.1, 0.5, 0.9):
            before.put(profile(threshold))
        before.promote(KEY, 2)
    with CalibrationRegistry(url, refresh_seconds=_NEVER) as registry:
        until_known(registry, KEY)
        yield registry


@pytest.fixture
def other_process(url):
    """Changes what is active: a line in, a line out."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", _CHANGE, url], **pipes) as process:

        def change(line):
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            return process.stdout.readline()

        yield change
        process.stdin.close()


def listening(postgres):
    """How many connections of a server listen."""
    import psycopg  # noqa: PLC0415

    where = {"host": str(postgres.folder), "port": postgres.port, "user": "postgres", "dbname": "postgres"}
    with psycopg.connect(**where, autocommit=True) as connection:
        counted = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'").fetchone()
    return counted[0]


class TestChanges:
    def test_of_another_process_are_heard_of(self, registry, other_process):
        for line, version in (("promote 3", 3), ("rollback", 2), ("promote 1", 1)):
            other_process(line)
            wait_until(lambda version=version: registry.lookup(KEY).profile.version == version)

    @pytest.mark.usefixtures("registry")
    def test_of_before_it_listened_are_not_missed(self, url, other_process, monkeypatch):
        changed = threading.Event()

        def listen_late(*of):
            changed.wait(30)
            listen(*of)

        listen = refresh.listen
        monkeypatch.setattr(refresh, "listen", listen_late)
        with CalibrationRegistry(url, refresh_seconds=_NEVER) as late:
            late.lookup(KEY)
            other_process("promote 3")
            changed.set()
            wait_until(lambda: late.lookup(KEY).profile.version == 3)

    def test_are_heard_of_again_after_the_connection_was_lost(self, registry, other_process, postgres):
        before = listening(postgres)
        wait_until(lambda: listening(postgres) >= max(before, 1))
        postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
        wait_until(lambda: listening(postgres) >= 1)
        other_process("promote 3")
        wait_until(lambda: registry.lookup(KEY).profile.version == 3)
        assert registry.lookup(KEY).stale is False

    def test_while_the_connection_was_lost_are_not_missed(self, registry, other_process, postgres):
        wait_until(lambda: listening(postgres) >= 1)
        postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
        other_process("promote 3")
        wait_until(lambda: registry.lookup(KEY).profile.version == 3)

    def test_close_ends_the_connection(self, registry, postgres):
        wait_until(lambda: listening(postgres) >= 1)
        registry.close()
        wait_until(lambda: listening(postgres) == 0)
        wait_until(lambda: not background_threads())


class TestForks:
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_a_child_answers_at_once_and_hears_of_changes_for_itself(self, registry, other_process, tmp_path):
        """As of gunicorn with --preload: the parent has looked up, and each worker goes on with what it knows."""
        wait_until(lambda: "tje-registry" in background_threads())
        children = []
        for number in range(3):
            child = os.fork()
            if child == 0:
                outcome = "failed"
                try:
                    first = registry.lookup(KEY)
                    (tmp_path / f"{number}.ready").touch()
                    wait_until(lambda: registry.lookup(KEY).profile.version == 3)
                    outcome = f"{first.profile.version} {first.stale}"
                finally:
                    (tmp_path / f"{number}.seen").write_text(outcome)
                    os._exit(0)
            children.append(child)
        wait_until(lambda: all((tmp_path / f"{number}.ready").exists() for number in range(3)))
        other_process("promote 3")
        wait_until(lambda: registry.lookup(KEY).profile.version == 3)
        for child in children:
            os.waitpid(child, 0)
        assert [(tmp_path / f"{number}.seen").read_text() for number in range(3)] == ["2 False"] * 3
        # The parent's connections have outlived the children's ends.
        other_process("promote 1")
        wait_until(lambda: registry.lookup(KEY).profile.version == 1)

    def test_a_fork_while_many_threads_look_up_leaves_no_lock_behind(self, url, registry):
        done = threading.Event()

        def look():
            while not done.is_set():
                registry.lookup(KEY)
                registry.put(profile())

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        codes = []
        for _ in range(10):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    answer = registry.lookup(KEY)
                    registry.close()
                    code = 0 if answer.profile is not None and registry.lookup(KEY).profile is not None else 2
                finally:
                    os._exit(code)
            codes.append(_ended(child))
        done.set()
        for thread in threads:
            thread.join()
        assert codes == [0] * 10


def _ended(child):
    """How a child ended; one that hangs is ended."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hung"


class TestOutage:
    def test_decisions_go_on_say_so_and_recover(self, postgres_to_stop):
        url = postgres_to_stop.url_with_password()
        with CalibrationRegistry(url) as elsewhere, CalibrationRegistry(url) as registry:
            elsewhere.put(profile(0.5))
            gate = EntropyGate.from_registry(registry, model="m", task="t", on_drift="ignore")
            sequence = draft(0.1)
            done = threading.Event()
            latest, raised = [None] * 8, []

            def decide(number):
                try:
                    while not done.is_set():
                        latest[number] = gate.decide(sequence)
                        time.sleep(0.0005)
                except Exception as error:  # pytest would not see it
                    raised.append(error)

            def all_say(wanted):
                return lambda: all(decision is not None and wanted(decision) for decision in latest)

            threads = [threading.Thread(target=decide, args=[number]) for number in range(8)]
            with pytest.warns(TjeWarning, match="the last profile seen serves") as warned:
                for thread in threads:
                    thread.start()
                try:
                    wait_until(all_say(lambda decision: decision.accepted and not decision.stale))
                    wait_until(lambda: listening(postgres_to_stop) == 1)
                    postgres_to_stop.stop("immediate")
                    wait_until(all_say(lambda decision: decision.accepted and decision.stale))
                    # Long enough for some retries in vain. A longer outage brings only more of them, five seconds
                    # apart, and would cost every run the time.
                    time.sleep(3)
                    assert all(decision.accepted and decision.stale for decision in latest)
                    postgres_to_stop.start()
                    wait_until(all_say(lambda decision: decision.accepted and not decision.stale))
                    elsewhere.put(profile(0.9))
                    wait_until(all_say(lambda decision: decision.profile_version == 2))
                finally:
                    done.set()
                    for thread in threads:
                        thread.join()
            assert raised == []
            assert PASSWORD not in str([str(one.message) for one in warned])

    def test_a_server_that_stops_answering_is_noticed(self, postgres_to_stop, monkeypatch):
        with CalibrationRegistry(postgres_to_stop.url(), refresh_seconds=0.2) as registry:
            registry.put(profile())
            until_known(registry, KEY)
            server = int((postgres_to_stop.folder / "postmaster.pid").read_text().split()[0])
            frozen = [server, *_children_of(server)]
            for process in frozen:
                os.kill(process, signal.SIGSTOP)
            try:
                wait_until(lambda: registry.lookup(KEY).stale)
                assert "has not answered" in registry.lookup(KEY).problem
            finally:
                for process in frozen:
                    os.kill(process, signal.SIGCONT)
            wait_until(lambda: not registry.lookup(KEY).stale)


def _children_of(process):
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True, check=True)
    return [int(child) for child in listed.stdout.split()]
