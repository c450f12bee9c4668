"""Replaying records: nothing is decided by a profile that saw it, and nothing is accepted that a gate would not."""

import numpy as np
import pytest

from tests.evaluation.recorded import drawn, recorded
from tests.samples import KEY, observations_of
from tje_middleware import CalibrationError, ProfileKey
from tje_middleware.calibration.calibration import calibrate_observations
from tje_middleware.calibration.settings import CalibrationSettings, Prices
from tje_middleware.evaluation import ALWAYS, NEVER, ORACLE, replay
from tje_middleware.evaluation.table import as_dict
from tje_middleware.records.columns import Observations

QUICK = CalibrationSettings(resamples=0)
AUTO = ProfileKey(model="m", task="t", signal="auto")


def replayed(records: Observations, **more):
    return replay(records, **{"key": KEY, "settings": QUICK, **more})


def backwards(n: int = 60) -> Observations:
    """Wrong drafts are the more confident ones."""
    correct = np.arange(n) % 2
    return recorded(np.arange(n) * 0.01 + correct, correct, np.ones(n), tokens=10, deeper_tokens=40)


def two_signals(n: int = 800) -> Observations:
    """Two independent signals, of which both together tell far more than one."""
    records, rng = drawn(n), np.random.default_rng(5)
    other = rng.normal(5, 1, n) + ~records.correct
    return records.with_signal("other", other)


class TestCrossFitting:
    @pytest.mark.parametrize("planted", range(10))
    def test_a_record_is_decided_by_a_profile_that_did_not_see_it(self, planted):
        # A profile that saw the planted record has a mean near minus 100,000 and accepts it alone. The records of its
        # own fold, itself and one more right one, must be decided by one that is exactly 1.
        values = [*np.where(np.arange(10) == planted, -1e6, 1.0), *np.linspace(2, 3, 10)]
        found = replayed(recorded(values, [1] * 10 + [0] * 10))
        assert found.policies["mean"].accepted.value * 20 == pytest.approx(2)

    def test_every_record_is_decided_once(self):
        records = drawn(200, gap=50)
        assert replayed(records).policies["bayes"].accepted.value == pytest.approx(records.correct.mean())

    def test_the_profile_is_that_of_all_records(self):
        records, settings = drawn(80), CalibrationSettings(resamples=50)
        mine = replay(records, key=KEY, settings=settings).profile
        other = calibrate_observations(records, key=KEY, settings=settings)
        assert mine.model_copy(update={"created_at": other.created_at}) == other

    def test_fewer_records_of_a_class_make_fewer_folds(self):
        found = replayed(recorded(range(13), [1] * 10 + [0] * 3))
        assert found.folds == 3

    @pytest.mark.parametrize("correct", [[1] * 9 + [0], [1] + [0] * 9, [1] * 10, [0] * 10])
    def test_records_that_cannot_be_split_are_refused_with_what_to_do(self, correct):
        with pytest.raises(CalibrationError, match=r"cannot be split.*label more drafts, or test on records"):
            replayed(recorded(range(10), correct))

    def test_one_fold_is_refused(self):
        with pytest.raises(CalibrationError, match="at least 2"):
            replayed(drawn(40), folds=1)

    def test_progress_is_told_after_each_fold(self):
        told = []
        replayed(drawn(40), folds=4, progress=lambda done, total: told.append((done, total)))
        assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]

    def test_the_same_seed_gives_the_same_evaluation(self):
        def run(seed):
            found = as_dict(replayed(drawn(60), settings=CalibrationSettings(resamples=0, seed=seed)))
            found["profile"].pop("created_at")
            return found

        assert run(1) == run(1)
        assert run(1)["policies"] != run(2)["policies"]


