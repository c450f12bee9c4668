"""Which decisions a recalibration learns from: of one time, and of drafts that stand for all that were decided."""

from __future__ import annotations

import random
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from tests.ledger.decisions import ACCEPTED, DEEPER, decision, profile_with_costs
from tests.samples import KEY
from tje_middleware import CalibrationError, CalibrationRegistry
from tje_middleware.calibration.profile import Alarm
from tje_middleware.ledger import DecisionLedger
from tje_middleware.ledger import ledger as _ledger

BEFORE = datetime(2026, 3, 1, tzinfo=timezone.utc)
DRIFT = BEFORE + timedelta(days=7)
AFTER = DRIFT + timedelta(days=1)
PROFILE = profile_with_costs()


@pytest.fixture
def registry(any_url):
    with CalibrationRegistry(any_url) as held:
        held.put(PROFILE)
        yield held


@pytest.fixture
def ledger(registry):
    with DecisionLedger(registry) as held:
        yield held


@pytest.fixture
def graded(ledger, monkeypatch):
    """Have drafts decided at some time, and told whether they were right; right ones have the lower signal."""

    def recorded(n, *, at=BEFORE, moved=0.0, seed=0, is_graded=True, **fields):
        monkeypatch.setattr(_ledger, "time", SimpleNamespace(time=at.timestamp))
        rng = random.Random(seed)
        for place in range(n):
            right = place % 3 > 0
            value = moved + rng.gauss(0.3 if right else 0.9, 0.05)
            one = decision(ACCEPTED if value <= 0.5 else DEEPER, signal_value=value, **fields)
            ledger.record(one, profile=PROFILE)
            if is_graded:
                ledger.feedback(one.decision_id, draft_correct=right, correct=True)
        assert ledger.flush(30)

    return recorded


def drifted(registry, *, kind="drift", version=1):
    registry.store_alarm(KEY, Alarm(kind, "drafts are others", version=version, raised_at=DRIFT))


class TestFeedbackOfAnEarlierTime:
    @pytest.fixture(autouse=True)
    def before_and_after(self, graded):
        graded(90)
        graded(60, at=AFTER, moved=0.15, seed=1)

    def test_is_left_out_where_a_drift_alarm_holds(self, registry, ledger):
        drifted(registry)
        found = ledger.recalibrated(PROFILE)
        assert found.n_correct + found.n_incorrect == 60
        assert found.mean_correct == pytest.approx(0.45, abs=0.03)
        assert (
            found.notes[-1]
            == "only drafts that were decided since 2026-03-08 00:00 UTC, when a drift alarm was raised"
        )

    def test_counts_where_nothing_has_changed(self, ledger):
        found = ledger.recalibrated(PROFILE)
        assert found.n_correct + found.n_incorrect == 150
        assert not any("since" in note for note in found.notes)

    def test_counts_where_the_alarm_was_dismissed(self, registry, ledger):
        drifted(registry)
        registry.dismiss(KEY)
        assert ledger.recalibrated(PROFILE).reference.n == 150

    def test_counts_where_the_alarm_is_of_another_kind_or_version(self, registry, ledger):
        registry.put(profile_with_costs(), candidate=True)
        drifted(registry, kind="risk")
        drifted(registry, version=2)
        assert ledger.recalibrated(PROFILE).reference.n == 150

    def test_counts_where_it_is_asked_for(self, registry, ledger):
        drifted(registry)
        assert ledger.recalibrated(PROFILE, since=BEFORE).reference.n == 150

    def test_is_left_out_by_a_date_as_well(self, ledger):
        assert ledger.recalibrated(PROFILE, since=AFTER).reference.n == 60
        assert len(ledger.labelled(KEY, since=AFTER)) == 60
        assert len(ledger.labelled(KEY)) == 150

    def test_has_no_part_in_the_share_that_is_accepted(self, graded, ledger):
        graded(900, seed=2, is_graded=False)
        found = ledger.recalibrated(PROFILE, since=AFTER)
        assert not any("were kept" in note for note in found.notes)

    def test_is_not_said_to_be_missing_without_the_time(self, ledger):
        with pytest.raises(CalibrationError, match=r"no decisions by version 1 of .* since 2026-03-10 00:00 UTC"):
            ledger.recalibrated(PROFILE, since=AFTER + timedelta(days=1))

    def test_cannot_be_told_by_a_time_without_a_zone(self, ledger):
        for asked in (
            lambda when: ledger.recalibrated(PROFILE, since=when),
            lambda when: ledger.labelled(KEY, since=when),
        ):
            with pytest.raises(ValueError, match="without a zone"):
                asked(AFTER.replace(tzinfo=None))


def test_drafts_that_an_alarm_kept_from_being_accepted_show_what_drafts_are_like_now(registry, ledger, graded):
    graded(90)
    drifted(registry)
    graded(60, at=AFTER, moved=0.15, reason="drifted", route=DEEPER.route, answered_by="deeper", alarm="drift")
    found = ledger.recalibrated(PROFILE)
    assert (found.reference.n, found.mean_correct) == (60, pytest.approx(0.45, abs=0.03))


def test_the_same_feedback_gives_the_same_records_and_more_of_it_others(ledger, graded):
    graded(90)
    graded(30, seed=1, is_graded=False)
    first, again = (ledger.recalibrated(PROFILE).records_fingerprint for _ in range(2))
    graded(30, seed=2)
    assert first == again != ledger.recalibrated(PROFILE).records_fingerprint


def test_drafts_that_were_not_measured_against_the_threshold_are_no_part_of_it(ledger, graded):
    graded(60)
    graded(30, reason="other_settings")
    assert len(ledger.labelled(KEY)) == ledger.recalibrated(PROFILE).reference.n == 60


class TestDraftsThatWereStopped:
    def test_where_they_are_many_nothing_is_concluded_and_the_message_says_what_to_do(self, ledger, graded):
        graded(90)
        self.stop(ledger, 10)
        with pytest.raises(CalibrationError, match=r'10 of 40 rejected.*mode="hold" or "annotate".*since'):
            ledger.recalibrated(PROFILE)

    def test_where_they_are_few_a_note_says_so(self, ledger, graded):
        graded(90)
        self.stop(ledger, 3)
        found = ledger.recalibrated(PROFILE)
        assert found.notes[-1] == "3 of 33 rejected drafts were stopped before their end: the others stand for them"

    def test_count_among_the_rejected_whatever_their_bound(self, ledger, graded):
        graded(90)
        # By a gate with a lower threshold than most.
        self.stop(ledger, 3, signal_value=0.4, threshold=0.35)
        found = ledger.recalibrated(PROFILE)
        assert "3 of 33 rejected drafts" in found.notes[-1]

    def test_do_no_harm_once_they_are_of_an_earlier_time(self, ledger, graded):
        self.stop(ledger, 50)
        graded(90, at=datetime.now(timezone.utc) + timedelta(days=1))
        assert ledger.recalibrated(PROFILE, since=datetime.now(timezone.utc) + timedelta(hours=1)).reference.n == 90

    def stop(self, ledger, n, **fields):
        for _ in range(n):
            one = decision(DEEPER, **{"aborted": True, "signal_value": 0.6, **fields})
            ledger.record(one, profile=PROFILE)
            ledger.feedback(one.decision_id, draft_correct=False)
        assert ledger.flush(30)
