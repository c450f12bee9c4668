"""What is recorded gets into the database: once, whole, and without texts unless they are switched on."""

from __future__ import annotations

import asyncio
import gc
import pickle
import threading
import weakref
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from tests.ledger.decisions import ACCEPTED, DEEPER, decision, profile_with_costs
from tje_middleware import CalibrationRegistry
from tje_middleware.calls.usage import TokenUsage
from tje_middleware.ledger import DecisionLedger
from tje_middleware.ledger.tables import DECISIONS, FEEDBACK
from tje_middleware.storage import Database


class TestADecision:
    def test_is_stored_with_all_that_is_known_of_it(self, any_url, rows):
        before = datetime.now(timezone.utc)
        made = decision(DEEPER, stale=True, alarm="drift", draft_usage=TokenUsage(100, 10, 2, partly_known=1))
        with DecisionLedger(any_url) as ledger:
            ledger.record(
                made,
                profile=profile_with_costs(),
                latency_seconds=1.5,
                draft_model="small",
                deeper_model="large",
                risk_limit=0.07,
            )
        (row,) = rows(any_url, DECISIONS)
        assert before <= row.pop("decided_at") == row.pop("recorded_at") <= datetime.now(timezone.utc)
        assert row.pop("recorded_by")
        assert row == {
            "decision_id": made.decision_id,
            "key": "m / t / mean_entropy (top 20)",
            "profile_version": 1,
            "signal": "mean_entropy",
            "method": "risk",
            "signal_value": 0.9,
            "threshold": 0.5,
            "tokens": 10,
            "route": "deeper",
            "reason": "uncertain",
            "verdict": "usable",
            "stale": True,
            "alarm": "drift",
            "aborted": False,
            "answered_by": "deeper",
            "draft_model": "small",
            "draft_input_tokens": 100,
            "draft_output_tokens": 10,
            "deeper_model": "large",
            "deeper_input_tokens": 200,
            "deeper_output_tokens": 300,
            "deeper_includes_draft": False,
            "usage_partly_known": True,
            "tokens_saved": -10.0,
            "saved_by": "measured",
            "risk_limit": 0.07,
            "latency_seconds": 1.5,
            "detail": None,
            "prompt": None,
            "answer": None,
        }

    def test_promises_nothing_that_was_not_promised(self, url, rows):
        with DecisionLedger(url) as ledger:
            ledger.record(decision(method="risk"), profile=profile_with_costs())
        assert rows(url, DECISIONS)[0]["risk_limit"] is None

    def test_whose_draft_is_needed_anyway_saved_all_of_the_deeper_branch(self, any_url, rows):
        with DecisionLedger(any_url) as ledger:
            for needed in (False, True):
                ledger.record(decision(), profile=profile_with_costs(), deeper_includes_draft=needed)
        saved = {row["deeper_includes_draft"]: row["tokens_saved"] for row in rows(any_url, DECISIONS)}
        assert saved == {False: 190.0, True: 200.0}

    def test_that_is_recorded_again_is_one_at_the_time_of_the_first(self, any_url, rows):
        open_one = decision(DEEPER, answered_by=None, deeper_usage=None)
        settled = replace(open_one, answered_by="deeper", deeper_usage=TokenUsage(1, 2, 1))
        with DecisionLedger(any_url) as ledger:
            ledger.record(open_one)
            ledger.flush()
            first = rows(any_url, DECISIONS)[0]
            ledger.record(settled)
            ledger.record(replace(settled, answered_by="human"))
        (row,) = rows(any_url, DECISIONS)
        assert (row["answered_by"], row["deeper_output_tokens"]) == ("human", 2)
        assert row["decided_at"] == first["decided_at"]

    @pytest.mark.parametrize("at_once", [True, False], ids=["in one batch", "in two"])
    def test_that_is_recorded_again_keeps_what_only_the_first_record_knew(self, any_url, rows, at_once):
        made = decision()
        with DecisionLedger(any_url, texts=True) as ledger:
            circumstances = {"latency_seconds": 2.0, "draft_model": "small", "deeper_model": "l", "answer": "42"}
            ledger.record(made, profile=profile_with_costs(), **circumstances, prompt="?", risk_limit=0.05)
            if not at_once:
                ledger.flush()
            # Another profile was promoted meanwhile.
            ledger.record(replace(made, draft_usage=TokenUsage(7, 8, 1)), profile=None)
        (row,) = rows(any_url, DECISIONS)
        assert row["draft_output_tokens"] == 8
        assert {name: row[name] for name in circumstances} == circumstances
        assert (row["tokens_saved"], row["saved_by"], row["risk_limit"]) == (190.0, "estimated", 0.05)

    @pytest.mark.parametrize("at_once", [True, False], ids=["in one batch", "in two"])
    def test_that_went_deeper_after_all_has_not_saved_what_was_estimated(self, any_url, rows, at_once):
        made = decision(draft_usage=None, tokens=None)
        with DecisionLedger(any_url) as ledger:
            ledger.record(replace(made, draft_usage=TokenUsage(1, 1, 1)), profile=profile_with_costs())
            if not at_once:
                ledger.flush()
            ledger.record(replace(made, answered_by="deeper"), profile=profile_with_costs())
        (row,) = rows(any_url, DECISIONS)
        assert (row["tokens_saved"], row["saved_by"]) == (None, None)

    @pytest.mark.parametrize("open_by", [None, "draft"])
    def test_that_is_settled_elsewhere_stays_so_when_its_first_record_comes_late(self, any_url, rows, open_by):
        first = decision(DEEPER, answered_by=open_by, deeper_usage=None)
        settled = replace(first, answered_by="deeper", deeper_usage=TokenUsage(100, 400, 1))
        drafts, resumes = (DecisionLedger(any_url, flush_seconds=3_600) for _ in range(2))
        drafts.record(first, latency_seconds=2.0, draft_model="small", risk_limit=0.05)
        resumes.record(settled, deeper_model="large", draft_model="newer")
        resumes.close()
        drafts.close()
        (row,) = rows(any_url, DECISIONS)
        assert (row["answered_by"], row["deeper_output_tokens"], row["saved_by"]) == ("deeper", 400, "measured")
        assert (row["deeper_model"], row["draft_model"], row["latency_seconds"]) == ("large", "newer", 2.0)

    def test_of_three_records_is_as_the_last_one_says_whichever_comes_last(self, any_url, rows):
        first = decision(DEEPER, answered_by=None, deeper_usage=None)
        late, in_time = (DecisionLedger(any_url, flush_seconds=3_600) for _ in range(2))
        late.record(first)
        assert late.flush()
        for ledger, tokens in ((late, 100), (in_time, 200)):
            usage = TokenUsage(0, tokens, 1)
            ledger.record(replace(first, answered_by="deeper", deeper_usage=usage), latency_seconds=tokens)
        in_time.close()
        late.close()
        (row,) = rows(any_url, DECISIONS)
        assert (row["deeper_output_tokens"], row["latency_seconds"]) == (200, 200.0)
        assert row["decided_at"] < row["recorded_at"]

    def test_that_is_settled_before_it_is_known_who_answers_stays_settled(self, url, rows):
        settled = decision(DEEPER)
        with DecisionLedger(url, flush_seconds=3_600) as ledger:
            ledger.record(settled)
            ledger.record(replace(settled, answered_by=None, deeper_usage=None))
        (row,) = rows(url, DECISIONS)
        assert (row["answered_by"], row["deeper_output_tokens"]) == ("deeper", 300)

    def test_is_of_the_time_of_its_first_record_whichever_comes_first(self, any_url, rows):
        made = decision(DEEPER, answered_by=None)
        before, after = (DecisionLedger(any_url, flush_seconds=3_600) for _ in range(2))
        before.record(made)
        between = datetime.now(timezone.utc)
        after.record(replace(made, answered_by="deeper"))
        after.close()
        before.close()
        assert rows(any_url, DECISIONS)[0]["decided_at"] <= between

    def test_without_an_id_is_stored_under_one_that_nobody_knows(self, url, rows):
        with DecisionLedger(url) as ledger:
            ledger.record(ACCEPTED)
            ledger.record(ACCEPTED)
        assert len({row["decision_id"] for row in rows(url, DECISIONS)}) == 2

    def test_is_stored_beside_the_profiles_of_a_registry(self, url, rows):
        registry = CalibrationRegistry(url)
        with DecisionLedger(registry) as ledger:
            ledger.record(decision())
        registry.list()
        assert len(rows(url, DECISIONS)) == 1


