"""What a ledger has no room for, or the database refuses, is counted and told; nobody waits and nothing raises."""

from __future__ import annotations

import logging
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ledger.decisions import ACCEPTED, decision
from tje_middleware.ledger import DecisionLedger, LedgerCounts
from tje_middleware.ledger.tables import DECISIONS, DROPS
from tje_middleware.storage import Database

NO_DECISION = object()
TOO_LARGE = replace(ACCEPTED, tokens=2**63)


@pytest.fixture
def locked(url):
    """A database that somebody else is writing, and goes on writing until told to stop."""
    Database(url).migrate()
    path = url.removeprefix("sqlite:///")
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


def test_a_full_queue_keeps_what_it_has_and_counts_what_it_drops(url, rows, locked, caplog):
    ledger = DecisionLedger(url, capacity=3, flush_seconds=0)
    made = [decision() for _ in range(8)]
    for each in made:
        ledger.record(each)
    assert ledger.counts == LedgerCounts(recorded=8, written=0, dropped=5, pending=3)
    with caplog.at_level(logging.WARNING, "tje_middleware"):
        locked.execute("ROLLBACK")
        assert ledger.close(60)
    assert {row["decision_id"] for row in rows(url, DECISIONS)} == {each.decision_id for each in made[:3]}
    assert sum(row["decisions"] for row in rows(url, DROPS)) == 5
    assert ledger.unattributed().dropped == ledger.dropped == 5
    assert [record.message for record in caplog.records if "has dropped 5 entries" in record.message]


def test_what_cannot_be_stored_is_counted_apart_from_what_a_full_queue_had_no_room_for(url, rows, locked):
    ledger = DecisionLedger(url, capacity=2, flush_seconds=0)
    for each in (NO_DECISION, *(decision() for _ in range(4))):
        ledger.record(each)
    locked.execute("ROLLBACK")
    assert ledger.close(60)
    assert ledger.counts == LedgerCounts(recorded=5, written=1, dropped=4, refused=1)
    reports = rows(url, DROPS)
    assert [sum(report[name] for report in reports) for name in ("decisions", "refused")] == [4, 1]


def test_a_queue_that_fills_up_is_not_kept_waiting(url):
    ledger = DecisionLedger(url, capacity=4, flush_seconds=3_600)
    for _ in range(2):
        ledger.record(decision())
    deadline = time.monotonic() + 30
    while ledger.counts.pending:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    ledger.close()


def test_threads_that_may_not_start_any_more_leave_the_writing_to_who_flushes(url, rows, monkeypatch):
    def refuses(self):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    ledger = DecisionLedger(url)
    with monkeypatch.context() as ending:
        ending.setattr("threading.Thread.start", refuses)
        ledger.record(decision())
        assert ledger.flush(30)
    assert len(rows(url, DECISIONS)) == 1


def test_who_flushes_without_a_thread_waits_no_longer_than_asked(url, locked, monkeypatch):
    def refuses(self):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    ledger = DecisionLedger(url)
    began = time.monotonic()
    with monkeypatch.context() as ending:
        ending.setattr("threading.Thread.start", refuses)
        ledger.record(decision())
        assert not ledger.flush(0.2)
    assert time.monotonic() - began < 15  # the driver itself would wait for 30
    assert ledger.counts.pending == 1
    locked.execute("ROLLBACK")
    assert ledger.close(30)


@pytest.mark.parametrize("any_url", ["sqlite", "postgresql"], indirect=True)
def test_a_row_that_the_database_refuses_keeps_no_other_from_being_written(any_url, rows, caplog):
    with DecisionLedger(any_url, flush_seconds=60, texts=True) as ledger:
        ledger.record(decision())
        ledger.record(decision(TOO_LARGE, detail="secret"), prompt="secret")
        ledger.record(NO_DECISION)
        ledger.record(decision())
    assert len(rows(any_url, DECISIONS)) == 2
    assert ledger.counts == LedgerCounts(recorded=4, written=2, dropped=2, pending=0, refused=2)
    assert sum(row["decisions"] for row in rows(any_url, DROPS)) == 2
    assert "a decision (OverflowError)" in caplog.text
    assert "secret" not in caplog.text


def test_what_nobody_has_a_place_for_is_unknown(any_url, rows):
    with DecisionLedger(any_url) as ledger:
        ledger.record(decision(signal_value=float("nan"), threshold=float("inf"), reason="a\0b"))
    (row,) = rows(any_url, DECISIONS)
    assert (row["signal_value"], row["threshold"], row["reason"]) == (None, None, "a\N{REPLACEMENT CHARACTER}b")


def test_a_database_that_is_none_raises_nowhere_and_says_why(tmp_path, caplog):
    path = tmp_path / "tje.db"
    path.write_bytes(b"a note of somebody" * 300)
    ledger = DecisionLedger(f"sqlite:///{path}", flush_seconds=0)
    ledger.record(decision())
    assert not ledger.flush(0.5)
    assert ledger.counts.pending == 1
    assert "not a database" in ledger.problem
    assert "1 entry waits" in caplog.text
    path.unlink()
    assert ledger.close(30)
    assert ledger.problem is None
    assert ledger.counts.written == 1


ACTIONS = st.lists(
    st.sampled_from(["decision", "known decision", "feedback", "no decision", "too large", "flush"]), max_size=25
)


@settings(max_examples=25, deadline=None)
@given(ACTIONS, st.integers(1, 6))
def test_all_that_is_recorded_is_written_dropped_or_waits(actions, capacity):
    with TemporaryDirectory() as folder:
        ledger = DecisionLedger(f"sqlite:///{Path(folder) / 'tje.db'}", capacity=capacity, flush_seconds=60)
        recorded = 0
        for action in actions:
            recorded += action != "flush"
            {
                "decision": lambda: ledger.record(ACCEPTED),
                "known decision": lambda: ledger.record(replace(ACCEPTED, decision_id="known")),
                "feedback": lambda: ledger.feedback("known", correct=True),
                "no decision": lambda: ledger.record(NO_DECISION),
                "too large": lambda: ledger.record(TOO_LARGE),
                "flush": lambda: ledger.flush(30),
            }[action]()
            counts = ledger.counts
            assert counts.written + counts.dropped + counts.pending == counts.recorded == recorded
        assert ledger.close(30)
        counts = ledger.counts
        assert counts.written + counts.dropped == recorded
        assert ledger.unattributed().dropped == counts.dropped
