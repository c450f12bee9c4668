"""What becomes of a gate's decisions: the ledger, telemetry, and the watch for drift."""

from __future__ import annotations

import os
import pickle
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest

from tests.books import Book
from tests.children import in_child
from tests.samples import KEY, draft
from tje_middleware import (
    CalibrationRecord,
    DriftPolicy,
    EntropyGate,
    GateDecision,
    GateError,
    Route,
    TjeWarning,
    calibrate,
)
from tje_middleware.calibration.profile import Alarm
from tje_middleware.calls.usage import TokenUsage
from tje_middleware.gate.decision import Answerer
from tje_middleware.gate.sources import ProfileLookup

RIGHT, WRONG = np.linspace(0.2, 0.8, 100), np.linspace(0.9, 2.0, 100)
PROFILE = calibrate(
    [CalibrationRecord(correct=True, signals={"mean_entropy": value}) for value in RIGHT]
    + [CalibrationRecord(correct=False, signals={"mean_entropy": value}) for value in WRONG],
    key=KEY,
).model_copy(update={"version": 3})


class Store:
    """A registry in memory."""

    def __init__(self, found=None):
        self.found = found or ProfileLookup(PROFILE)
        self.alarms = []

    def lookup(self, key):
        return self.found

    async def alookup(self, key):
        return self.found

    def report_alarm(self, key, alarm):
        self.alarms.append((key, alarm))
        self.found = replace(self.found, alarm=alarm)

    def dismiss(self):
        self.found = replace(self.found, alarm=None)


def following(store, **policies):
    return EntropyGate.from_registry(store, model=KEY.model, task=KEY.task, **policies)


def shifted(count, *, by=1.5, seed=0):
    """Drafts of another distribution than the records."""
    values = np.random.default_rng(seed).permutation(np.concatenate([RIGHT, WRONG]))[:count]
    return [draft(float(value) + by) for value in values]


def alike(count, seed=0):
    """Drafts distributed as the records."""
    return [draft(float(value)) for value in np.random.default_rng(seed).choice([*RIGHT, *WRONG], count)]


