"""Feedback on live drafts becomes a profile: of the same signal, in proportion, and never from one side alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.samples import KEY, draft
from tje_middleware import CalibrationError, CalibrationRecord, EntropyGate, ProfileKey, Threshold, calibrate
from tje_middleware.calibration.calibration import calibrate_observations
from tje_middleware.calibration.recalibration import LabelledDecision, recalibrate
from tje_middleware.calibration.settings import CalibrationSettings
from tje_middleware.records.columns import Observations

BARE = CalibrationSettings(resamples=0, alpha=0.35, seed=4)


def drafts(n, *, seed=0, moved=0.0):
    """Signals of n drafts and whether they are right; a higher one is right less often."""
    rng = np.random.default_rng(seed)
    signal = rng.gamma(4.0, 0.1, n) + moved
    return signal, rng.random(n) > 1.6 * (signal - moved) - 0.2


def feedback(n, **given):
    signal, correct = drafts(n, **given)
    return [LabelledDecision(*pair) for pair in zip(signal.tolist(), correct.tolist(), strict=True)]


@pytest.fixture(scope="module")
def in_use():
    signal, correct = drafts(200)
    found = calibrate_observations(Observations(correct, {"mean_entropy": signal}), key=KEY, settings=BARE)
    return found.model_copy(update={"version": 3})


class TestTheNewProfile:
    def test_is_that_of_a_calibration_on_the_same_labels(self, in_use):
        labelled = feedback(300, seed=1)
        found = recalibrate(in_use, labelled, threshold=0.4)
        records = [CalibrationRecord(correct=d.correct, signals={"mean_entropy": d.signal_value}) for d in labelled]
        expected = calibrate(records, key=KEY, alpha=0.35, seed=4, resamples=0)
        assert (found.thresholds, found.verdict, found.auroc) == (
            expected.thresholds,
            expected.verdict,
            expected.auroc,
        )
        assert found.reference == expected.reference
        assert found.records_fingerprint == expected.records_fingerprint

    def test_follows_drafts_that_have_moved(self, in_use):
        found = recalibrate(in_use, feedback(300, seed=2, moved=0.5), threshold=0.8)
        assert found.threshold("mean") == pytest.approx(in_use.threshold("mean") + 0.5, abs=0.05)
        assert found.verdict == "usable"

    def test_keeps_key_and_settings_is_not_stored_and_says_where_it_comes_from(self, in_use):
        found = recalibrate(in_use, feedback(100), threshold=0.4)
        assert (found.key, found.settings, found.version) == (in_use.key, in_use.settings, None)
        source, assumed = found.notes[-2:]
        assert "calibrated on feedback about 100 live drafts" in source
        assert "that version 3 decided" in source
        assert "taken to be a fair sample" in assumed

    def test_says_what_it_cannot_do_any_more_and_why(self, in_use):
        has = Threshold(value=0.3)
        able = in_use.model_copy(
            update={"thresholds": {**in_use.thresholds, "noninferior": has, "cost": has}, "abstain": has}
        )
        some = [
            d if d.signal_value <= 0.4 else LabelledDecision(d.signal_value, d.correct, deeper_correct=True)
            for d in feedback(200)
        ]
        told = sum(d.deeper_correct is not None for d in some)
        notes = recalibrate(able, some, threshold=0.4).notes
        assert f"deeper_correct is recorded for {told} of 200 records; it is used only where all have it" in notes
        lost = [note for note in notes if "any more" in note]
        assert [note.split()[0] for note in lost] == ["noninferior", "cost", "abstain"]
        assert "noninferior has no threshold any more: noninferior needs deeper_correct in every record" in lost[0]
        assert not any("any more" in note for note in recalibrate(in_use, some, threshold=0.4).notes)

    def test_can_be_gated_by(self, in_use):
        gate = EntropyGate(recalibrate(in_use, feedback(100, moved=0.5), threshold=0.9))
        assert gate.decide(draft(0.6)).accepted
        assert not in_use.threshold("mean") > 0.6

    def test_takes_what_the_deeper_branch_gave_where_all_drafts_tell(self, in_use):
        labelled = [
            LabelledDecision(d.signal_value, d.correct, tokens=100, deeper_correct=True, deeper_tokens=500)
            for d in feedback(200)
        ]
        found = recalibrate(in_use, labelled, threshold=0.4)
        assert (
            found.thresholds["noninferior"].reason is None
            or "needs deeper" not in found.thresholds["noninferior"].reason
        )
        assert (found.reference.draft_tokens, found.expected_deeper_tokens(0.4)) == (100, 500)

    def test_expects_of_accepted_drafts_what_going_deeper_cost_the_rejected_where_only_those_tell(self, in_use):
        labelled = [
            d if d.signal_value <= 0.4 else LabelledDecision(d.signal_value, d.correct, deeper_tokens=700)
            for d in feedback(200)
        ]
        assert recalibrate(in_use, labelled, threshold=0.4).expected_deeper_tokens(0.4) == 700


class TestTheSignal:
    auto = ProfileKey(model="m", task="t", signal="auto")

    def found(self, **strengths):
        rng = np.random.default_rng(3)
        correct = rng.random(400) < 0.5
        columns = {name: rng.normal(size=400) + by * ~correct for name, by in strengths.items()}
        return calibrate_observations(Observations(correct, columns), key=self.auto, settings=BARE)

    def test_that_was_learned_keeps_its_weights(self):
        learned = self.found(a=0.9, b=0.9, c=0.9)
        assert learned.learned is not None
        labelled = [LabelledDecision(d.signal_value * 4 - 1, d.correct) for d in feedback(200)]
        found = recalibrate(learned, labelled, threshold=0.5)
        assert (found.key, found.learned, found.signal) == (self.auto, learned.learned, "learned")
        assert found.thresholds != learned.thresholds

    def test_that_was_chosen_is_not_chosen_anew(self):
        chosen = self.found(a=1.9, noise=0.0)
        found = recalibrate(chosen, feedback(200), threshold=0.4)
        assert (found.key, found.chosen_signal, found.learned) == (self.auto, "a", None)


@pytest.fixture(scope="module")
def lopsided():
    every, lots = feedback(3_000, seed=5), np.random.default_rng(6).random(3_000)
    median = float(np.median([d.signal_value for d in every]))
    return [d for d, lot in zip(every, lots, strict=True) if d.signal_value <= median or lot < 0.2], median


class TestWhatIsGradedMoreOften:
    """Drafts as they come are accepted in half the cases; of the accepted, feedback came five times as often."""

    def test_would_promise_a_risk_that_does_not_hold(self, in_use, lopsided):
        labelled, median = lopsided
        signal, correct = drafts(100_000, seed=7)
        as_graded = recalibrate(in_use, labelled, threshold=median).threshold("risk")
        as_decided = recalibrate(in_use, labelled, threshold=median, share_accepted=0.5).threshold("risk")
        assert (~correct[signal <= as_graded]).mean() > 0.37
        assert 0.25 < (~correct[signal <= as_decided]).mean() <= 0.35

    def test_is_thinned_out_and_a_note_says_so(self, in_use, lopsided):
        labelled, median = lopsided
        found = recalibrate(in_use, labelled, threshold=median, share_accepted=0.5)
        rejected = sum(d.signal_value > median for d in labelled)
        assert found.reference.n == 2 * rejected
        assert f"{2 * rejected} of them were kept, so that 50.0% are accepted ones" in found.notes[-1]

    def test_and_the_same_feedback_gives_the_same_profile(self, in_use, lopsided):
        labelled, median = lopsided
        one, other = (recalibrate(in_use, labelled, threshold=median, share_accepted=0.5) for _ in range(2))
        assert one.model_copy(update={"created_at": other.created_at}) == other

    @settings(max_examples=40, deadline=None)
    @given(st.integers(1, 60), st.integers(1, 60), st.floats(0.0, 1.0))
    def test_the_kept_ones_stand_in_the_given_ratio_to_within_one(self, in_use, accepted, rejected, share):
        rows = [LabelledDecision(0.1 + place / 1e4, True) for place in range(accepted)]
        rows += [LabelledDecision(0.6 + place / 1e4, False) for place in range(rejected)]
        found = recalibrate(in_use, rows, threshold=0.5, share_accepted=share)
        kept = round(found.reference.share_up_to(0.5) * found.reference.n)
        assert abs(kept - share * found.reference.n) <= 1
        # None of the side that is rarer among the labels is wasted.
        assert share in (0.0, 1.0) or kept == accepted or found.reference.n - kept == rejected


class TestRefusals:
    def test_no_feedback(self, in_use):
        with pytest.raises(CalibrationError, match=r"no feedback.*draft_correct=.*tje ledger feedback.*--draft-"):
            recalibrate(in_use, [], threshold=0.4)

    def test_feedback_on_accepted_drafts_alone_says_what_to_do(self, in_use):
        rows = [d for d in feedback(200) if d.signal_value <= 0.4]
        with pytest.raises(
            CalibrationError, match=rf"all {len(rows)} drafts.*were accepted.*draft_correct=.*annotates"
        ):
            recalibrate(in_use, rows, threshold=0.4)

    def test_feedback_on_rejected_drafts_alone(self, in_use):
        rows = [d for d in feedback(200) if d.signal_value > 0.4]
        with pytest.raises(CalibrationError, match="were rejected"):
            recalibrate(in_use, rows, threshold=0.4)

    def test_a_gate_that_accepted_everything_has_no_other_side(self, in_use):
        rows = [d for d in feedback(200) if d.signal_value <= 0.4]
        assert recalibrate(in_use, rows, threshold=0.4, share_accepted=1.0).n_correct > 0

    @pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
    def test_a_share_that_is_none(self, in_use, share):
        with pytest.raises(CalibrationError, match="between 0 and 1"):
            recalibrate(in_use, feedback(10), threshold=0.4, share_accepted=share)

    def test_a_value_that_is_no_signal(self, in_use):
        with pytest.raises(CalibrationError, match="not finite"):
            recalibrate(in_use, [*feedback(10), LabelledDecision(float("nan"), True)], threshold=0.4)
