"""Feedback that shows a promise to be broken raises an alarm: one a version, seen by every process."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from tests.ledger.decisions import DEEPER, decision, profile_with_costs
from tests.samples import KEY
from tests.waiting import wait_until
from tje_middleware import CalibrationRegistry
from tje_middleware.ledger import DecisionLedger
from tje_middleware.ledger import feedback as _feedback
from tje_middleware.ledger.feedback import tell
from tje_middleware.ledger.store import Batch, store
from tje_middleware.ledger.tables import feedback, row_of


@pytest.fixture
def registry(any_url):
    with CalibrationRegistry(any_url) as held:
        held.put(profile_with_costs())
        yield held


@pytest.fixture
def ledger(registry):
    with DecisionLedger(registry) as held:
        yield held


def graded(ledger, *, wrong, right, kind=None, limit=0.05, **fields):
    """Record decisions and feedback about them, in two batches."""
    made = [decision(kind, **fields) if kind else decision(**fields) for _ in range(wrong + right)]
    for each in made:
        ledger.record(each, profile=profile_with_costs(), risk_limit=limit)
    assert ledger.flush(30)
    for place, each in enumerate(made):
        ledger.feedback(each.decision_id, correct=place >= wrong)
    assert ledger.flush(30)


def test_more_wrong_drafts_than_promised_raise_one_alarm(registry, ledger):
    graded(ledger, wrong=10, right=10)
    (stored,) = registry.alarms()
    assert (stored.key, stored.alarm.kind, stored.alarm.version) == (KEY, "risk", 1)
    assert "10 of 20" in stored.alarm.detail
    assert stored.alarm.evidence["wrong"] == 10
    graded(ledger, wrong=5, right=5)
    assert len(registry.alarms()) == 1


def test_after_a_dismissal_only_later_feedback_counts(registry, ledger):
    graded(ledger, wrong=10, right=10)
    registry.dismiss(KEY)
    graded(ledger, wrong=0, right=5)
    assert registry.alarms() == []
    graded(ledger, wrong=10, right=5)
    (stored,) = registry.alarms()
    assert "10 of 20" in stored.alarm.detail  # of those since


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param({"wrong": 2, "right": 38}, id="as promised"),
        pytest.param({"wrong": 20, "right": 0, "kind": DEEPER}, id="not accepted"),
        pytest.param({"wrong": 20, "right": 0, "reason": "no_logprobs"}, id="accepted without evidence"),
        pytest.param({"wrong": 20, "right": 0, "limit": None}, id="nothing promised"),
        pytest.param({"wrong": 20, "right": 0, "profile_version": 9}, id="of a version that is not stored"),
        pytest.param({"wrong": 20, "right": 0, "profile_version": None}, id="of a profile that was never stored"),
        pytest.param({"wrong": 20, "right": 0, "key": "another"}, id="of a key that is not stored"),
        pytest.param({"wrong": 10, "right": 10, "limit": 0.6}, id="of a generous promise"),
    ],
)
def test_nothing_else_raises_an_alarm(registry, ledger, numbers, caplog):
    graded(ledger, **numbers)
    assert registry.alarms() == []
    assert not caplog.records


def test_feedback_from_another_process_counts_with_what_was_recorded_here(registry, any_url):
    made = [decision() for _ in range(20)]
    with DecisionLedger(any_url) as ledger:
        for each in made:
            ledger.record(each, risk_limit=0.05)
    for half in (made[:10], made[10:]):
        with DecisionLedger(any_url) as other:
            for each in half:
                other.feedback(each.decision_id, correct=False)
    assert len(registry.alarms()) == 1


class TestWhileARegistryIsChanged:
    """PostgreSQL has a lock for whoever changes what is registered, which the ledger's rows do not need."""

    @pytest.fixture
    def registry(self, postgres):
        with CalibrationRegistry(postgres.url()) as held:
            held.put(profile_with_costs())
            yield held

    @pytest.fixture
    def broken(self, registry, ledger):
        """The id of a decision whose feedback is the next to be looked at, and shows a promise to be broken."""
        made = [decision() for _ in range(10)]
        for each in made:
            ledger.record(each, risk_limit=0.05)
        assert ledger.flush(30)
        said = [feedback(each.decision_id, time.time(), correct=False, draft_correct=None) for each in made]
        store(registry.database, Batch(feedback=[row_of(each, texts=False) for each in said]))
        return made[0].decision_id

    def test_a_command_that_tells_feedback_waits_to_raise_the_alarm(self, registry, broken):
        with ThreadPoolExecutor() as pool:
            with registry.database.writing() as connection:
                told = pool.submit(tell, registry.database, broken, correct=False, draft_correct=None)
                waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'")
                wait_until(lambda: connection.execute(waits).scalar_one())
                time.sleep(1)  # longer than the ledger's thread would wait, which tries again
            told.result(60)
        assert len(registry.alarms()) == 1

    def test_a_command_that_has_waited_long_says_that_nobody_has_looked(self, registry, broken, caplog, monkeypatch):
        monkeypatch.setattr(_feedback, "_SECONDS_OF_LOOK", 0.2)
        with registry.database.writing():
            tell(registry.database, broken, correct=True, draft_correct=None)
        (told,) = caplog.records
        assert told.levelno == logging.WARNING
        assert "the feedback is stored, but" in told.message
        assert registry.alarms() == []

    def test_all_is_written_all_the_same_and_an_alarm_is_raised_afterwards(self, registry):
        with DecisionLedger(registry, flush_seconds=0) as ledger:
            with registry.database.writing():
                for _ in range(20):
                    made = decision()
                    ledger.record(made, risk_limit=0.05)
                    ledger.feedback(made.decision_id, correct=False)
                assert ledger.flush(3)
                for _ in range(20):
                    ledger.record(decision())
                assert ledger.flush(3)
                assert ledger.counts.written == 60
                assert registry.alarms() == []
            ledger.flush(30)  # waits for the look as well
            assert len(registry.alarms()) == 1