def drifted(gate):
    """The gate after so many drafts of another kind that an alarm was raised; nothing is warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TjeWarning)
        for each in shifted(60):
            gate.decide(each)
    return gate


def quietly(gate, each):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TjeWarning)
        return gate.decide(each)


def quietly_judged(gate, each):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TjeWarning)
        return gate.judge(each)


class TestLedger:
    def test_a_decision_is_written_down_with_what_it_was_made_by(self):
        book = Book()
        decision = EntropyGate(PROFILE, ledger=book).decide(draft(0.3), model=KEY.model)
        [(written, circumstances)] = book.entries
        assert written is decision
        assert circumstances == {
            "profile": PROFILE,
            "draft_model": KEY.model,
            "risk_limit": None,
            "deeper_includes_draft": False,
        }

    def test_the_risk_that_the_policy_allows_goes_with_it(self):
        book = Book()
        EntropyGate(PROFILE, ledger=book, drift=DriftPolicy(max_risk=0.1)).decide(draft(0.3))
        assert book.entries[0][1]["risk_limit"] == 0.1

    def test_every_decision_has_a_name_of_its_own(self):
        book = Book()
        gate = EntropyGate(PROFILE, ledger=book)
        for _ in range(20):
            gate.decide(draft(0.3))
        assert len({decision.decision_id for decision in book.decisions}) == 20

    def test_one_that_cannot_be_judged_is_written_down_too(self):
        book = Book()
        quietly(EntropyGate(PROFILE, ledger=book), None)
        assert [decision.reason for decision in book.decisions] == ["no_logprobs"]

    def test_a_promise_goes_with_it_unless_nothing_is_compared(self):
        profile = PROFILE.model_copy(
            update={"thresholds": {**PROFILE.thresholds, "risk": PROFILE.thresholds["mean"]}}
        )
        limits = []
        for policies in ({}, {"on_drift": "ignore"}, {"method": "mean"}):
            book = Book()
            EntropyGate(profile, ledger=book, **{"method": "risk", **policies}).decide(draft(0.3))
            limits.append(book.entries[0][1]["risk_limit"])
        assert limits == [PROFILE.settings.alpha, None, None]

    def test_where_nothing_goes_deeper_accepting_saves_nothing_and_a_promise_is_one_all_the_same(self):
        book = Book()
        gate = EntropyGate(PROFILE, ledger=book, drift=DriftPolicy(max_risk=0.2))
        gate.settle(gate.judge(draft(0.3)), may_deepen=False)
        assert (book.entries[0][1]["profile"], book.entries[0][1]["risk_limit"]) == (None, 0.2)

    def test_judging_alone_writes_nothing(self):
        book = Book()
        EntropyGate(PROFILE, ledger=book).judge(draft(0.3))
        assert book.entries == []

    def test_nothing_is_written_of_a_draft_for_which_the_gate_raises(self):
        book = Book()
        with pytest.raises(GateError):
            EntropyGate(PROFILE, ledger=book, on_missing="raise").decide(None)
        assert book.entries == []

    def test_what_becomes_of_a_decision_is_written_under_its_name(self):
        book = Book()
        gate = EntropyGate(PROFILE, ledger=book)
        decision = gate.decide(draft(3.0))
        answered_by: Answerer = "deeper"
        gate.amend(replace(decision, answered_by=answered_by, deeper_usage=TokenUsage(9, 90, 1)))
        first, last = book.decisions
        assert (first.answered_by, last.answered_by) == (None, "deeper")
        assert first.decision_id == last.decision_id

    def test_a_profile_that_was_replaced_meanwhile_is_not_taken_for_that_of_the_decision(self):
        book, store = Book(), Store()
        gate = following(store, ledger=book)
        decision = gate.judge(draft(0.3))
        store.found = ProfileLookup(PROFILE.model_copy(update={"version": 4}))
        gate.settle(decision)
        assert [circumstances["profile"] for _, circumstances in book.entries] == [None]

    def test_copies_of_a_gate_write_into_the_same_ledger(self):
        book = Book()
        gate = EntropyGate(PROFILE, ledger=book)
        gate.with_threshold(5.0).decide(draft(3.0))
        gate.with_on_missing("final").decide(draft(3.0))
        assert [decision.route for decision in book.decisions] == [Route.FINAL, Route.DEEPER]

    def test_what_is_no_ledger_is_refused(self):
        with pytest.raises(TypeError, match="ledger must be a DecisionLedger"):
            EntropyGate(PROFILE, ledger="sqlite:///tje.db")


class TestDrift:
    def test_drafts_like_the_records_raise_no_alarm(self):
        store = Store()
        gate = following(store)
        assert {gate.decide(each).alarm for each in alike(400)} == {None}
        assert store.alarms == []

    def test_others_raise_one_which_is_told_to_the_store(self):
        store = Store()
        drifted(following(store))
        [(key, alarm)] = store.alarms
        assert (key, alarm.kind, alarm.version) == (KEY, "drift", 3)
        assert alarm.evidence["observations"] <= 60
        assert "@" in alarm.raised_by

    def test_from_then_on_nothing_is_accepted(self):
        decision = quietly(drifted(EntropyGate(PROFILE)), draft(0.3))
        assert (decision.route, decision.reason, decision.alarm) == (Route.DEEPER, "drifted", "drift")
        assert decision.signal_value == pytest.approx(0.3)
        assert "PSI" in decision.detail

    def test_the_gate_says_so(self):
        gate = EntropyGate(PROFILE)
        assert gate.lookup() == ProfileLookup(PROFILE)
        assert drifted(gate).lookup().alarm.kind == "drift"

    def test_unless_it_is_only_to_be_warned_of(self):
        decision = quietly(drifted(EntropyGate(PROFILE, on_drift="warn")), draft(0.3))
        assert (decision.route, decision.reason, decision.alarm) == (Route.FINAL, "confident", "drift")

    @pytest.mark.parametrize("policy", ["missing", "warn"])
    def test_it_is_said_once(self, policy):
        gate = EntropyGate(PROFILE, on_drift=policy)
        with pytest.warns(TjeWarning) as caught:
            for each in shifted(90):
                gate.decide(each)
        assert len([one for one in caught if "an alarm was raised about" in str(one.message)]) == (
            2 if policy == "missing" else 1  # that no draft can be judged any more is another matter
        )

    def test_or_nothing_compared(self):
        store = Store(ProfileLookup(PROFILE, alarm=Alarm("drift", "from elsewhere", version=3)))
        gate = drifted(following(store, on_drift="ignore"))
        assert gate.decide(draft(0.3)).alarm is None
        assert store.alarms == []

    def test_an_alarm_of_another_process_is_heeded(self):
        store = Store(ProfileLookup(PROFILE, alarm=Alarm("risk", "9 of 20 wrong", version=3)))
        decision = quietly(following(store), draft(0.3))
        assert (decision.route, decision.reason, decision.alarm) == (Route.DEEPER, "drifted", "risk")
        assert "9 of 20 wrong" in decision.detail

    def test_one_that_was_dismissed_holds_no_more_and_the_watch_begins_anew(self):
        store = Store()
        gate = drifted(following(store))
        assert not quietly(gate, draft(0.3)).accepted
        store.dismiss()
        assert gate.decide(draft(0.3)).accepted
        drifted(gate)
        assert len(store.alarms) == 2

    def test_one_that_another_process_raised_and_somebody_dismissed_begins_anew_too(self):
        """Else this process would raise it again at once, by drafts from before it was dismissed."""
        store = Store()
        gate = following(store)
        for each in shifted(25):
            assert gate.decide(each).alarm is None  # not yet enough of them
        store.report_alarm(KEY, Alarm("drift", "from elsewhere", version=3))
        assert not quietly(gate, draft(0.3)).accepted
        store.dismiss()
        for each in shifted(20, seed=1):
            gate.decide(each)
        assert [alarm.detail for _, alarm in store.alarms] == ["from elsewhere"]

    def test_a_draft_that_is_judged_twice_counts_once(self):
        store, book = Store(), Book()
        gate = following(store, ledger=book)
        once = replace(gate.judge(draft(4.0)), decision_id="one")
        for _ in range(100):
            gate.settle(once)
        assert store.alarms == []
        assert len(book.entries) == 100  # under one name: the last one counts

    def test_another_version_begins_anew(self):
        store = Store()
        gate = drifted(following(store))
        store.found = ProfileLookup(PROFILE.model_copy(update={"version": 4}))
        assert gate.decide(draft(0.3)).accepted

    def test_what_a_stopped_draft_was_worth_counts_as_above_the_threshold(self):
        gate = EntropyGate(PROFILE, method="bayes")
        threshold = PROFILE.threshold("bayes")
        for each in alike(400):
            decision = gate.judge(each)
            if not decision.accepted:  # stopped as soon as it was above, whatever it would have come to
                decision = replace(decision, signal_value=threshold + 1e-6, aborted=True)
            gate.settle(decision, may_abort=True)
        assert gate.judge(draft(0.3)).alarm is None

    def test_drafts_that_may_be_stopped_are_watched_beside_others(self):
        gate = EntropyGate(PROFILE)
        gate.settle(gate.judge(draft(0.3)))
        for each in shifted(80):
            gate.settle(quietly_judged(gate, each), may_abort=True)
        assert quietly_judged(gate, draft(0.3)).alarm == "drift"

    def test_a_threshold_of_its_own_for_each_draft_makes_no_heap_of_watches(self):
        gate = EntropyGate(PROFILE)
        for number, each in enumerate(alike(2000)):
            copy = gate.with_threshold(1 + number / 1e4)
            copy.settle(copy.judge(each), may_abort=True)
        assert gate.judge(draft(0.3)).alarm is None

    def test_what_is_settled_in_the_middle_of_settling_waits_for_nobody(self):
        class Reentrant(Store):
            def report_alarm(self, key, alarm):
                quietly(self.gate, draft(0.3))  # as a stream that the garbage collector closes just here
                super().report_alarm(key, alarm)

        store = Reentrant()
        store.gate = following(store)
        thread = threading.Thread(target=drifted, args=[store.gate], daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
        assert len(store.alarms) == 1

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
    def test_what_was_raised_holds_in_a_forked_process_too(self):
        gate = drifted(EntropyGate(PROFILE))
        assert in_child(lambda: [quietly(gate, draft(0.3)).accepted for _ in range(4)]) == [False] * 4

    def test_a_watch_stops_no_draft_by_a_profile_that_is_alarmed(self):
        gate = drifted(EntropyGate(PROFILE))
        assert not gate.watch(max_tokens=5).can_fire

    def test_the_policy_says_when(self):
        patient = EntropyGate(PROFILE, drift=DriftPolicy(least_drafts=1000))
        drifted(patient)
        assert patient.decide(draft(0.3)).accepted

    def test_caches_tell_a_gate_that_is_alarmed_from_one_that_is_not(self):
        gate = EntropyGate(PROFILE)
        before = gate.fingerprint()
        assert drifted(gate).fingerprint() != before

    def test_another_process_begins_anew(self):
        gate = pickle.loads(pickle.dumps(drifted(EntropyGate(PROFILE))))
        assert gate.decide(draft(0.3)).accepted

    def test_a_profile_without_a_reference_is_not_compared(self):
        gate = drifted(EntropyGate(PROFILE.model_copy(update={"reference": None})))
        assert gate.decide(draft(0.3)).accepted

    def test_decisions_without_a_value_are_not_compared(self):
        gate = EntropyGate(PROFILE)
        for _ in range(100):
            quietly(gate, None)
        assert gate.decide(draft(0.3)).accepted


class TestAliases:
    def test_a_draft_of_a_name_declared_for_the_model_is_judged(self):
        store = Store(ProfileLookup(PROFILE, names=frozenset({"our-deployment"})))
        gate = EntropyGate.from_registry(store, model="our-deployment", task=KEY.task)
        decision = gate.decide(draft(0.3), model="our-deployment")
        assert (decision.route, decision.key) == (Route.FINAL, str(KEY))
        assert gate.made(decision)

    def test_of_another_name_it_is_not(self):
        store = Store(ProfileLookup(PROFILE, names=frozenset({"our-deployment"})))
        gate = EntropyGate.from_registry(store, model="our-deployment", task=KEY.task)
        assert quietly_of(gate, "another-deployment").reason == "other_settings"


def quietly_of(gate, model) -> GateDecision:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TjeWarning)
        return gate.decide(draft(0.3), model=model)