class TestTexts:
    SECRET = "the patient's name is Ann"

    def stored(self, any_url, rows, **options):
        with DecisionLedger(any_url, **options) as ledger:
            ledger.record(decision(detail=self.SECRET), prompt=self.SECRET, answer=f"{self.SECRET}\0\ud800")
        (row,) = rows(any_url, DECISIONS)
        return row

    def test_are_not_stored(self, url, rows, tmp_path):
        row = self.stored(url, rows)
        assert row["detail"] is row["prompt"] is row["answer"] is None
        assert not any(b"Ann" in path.read_bytes() for path in tmp_path.iterdir())

    def test_are_not_even_kept_in_memory(self, url):
        class Prompt(str):
            __slots__ = ("__weakref__",)

        prompt = Prompt("x")
        held = weakref.ref(prompt)
        ledger = DecisionLedger(url, flush_seconds=60)
        ledger.record(decision(), prompt=prompt)
        del prompt
        gc.collect()
        assert held() is None

    def test_are_stored_where_that_is_switched_on_as_far_as_databases_take_them(self, any_url, rows):
        row = self.stored(any_url, rows, texts=True)
        assert row["detail"] == row["prompt"] == self.SECRET
        assert row["answer"] == f"{self.SECRET}\N{REPLACEMENT CHARACTER}?"


