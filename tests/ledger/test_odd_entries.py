"""Whatever somebody hands over: it is stored, refused or dropped, and all that is recorded around it is stored."""

from __future__ import annotations

import logging
from dataclasses import fields
from decimal import Decimal
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from sqlalchemy import event, text

from tests.ledger.decisions import decision, profile_with_costs
from tests.samples import KEY as PROFILE_KEY
from tje_middleware import GateDecision, RegistryError
from tje_middleware.calls.usage import TokenUsage
from tje_middleware.ledger import DecisionLedger
from tje_middleware.ledger.store import Batch, DropReport, Stored, store, store_entries
from tje_middleware.ledger.tables import DECISIONS, DROPS, FEEDBACK, SettledDecision, feedback, row_of
from tje_middleware.storage import Database


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no words for it")


ODD = (
    None,
    "",
    "x" * 9_000,
    "5x",
    "\0\ud800",
    b"\xff",
    -1,
    2**31,
    2**70,
    1e300,
    float("nan"),
    float("-inf"),
    Decimal("NaN"),
    Fraction(1, 3),
    True,
    [1],
    {"a": 1},
    object(),
    Unprintable(),
    np.int64(3),
    np.float32(0.5),
    np.array([1, 2]),
)


@pytest.mark.parametrize("name", [field.name for field in fields(GateDecision)])
def test_an_odd_value_of_a_decision_keeps_no_other_from_being_stored(any_url, rows, name):
    good = []
    with DecisionLedger(any_url, flush_seconds=60, texts=True) as ledger:
        for value in ODD:
            ledger.record(decision(**{name: value}), profile=profile_with_costs())
            good.append(decision())
            ledger.record(good[-1])
            ledger.feedback(good[-1].decision_id, correct=True)
        assert ledger.flush(30)
        counts = ledger.counts
        assert counts.written + counts.dropped == counts.recorded == 3 * len(ODD)
        assert sum(one.decisions for one in ledger.summary()) == counts.written - len(ODD)  # it can be summed up
    expected = {each.decision_id for each in good}
    assert expected <= {row["decision_id"] for row in rows(any_url, DECISIONS)}
    assert expected == {row["decision_id"] for row in rows(any_url, FEEDBACK)}


@pytest.mark.parametrize("name", ["latency_seconds", "draft_model", "deeper_model", "prompt", "answer", "risk_limit"])
def test_an_odd_circumstance_keeps_no_other_decision_from_being_stored(any_url, rows, name):
    good = decision()
    with DecisionLedger(any_url, flush_seconds=60, texts=True) as ledger:
        for value in ODD:
            ledger.record(decision(), **{name: value})
        ledger.record(good)
        assert ledger.flush(30)
    assert good.decision_id in {row["decision_id"] for row in rows(any_url, DECISIONS)}


def test_numbers_of_numpy_are_numbers(any_url, rows):
    with DecisionLedger(any_url) as ledger:
        ledger.record(decision(draft_usage=TokenUsage(np.int64(3), np.int32(4), 1), signal_value=np.float32(0.5)))
    (row,) = rows(any_url, DECISIONS)
    assert (row["draft_input_tokens"], row["draft_output_tokens"], row["signal_value"]) == (3, 4, 0.5)


def test_keys_that_are_too_long_to_be_looked_up_stay_apart(any_url, rows):
    rng = np.random.default_rng(0)
    begin = rng.bytes(4_000).hex()
    with DecisionLedger(any_url) as ledger:
        for end in "ab":
            ledger.record(decision(key=begin + end))
    keys = {row["key"] for row in rows(any_url, DECISIONS)}
    assert len(keys) == 2
    assert all(key.startswith(begin[:500]) and len(key) < 2_000 for key in keys)


def test_a_key_that_is_too_long_to_be_looked_up_is_found_by_its_name(any_url):
    key = PROFILE_KEY.model_copy(update={"task": "t" * 3_000})
    made = [decision(key=str(key), signal_value=value) for value in (0.1, 0.2, 0.3, 0.7, 0.8, 0.9)]
    with DecisionLedger(any_url) as ledger:
        for each in (*made, decision()):
            ledger.record(each)
        for each in made:
            ledger.feedback(each.decision_id, draft_correct=each.signal_value < 0.5)
        assert ledger.flush(30)
        (one,) = ledger.summary(key=key)
        assert (one.decisions, one.feedback) == (6, 6)
        assert len(ledger.labelled(key)) == 6
        found = ledger.recalibrated(profile_with_costs().model_copy(update={"key": key}))
        assert (found.n_correct, found.n_incorrect) == (3, 3)


@pytest.mark.parametrize("wrong", [None, "", 7, b"x", ["x"], "x" * 201], ids=repr)
def test_feedback_about_nothing_that_is_an_id_is_refused_at_once(url, wrong):
    with DecisionLedger(url) as ledger:
        with pytest.raises(ValueError, match="1 to 200 characters"):
            ledger.feedback(wrong, correct=True)
        assert ledger.counts.recorded == 0


