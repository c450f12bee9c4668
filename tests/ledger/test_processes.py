"""A ledger that many processes write: none is lost, none is doubled, however they end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections import Counter

import pytest

from tests.ledger.decisions import decision
from tests.waiting import wait_until
from tje_middleware.ledger import DecisionLedger
from tje_middleware.ledger.tables import DECISIONS, FEEDBACK

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are made the POSIX way")


def write(url: str, writer: int, count: int) -> None:
    with DecisionLedger(url, flush_seconds=0.05) as ledger:
        for n in range(count):
            made = decision(decision_id=f"{writer}-{n}")
            ledger.record(made)
            ledger.feedback(made.decision_id, correct=n % 10 > 0)
            ledger.record(made)  # settled
            if n % 50 == 0:
                time.sleep(0.02)
        assert ledger.flush(60)


def test_eight_processes_at_once_lose_nothing_and_double_nothing(any_url, rows):
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=write, args=(any_url, writer, 250)) for writer in range(8)]
    for each in writers:
        each.start()
    for each in writers:
        each.join(120)
    assert [each.exitcode for each in writers] == [0] * 8
    expected = {f"{writer}-{n}" for writer in range(8) for n in range(250)}
    for table in (DECISIONS, FEEDBACK):
        found = Counter(row["decision_id"] for row in rows(any_url, table))
        assert found == Counter(expected)
    assert DecisionLedger(any_url).unattributed().dropped == 0


def script(code: str, *arguments: str) -> subprocess.Popen[str]:
    code = textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ran(code: str, *arguments: str) -> str:
    process = script(code, *arguments)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert not err
    return out


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="killed the POSIX way")
def test_a_process_that_is_killed_while_it_writes_leaves_whole_rows_and_none_twice(any_url, rows):
    process = script(
        """
        import itertools, sys
        from tests.ledger.decisions import decision
        from tje_middleware.ledger import DecisionLedger
        ledger = DecisionLedger(sys.argv[1], flush_seconds=0.01)
        for n in itertools.count():
            ledger.record(decision(decision_id=str(n)))
            if ledger.counts.pending > 5_000:
                ledger.flush()
            if n == 2_000:
                print("writing", flush=True)
        """,
        any_url,
    )
    assert process.stdout.readline() == "writing\n"
    with DecisionLedger(any_url) as mine:
        wait_until(lambda: len(rows(any_url, DECISIONS)) > 500)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        mine.record(decision(decision_id="mine"))
    numbers = sorted(int(row["decision_id"]) for row in rows(any_url, DECISIONS) if row["decision_id"] != "mine")
    assert numbers == list(range(len(numbers)))  # what was recorded first is there first, and nothing twice
    if any_url.startswith("sqlite"):
        with sqlite3.connect(any_url.removeprefix("sqlite:///")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()


RECORD = """
import sys
from tests.ledger.decisions import decision
from tje_middleware.ledger import DecisionLedger

def work(ledger, name):
    ledger.record(decision(decision_id=name))
"""


class TestTheEnd:
    def test_of_a_script_is_waited_for(self, url, rows):
        ran(RECORD + "work(DecisionLedger(sys.argv[1], flush_seconds=60), 'a')", url)
        assert names(rows, url) == ["a"]

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_of_a_child_of_multiprocessing_is_waited_for(self, url, rows, method):
        if method not in multiprocessing.get_all_start_methods():
            pytest.skip(f"there is no {method} here")
        context = multiprocessing.get_context(method)
        ledger = DecisionLedger(url, flush_seconds=60)
        ledger.record(decision(decision_id="parent"))
        child = context.Process(target=record_one, args=(ledger, "child"))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        ledger.close()
        assert names(rows, url) == ["child", "parent"]

    @forks
    def test_of_a_forked_child_is_waited_for(self, url, rows):
        ran(
            RECORD
            + """
import os
ledger = DecisionLedger(sys.argv[1], flush_seconds=60)
work(ledger, "before")
child = os.fork()
work(ledger, "parent" if child else "child")
if child:
    os.waitpid(child, 0)
""",
            url,
        )
        assert names(rows, url) == ["before", "child", "parent"]

    @forks
    def test_of_a_parent_that_leaves_at_once_loses_nothing_from_before_the_fork(self, url, rows):
        ran(
            RECORD
            + """
import os
ledger = DecisionLedger(sys.argv[1], flush_seconds=60)
work(ledger, "before")
if os.fork():
    os._exit(0)
