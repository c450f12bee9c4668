"""A column of the ledger is declared once: its row, its merging and its reading follow from that."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from sqlalchemy import Integer, select, text

from tests.children import in_child
from tests.ledger.decisions import decision, profile_with_costs
from tests.samples import draft
from tje_middleware import DecisionLedger, EntropyGate
from tje_middleware.calls.usage import TokenUsage
from tje_middleware.ledger.tables import DECISIONS, FEEDBACK, decision_column


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the column is declared in a forked process")
@pytest.mark.parametrize(
    ("keep", "amended_by", "kept"),
    [("first", 7, 3), ("later", 7, 7), ("later", None, None), ("known", 7, 7), ("known", None, 3)],
)
@pytest.mark.parametrize("at_once", [True, False], ids=["in one batch", "in two"])
def test_a_new_one_is_a_line_and_its_migration(url, keep, amended_by, kept, at_once):
    def recorded_and_read():
        DECISIONS.append_column(
            decision_column("draft_calls", Integer, lambda it: it.draft_usage and it.draft_usage.calls, keep)
        )
        with DecisionLedger(url, flush_seconds=60) as ledger:
            ledger.database.migrate()
            with ledger.database.writing() as connection:
                connection.execute(text("ALTER TABLE tje_decisions ADD COLUMN draft_calls INTEGER"))
            gate = EntropyGate(profile_with_costs(), ledger=ledger)
            made = gate.judge(draft(0.3))
            gate.settle(replace(made, draft_usage=TokenUsage(10, 20, 3)))
            if not at_once:
                assert ledger.flush(30)
            usage = None if amended_by is None else TokenUsage(10, 20, amended_by)
            gate.amend(replace(made, answered_by="deeper", draft_usage=usage))
            assert ledger.flush(30)
            with ledger.database.reading() as read:
                return [row.draft_calls for row in read(select(DECISIONS))]

    assert in_child(recorded_and_read) == [kept]


@pytest.mark.parametrize("column", [*DECISIONS.columns, *FEEDBACK.columns], ids=str)
def test_each_says_where_its_value_comes_from_and_how_it_is_merged(column):
    assert callable(column.info["of"])
    assert column.info["keep"] in {"first", "later", "known", "saved"}


def test_a_fact_of_another_name_is_refused(url):
    with DecisionLedger(url) as ledger, pytest.raises(TypeError, match=r"no latency;.*latency_seconds"):
        ledger.record(decision(), latency=1.0)