def row_of_a(**odd):
    return {**row_of(recorded(decision()), texts=False), **odd}


def recorded(made, **facts):
    return SettledDecision(made, facts, made.decision_id, 0.0, "me")


@pytest.mark.parametrize(
    "odd", [{"key": None}, {"threshold": {"a": 1}}, {"tokens": 2**70}, {"key": object()}, {"decided_at": "today"}]
)
def test_a_row_that_the_database_refuses_is_left_out(any_url, rows, odd):
    first, last = row_of_a(), row_of_a()
    given = [feedback(row["decision_id"], 0.0, correct=True, draft_correct=None) for row in (first, last)]
    said = [row_of(each, texts=False) for each in given]
    stored = store(Database(any_url), Batch([first, row_of_a(**odd), last], said, DropReport(1, 5, 0, "me")))
    assert (stored.refused, sorted(stored.feedback)) == (1, sorted(row["decision_id"] for row in (first, last)))
    assert {row["decision_id"] for row in rows(any_url, DECISIONS)} == {first["decision_id"], last["decision_id"]}
    assert [row["decisions"] for row in rows(any_url, DROPS)] == [5]


def test_of_one_decision_the_record_that_is_refused_costs_no_other(any_url, rows):
    first = row_of_a()
    assert store(Database(any_url), Batch([first, {**first, "key": None}])).refused == 1
    assert [row["key"] for row in rows(any_url, DECISIONS)] == [first["key"]]


def test_tables_that_are_not_as_they_should_be_are_no_fault_of_the_rows(any_url):
    database = Database(any_url)
    database.migrate()
    with database.writing() as connection:
        connection.execute(text("ALTER TABLE tje_decisions DROP COLUMN detail"))
    with pytest.raises(RegistryError, match="detail"):
        store(database, Batch([row_of_a()]))
    with DecisionLedger(any_url, flush_seconds=0) as ledger:
        ledger.record(decision())
        assert not ledger.flush(0.5)
        assert (ledger.counts.pending, ledger.dropped) == (1, 0)
        with database.writing() as connection:
            connection.execute(text("ALTER TABLE tje_decisions ADD COLUMN detail TEXT"))
        assert ledger.flush(30)


def test_an_error_of_the_ledgers_own_costs_one_entry_and_tells_no_text(any_url, rows, caplog):
    def broken(entry):
        return {"answer": "secret"} if entry.decision_id == "b" else row_of(entry, texts=False)

    entries = [recorded(decision(decision_id=name)) for name in "abc"]
    filing = partial(store_entries, Database(any_url), row_of=broken)
    with caplog.at_level(logging.WARNING):
        filed = filing([*entries, feedback("a", 0.0, correct=True, draft_correct=None)], DropReport(1, 5, 2, "me"))
    assert filed == Stored(["a decision (KeyError)"], ["a"])
    assert sorted(row["decision_id"] for row in rows(any_url, DECISIONS)) == ["a", "c"]
    assert len(rows(any_url, FEEDBACK)) == 1
    assert [(row["decisions"], row["refused"]) for row in rows(any_url, DROPS)] == [(5, 2)]
    assert "KeyError" in caplog.text
    assert "secret" not in caplog.text


def test_an_error_that_is_of_no_entry_costs_none(any_url, rows):
    def fails(connection):
        raise RuntimeError("whatever somebody hung on the engine")

    with DecisionLedger(any_url, flush_seconds=60) as ledger:
        for _ in range(3):
            ledger.record(decision())
        event.listen(ledger.database.engine, "commit", fails)
        assert not ledger.flush(0.5)
        assert (ledger.counts.pending, ledger.dropped) == (3, 0)
        event.remove(ledger.database.engine, "commit", fails)
        assert ledger.flush(30)
    assert len(rows(any_url, DECISIONS)) == 3


class TestWhatCannotBeStored:
    def test_is_told_once_by_its_kind_and_what_is_wrong_with_it(self, url, rows, caplog):
        wrong = decision(deeper_usage={"input_tokens": 50, "answer": "secret"})
        with DecisionLedger(url, flush_seconds=60) as ledger:
            for _ in range(3):
                for each in (wrong, None, decision(route="final"), decision(tokens=2**70)):
                    ledger.record(each)
                assert ledger.flush(30)
        told = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert [message.split(": ")[1].split(";")[0] for message in told] == [
            "a decision whose deeper_usage is a dict and no TokenUsage",
            "a decision that is a NoneType and no GateDecision",
            "a decision whose route is a str and no Route",
            "a decision (OverflowError)",
        ]
        assert "secret" not in caplog.text
        assert "queue" not in caplog.text