class TestATestPart:
    def test_is_decided_by_the_profile_of_the_other_part(self):
        test = drawn(300, seed=1)
        found = replayed(drawn(80), test=test)
        expected = (test.signals["mean_entropy"] <= found.profile.threshold("mean")).mean()
        assert found.policies["mean"].accepted.value == pytest.approx(expected)
        assert (found.records, found.folds) == (300, None)

    def test_may_have_no_right_or_no_wrong_drafts(self):
        found = replayed(drawn(80), test=recorded([1, 2, 3], [1, 1, 1]))
        assert found.policies[NEVER].risk.value == 0

    def test_with_a_record_of_the_calibration_part_is_refused_by_its_name(self):
        one = recorded([1, 2, 5, 6], [1, 1, 0, 0], ids=["q1", "q2", "q3", "q4"])
        other = recorded([1, 2], [1, 0], ids=["q9", "q3"])
        with pytest.raises(CalibrationError, match=r"record 1 of the test part \('q3'\) is also"):
            replayed(one, test=other)

    def test_with_an_id_twice_is_refused(self):
        with pytest.raises(CalibrationError, match="same id 'q9'"):
            replayed(drawn(40), test=recorded([1, 2], [1, 0], ids=["q9", "q9"]))

    def test_without_the_signal_is_refused(self):
        test = observations_of(np.array([1.0]), np.array([2.0]), "length")
        with pytest.raises(CalibrationError, match=r"no 'mean_entropy', which the profile needs: there are length"):
            replayed(drawn(40), test=test)

    def test_without_a_part_of_a_learned_signal_is_refused(self):
        with pytest.raises(CalibrationError, match="no 'other', which the profile needs"):
            replayed(two_signals(), key=AUTO, test=drawn(50, seed=2))

    def test_is_done_at_once(self):
        told = []
        replayed(drawn(40), test=drawn(9), progress=lambda done, total: told.append((done, total)))
        assert told == [(1, 1)]


class TestWhatAGateWouldNotAccept:
    def test_an_unusable_profile_accepts_nothing_and_is_said(self):
        found = replayed(backwards())
        assert found.profile.verdict == "unusable"
        assert found.policies["mean"].accepted.value == 0
        assert found.missing["mean"].startswith("an unusable profile in 5 of 5 folds: the wrong direction")

    def test_a_method_that_never_has_a_threshold_is_missing_with_its_reason(self):
        found = replayed(drawn(60))
        assert "cost" not in found.policies
        assert found.missing["cost"].startswith("no threshold in 5 of 5 folds: cost needs to know what things cost")

    def test_a_test_part_has_no_folds_to_name(self):
        found = replayed(drawn(60), test=drawn(60, seed=1))
        assert found.missing["cost"].startswith("no threshold: cost needs")

    def test_a_method_without_a_threshold_in_some_fold_goes_deeper_there(self):
        # All right but for one draft below them: risk has a threshold only in the fold that does not see that one.
        right, wrong = np.linspace(1, 2, 120), np.linspace(3, 4, 30)
        records = recorded([*right, 0.5, *wrong], [1] * 120 + [0] * 31)
        found = replayed(records, settings=CalibrationSettings(resamples=0, alpha=0.03))
        assert found.missing["risk"].startswith("no threshold in 4 of 5 folds: risk finds no threshold")
        assert found.policies["risk"].accepted.value * 151 == pytest.approx(120 / 5 + 1)

    def test_methods_stand_in_the_order_of_the_profile(self):
        settings = CalibrationSettings(resamples=0, alpha=0.3, prices=Prices(error=1, deeper=0.2))
        found = replayed(drawn(300), settings=settings)
        assert list(found.policies) == [NEVER, ALWAYS, ORACLE, *found.profile.thresholds]


class TestOutcomes:
    def test_without_deeper_ones_there_is_no_curve_and_no_oracle(self):
        found = replayed(recorded([*range(10), *range(5, 15)], [1] * 10 + [0] * 10))
        assert found.curve is None
        assert not {ALWAYS, ORACLE} & set(found.policies)

    def test_of_a_signal_that_separates_beat_random_out_of_fold(self):
        found = replayed(drawn(2_000, gap=2))
        assert found.policies["bayes"].over_random.low > 0
        assert found.curve.share_of_way.low > 0.3

    def test_of_pure_noise_do_not(self):
        found = replayed(drawn(2_000, gap=0))
        assert found.curve.share_of_way.low < 0 < found.curve.share_of_way.high

    def test_a_negative_margin_is_refused(self):
        with pytest.raises(CalibrationError, match="margin"):
            replayed(drawn(40), margin=-0.1)


class TestAutomaticChoice:
    def test_is_made_anew_in_each_fold(self):
        records = drawn(60, gap=0.8)
        rng = np.random.default_rng(8)
        for place in range(6):
            records = records.with_signal(f"noisy_{place}", records.signals["mean_entropy"] + rng.normal(0, 1, 60))
        found = replayed(records, key=AUTO)
        assert sum(found.signals.values()) == 5
        assert len(found.signals) > 1

    def test_may_learn_a_signal(self):
        found = replayed(two_signals(), key=AUTO)
        assert found.signals == {"learned": 5}
        assert found.policies["mean"].over_random.low > 0

    def test_of_noise_is_no_better_than_random_out_of_fold(self):
        rng = np.random.default_rng(3)
        records = drawn(120, gap=0)
        for place in range(20):
            records = records.with_signal(f"noise_{place}", rng.normal(size=120))
        found = replayed(records, key=AUTO)
        assert found.curve.share_of_way.low < 0.1