class TestFeedback:
    def test_is_kept_by_what_it_is_about_and_the_later_one_counts(self, any_url, rows):
        with DecisionLedger(any_url) as ledger:
            ledger.feedback("d", correct=True)
            ledger.flush()
            ledger.feedback("d", draft_correct=False)
            ledger.flush()
            ledger.feedback("d", correct=False)
            ledger.feedback("e", draft_correct=True)
            ledger.feedback("e", correct=True)
        said = {row["decision_id"]: (row["correct"], row["draft_correct"]) for row in rows(any_url, FEEDBACK)}
        assert said == {"d": (False, False), "e": (True, True)}

    @pytest.mark.parametrize("said_first", ["correct", "draft_correct"])
    def test_that_was_said_last_counts_even_where_what_was_said_before_comes_late(self, any_url, rows, said_first):
        late, in_time = (DecisionLedger(any_url, flush_seconds=3_600) for _ in range(2))
        late.feedback("d", **{said_first: False})
        between = datetime.now(timezone.utc)
        in_time.feedback("d", correct=True)
        in_time.close()
        late.close()
        (row,) = rows(any_url, FEEDBACK)
        assert (row["correct"], row["draft_correct"]) == (True, None if said_first == "correct" else False)
        assert row["given_at"] >= between

    def test_says_something(self, url):
        with DecisionLedger(url) as ledger, pytest.raises(ValueError, match="correct="):
            ledger.feedback("d")


class TestAUser:
    def test_of_threads_and_an_event_loop_loses_nothing(self, url, rows):
        ledger = DecisionLedger(url)

        def records(n):
            for _ in range(n):
                ledger.record(decision())

        async def in_a_loop():
            for _ in range(100):
                ledger.record(decision())
                await asyncio.sleep(0)
            assert await asyncio.to_thread(ledger.flush)

        threads = [threading.Thread(target=records, args=(200,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        asyncio.run(in_a_loop())
        for thread in threads:
            thread.join()
        ledger.close()
        assert len(rows(url, DECISIONS)) == 900
        assert ledger.counts.written == ledger.counts.recorded == 900

    def test_of_a_closed_ledger_opens_it_again(self, url, rows):
        ledger = DecisionLedger(url)
        for _ in range(2):
            ledger.record(decision())
            assert ledger.close()
        assert len(rows(url, DECISIONS)) == 2
        assert not threads_of_ledgers()

    def test_of_a_pickle_goes_on_in_it(self, url, rows):
        ledger = pickle.loads(pickle.dumps(DecisionLedger(url, capacity=7, texts=True)))
        assert (ledger.capacity, ledger.texts) == (7, True)
        with ledger:
            ledger.record(decision())
        assert len(rows(url, DECISIONS)) == 1

    def test_who_forgets_a_ledger_loses_nothing_and_leaves_no_thread(self, url, rows):
        ledger = DecisionLedger(url, flush_seconds=60)
        ledger.record(decision())
        (thread,) = threads_of_ledgers()
        held = weakref.ref(ledger)
        del ledger
        gc.collect()
        assert held() is None
        thread.join(10)
        assert not thread.is_alive()
        assert len(rows(url, DECISIONS)) == 1

    def test_gets_no_connection_of_the_registry_closed(self, url):
        registry = CalibrationRegistry(url)
        ledger = DecisionLedger(registry)
        assert ledger.database is not registry.database

    def test_sees_no_password(self, url):
        assert "geheim" not in repr(DecisionLedger("postgresql+psycopg://tje:geheim@db.example/tje"))

    @pytest.mark.parametrize(
        "wrong", [{"capacity": 0}, *({"flush_seconds": each} for each in (-1, float("nan"), float("inf"), 1e300))]
    )
    def test_is_told_of_options_that_make_no_sense(self, url, wrong):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            DecisionLedger(url, **wrong)

    def test_is_told_what_has_no_database(self):
        with pytest.raises(TypeError, match="URL or a registry"):
            DecisionLedger(object())

    def test_may_give_a_database(self, url):
        assert DecisionLedger(Database(url)).database.url.shown == url


def threads_of_ledgers():
    return [thread for thread in threading.enumerate() if thread.name == "tje-ledger"]