""",
            url,
        )
        assert names(rows, url) == ["before"]

    def test_does_not_wait_for_a_database_that_does_not_answer(self, tmp_path):
        locked = tmp_path / "tje.db"
        process = script(
            RECORD
            + """
import sqlite3
url = sys.argv[1]
DecisionLedger(url).database.migrate()
other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
other.execute("BEGIN IMMEDIATE")
work(DecisionLedger(url, flush_seconds=0), "a")
""",
            f"sqlite:///{locked}",
        )
        _, err = process.communicate(timeout=25)  # the driver itself would wait for 30
        assert process.returncode == 0
        assert "could not be written before the process ended: 1 entry waits" in err


@forks
def test_forks_amid_writing_threads_double_nothing_and_lose_nothing(any_url, rows):
    """Forked children begin with an empty queue, whatever the parent was doing just then."""
    ran(
        RECORD
        + """
import os, threading
ledger = DecisionLedger(sys.argv[1], flush_seconds=0)
def many(prefix):
    for n in range(300):
        work(ledger, f"{prefix}-{n}")
threads = [threading.Thread(target=many, args=(f"thread{t}",)) for t in range(2)]
for thread in threads:
    thread.start()
children = []
for c in range(5):
    child = os.fork()
    if child == 0:
        many(f"child{c}")
        sys.exit(0)
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
for thread in threads:
    thread.join()
""",
        any_url,
    )
    origins = [f"thread{t}" for t in range(2)] + [f"child{c}" for c in range(5)]
    assert names(rows, any_url) == sorted(f"{origin}-{n}" for origin in origins for n in range(300))


@forks
def test_a_fork_waits_once_for_all_ledgers_of_a_locked_file(url):
    """One after the other, six ledgers would wait for half a minute."""
    out = ran(
        RECORD
        + """
import os, sqlite3, time
ledgers = [DecisionLedger(sys.argv[1], flush_seconds=0) for _ in range(6)]
for n, ledger in enumerate(ledgers):
    work(ledger, f"before{n}")
    assert ledger.flush(30)
other = sqlite3.connect(sys.argv[1].removeprefix("sqlite:///"), isolation_level=None)
other.execute("BEGIN IMMEDIATE")
for n, ledger in enumerate(ledgers):
    work(ledger, f"locked{n}")
began = time.monotonic()
child = os.fork()
if child == 0:
    os._exit(0)
print(time.monotonic() - began)
os.waitpid(child, 0)
other.execute("ROLLBACK")
other.close()
assert all(ledger.flush(30) for ledger in ledgers)
""",
        url,
    )
    assert float(out) < 12


def record_one(ledger: DecisionLedger, name: str) -> None:
    ledger.record(decision(decision_id=name))


def names(rows, url):
    return sorted(row["decision_id"] for row in rows(url, DECISIONS))


class TestAnOutage:
    def test_of_postgresql_is_sat_out(self, postgres_to_stop, rows, caplog):
        url = postgres_to_stop.url()
        ledger = DecisionLedger(url, flush_seconds=0.05)
        ledger.record(decision(decision_id="0"))
        assert ledger.flush(30)
        postgres_to_stop.stop()
        for n in range(1, 300):
            ledger.record(decision(decision_id=str(n)))
            ledger.feedback(str(n), correct=True)
            time.sleep(0.005)
        assert not ledger.flush(1)
        assert ledger.problem
        assert (ledger.counts.pending, ledger.dropped) == (598, 0)
        assert len([each for each in caplog.records if "cannot be written" in each.message]) == 1
        postgres_to_stop.start()
        wait_until(lambda: ledger.counts.pending == 0, 60)  # by itself
        assert ledger.problem is None
        assert ledger.close()
        assert names(rows, url) == sorted(map(str, range(300)))
        assert len(rows(url, FEEDBACK)) == 299

    def test_between_the_commit_and_its_answer_doubles_nothing(self, postgres_to_stop, rows):
        """The server crashes again and again while batches are on their way."""
        url = postgres_to_stop.url()
        with DecisionLedger(url, flush_seconds=0, capacity=100_000) as ledger:
            for n in range(3_000):
                ledger.record(decision(decision_id=str(n)))
                if n % 1_000 == 999:
                    postgres_to_stop.stop("immediate")
                    postgres_to_stop.start()
            assert ledger.flush(60)
        found = Counter(names(rows, url))
        assert found.most_common(1)[0][1] == 1
        assert ledger.counts.written == 3_000
