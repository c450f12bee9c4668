"""``signal="auto"``: which signal is chosen, when none is, and what a learned one must do to be taken."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tests.samples import draft
from tje_middleware import CalibrationProfile, CalibrationRecord, ProfileKey, calibrate, register_signal
from tje_middleware.calibration.calibration import calibrate_observations
from tje_middleware.calibration.learning import learn
from tje_middleware.calibration.selection import LEARNED, choose, shared_among
from tje_middleware.calibration.settings import CalibrationSettings
from tje_middleware.calibration.thresholds import risk_threshold
from tje_middleware.errors import SignalError
from tje_middleware.records.columns import Observations
from tje_middleware.signals.learned import Feature, LearnedSignal

AUTO = ProfileKey(model="m", task="t", signal="auto")
QUICK = CalibrationSettings(alpha=0.2, resamples=0)


def observations(gaps, n=100, *, seed=0, share_wrong=0.4):
    """Normal signals, wrong drafts so much higher."""
    rng = np.random.default_rng(seed)
    wrong = rng.random(n) < share_wrong
    return Observations(correct=~wrong, signals={name: rng.normal(gap * wrong) for name, gap in gaps.items()})


class TestChoice:
    def test_a_planted_signal_is_found_among_noise(self):
        choice = choose(observations({"a": 0, "b": 0, "planted": 2, "c": 0}))
        assert (choice.signal, choice.verdict) == ("planted", "usable")
        assert choice.table[0].signal == "planted"
        assert choice.table[0].chosen == 1.0

    def test_what_it_is_worth_is_measured_out_of_fold(self):
        truth = stats.norm.cdf(2 / np.sqrt(2))
        found = [choose(observations({"a": 0, "planted": 2}, seed=seed)).auroc for seed in range(10)]
        assert np.mean(found) == pytest.approx(truth, abs=0.03)

    def test_the_table_has_every_candidate_best_first(self):
        choice = choose(observations({"noise": 0, "good": 2, "fair": 1}))
        assert [candidate.signal for candidate in choice.table] == ["good", "fair", "noise"]
        assert [candidate.auroc for candidate in choice.table] == sorted(
            (c.auroc for c in choice.table), reverse=True
        )

    def test_the_same_seed_gives_the_same_choice_and_another_seed_other_folds(self):
        data = observations({"a": 0.5, "b": 0.6})
        assert choose(data, seed=3) == choose(data, seed=3)
        assert choose(data, seed=3).table != choose(data, seed=4).table

    def test_a_signal_that_repeats_another_is_left_out_and_named(self):
        data = observations({"good": 2, "noise": 0})
        choice = choose(data.with_signal("copy", data.signals["good"].copy()))
        assert choice.table[-1].signal == "copy"
        assert choice.table[-1].reason == "the same as good on every record"
        assert {c.signal for c in choice.table if c.auroc is not None} == {"good", "noise"}

    def test_a_signal_that_some_records_lack_is_named_with_the_reason(self):
        records = [
            CalibrationRecord(
                correct=place % 2 == 0, signals={"mean_entropy": place, **({"x": 1.0} if place else {})}
            )
            for place in range(10)
        ]
        profile = calibrate(reversed(records), key=AUTO)
        assert profile.candidates[-1].signal == "x"
        assert "record 9" in profile.candidates[-1].reason

    def test_a_constant_column_among_others_is_never_chosen(self):
        data = observations({"good": 2}).with_signal("constant", np.full(100, 0.3))
        choice = choose(data)
        assert choice.signal == "good"
        assert next(c for c in choice.table if c.signal == "constant").auroc == 0.5

    def test_constant_columns_alone_are_unusable(self):
        data = observations({}).with_signal("a", np.full(100, 0.3)).with_signal("b", np.full(100, 0.7))
        assert choose(data).verdict == "unusable"

    @pytest.mark.parametrize(("right", "missing"), [(True, "incorrect"), (False, "correct")])
    def test_one_class_alone_is_unusable_and_named(self, right, missing):
        data = Observations(correct=np.full(9, right), signals={"a": np.arange(9.0)})
        choice = choose(data)
        assert choice.verdict == "unusable"
        assert f"no {missing} drafts among 9 records" in choice.reason
        assert choice.auroc is None

    def test_the_wrong_direction_is_refused_with_that_reason(self):
        choice = choose(observations({"a": -2, "b": 0}))
        assert choice.verdict == "unusable"
        assert choice.reason.startswith("the wrong direction: by a incorrect drafts are the more confident ones")

    def test_noise_is_refused_with_how_many_signals_were_looked_at(self):
        choice = choose(observations({"a": 0, "b": 0, "c": 0}, seed=1))
        assert choice.verdict == "unusable"
        assert "no signal separates right from wrong beyond chance" in choice.reason
        assert "corrected for 3 signals" in choice.reason

    def test_two_records_of_a_class_are_enough_to_look(self):
        data = Observations(correct=np.array([True, True, False]), signals={"a": np.arange(3.0)})
        assert choose(data).verdict == "unusable"


class TestSharedLevel:
    @pytest.mark.parametrize("signals", [1, 2, 7, 28])
    def test_the_shares_of_all_signals_are_the_level_in_all(self, signals):
        assert sum(1 / shared_among(signals, place=place) for place in range(signals)) == pytest.approx(1.0)

    def test_a_special_signal_pays_more_than_a_plain_one(self):
        assert shared_among(8, place=5) > shared_among(8, place=0)


class TestPermutations:
    def test_noise_is_called_unusable_in_at_least_95_of_100(self):
        runs = [choose(observations(dict.fromkeys("abcdef", 0), 40, seed=seed), seed=seed) for seed in range(300)]
        found = sum(run.verdict != "unusable" for run in runs)
        assert found <= stats.binom.ppf(0.999, 300, 0.05)

    def test_p_values_of_noise_are_uniform(self):
        plain, adjusted = [], []
        for seed in range(250):
            table = choose(observations({"a": 0, "b": 0, "c": 0}, 40, seed=seed), seed=seed).table
            plain.append(next(c.p_value for c in table if c.signal == "b"))
            adjusted.append(table[0].p_adjusted)
        assert stats.kstest(plain, "uniform").pvalue > 0.001
        assert stats.kstest(adjusted, "uniform").pvalue > 0.001

    def test_the_adjusted_p_value_is_never_below_the_plain_one(self):
        for candidate in choose(observations({"a": 0.3, "b": 0.1, "c": 0, "d": -0.2})).table:
            assert candidate.p_adjusted >= candidate.p_value

    def test_a_single_candidate_needs_no_adjustment(self):
        (only,) = choose(observations({"a": 0.4})).table
        assert only.p_adjusted == only.p_value


@pytest.fixture(scope="module")
def complementary():
    """Two weak signals that know different things."""
    return observations({"left": 1.0, "right": 1.0}, 600, seed=2)


@pytest.fixture(scope="module")
def learned_profile(complementary):
    return calibrate_observations(complementary, key=AUTO, settings=QUICK)


@pytest.fixture(scope="module")
def choice(complementary):
    return choose(complementary)


class TestLearned:
    def test_is_taken_where_signals_complement_each_other(self, learned_profile):
        assert learned_profile.signal == LEARNED
        assert {feature.signal for feature in learned_profile.learned.features} == {"left", "right"}
        assert learned_profile.verdict == "usable"
        assert "2 signals weighed together beat" in learned_profile.verdict_reason

    @pytest.mark.parametrize("gaps", [{"a": 1.5, "b": 0, "c": 0}, {"a": 0, "b": 0}])
    def test_is_not_where_a_single_one_suffices_or_none_does(self, gaps):
        assert choose(observations(gaps, 600)).learned is None

    def test_is_not_from_few_records(self):
        assert choose(observations({"left": 1.0, "right": 1.0}, 100)).learned is None

    def test_no_threshold_uses_the_records_it_was_learned_from(self, complementary, choice, learned_profile):
        rest = complementary.take(~choice.learned_from)
        values = choice.learned.of_columns(rest.signals)
        expected = risk_threshold(values, ~rest.correct, alpha=0.2, delta=0.1, looks=choice.looks).value
        assert learned_profile.thresholds["risk"].value == expected
        assert learned_profile.n_correct + learned_profile.n_incorrect == len(rest) == 300
        assert learned_profile.thresholds["mean"].value == pytest.approx(values[rest.correct].mean())
        assert "the weights were learned from 300 other records" in learned_profile.notes

    def test_the_half_that_it_learns_from_is_drawn_without_a_look_at_the_labels(self, complementary, choice):
        # Drawn class by class, both halves would have as many right drafts.
        halves = [complementary.correct[half].sum() for half in (choice.learned_from, ~choice.learned_from)]
        assert abs(halves[0] - halves[1]) > 1

    def test_survives_a_round_trip_through_json(self, learned_profile):
        again = CalibrationProfile.model_validate_json(learned_profile.model_dump_json())
        assert again.learned == learned_profile.learned
        values = {"left": 0.3, "right": -1.7}
        assert again.learned.of_values(values) == learned_profile.learned.of_values(values)

    def test_a_profile_measures_a_sequence_as_its_column(self, learned_profile):
        features = (
            Feature(signal="mean_entropy", center=0.5, scale=0.25, weight=1.5),
            Feature(signal="length", center=10, scale=3, weight=0.5),
        )
        signal = LearnedSignal(intercept=-0.4, features=features)
        profile = CalibrationProfile.model_validate_json(
            learned_profile.model_copy(update={"learned": signal}).model_dump_json()
        )
        drafts = [(bits, tokens) for bits in (0.2, 0.9, 3.0) for tokens in (4, 12, 40)]
        columns = {
            name: np.array(column, float)
            for name, column in zip(("mean_entropy", "length"), zip(*drafts, strict=True), strict=True)
        }
        measured = [profile.measure(draft(bits, tokens=tokens)) for bits, tokens in drafts]
        assert measured == pytest.approx(signal.of_columns(columns))


class TestWeights:
    @pytest.mark.parametrize("seed", range(5))
    def test_are_never_negative(self, seed):
        data = observations({"good": 1.0, "reversed": -1.0, "noise": 0}, 200, seed=seed)
        signal = learn(data.signals, data.correct, penalty=0.1)
        assert all(feature.weight >= 0 for feature in signal.features)
        assert "reversed" not in {feature.signal for feature in signal.features}

    def test_where_every_signal_points_the_wrong_way_it_is_a_constant(self):
        data = observations({"a": -1.0, "b": -2.0}, 200)
        assert np.ptp(learn(data.signals, data.correct, penalty=0.1).of_columns(data.signals)) == 0

    def test_are_those_of_a_logistic_regression_that_needs_no_bound(self):
        data = observations({"a": 1.0, "b": 0.7}, 3000)
        signal = learn(data.signals, data.correct, penalty=1e-6)
        # Normal classes a unit apart: log-odds grow by the gap a unit.
        slopes = {feature.signal: feature.weight / feature.scale for feature in signal.features}
        assert slopes == pytest.approx({"a": 1.0, "b": 0.7}, abs=0.12)

    def test_constant_columns_get_none(self):
        data = observations({"a": 1.0}, 200).with_signal("constant", np.full(200, 2.0))
        assert [f.signal for f in learn(data.signals, data.correct, penalty=0.1).features] == ["a"]

    def test_nothing_is_learned_from_one_class(self):
        with pytest.raises(SignalError, match="nothing can be learned"):
            learn({"a": np.arange(5.0)}, np.ones(5, bool), penalty=0.1)


def test_a_learned_signal_is_the_same_number_to_the_last_digit_one_by_one_and_in_columns():
    rng = np.random.default_rng(0)
    parts = tuple(Feature(signal=f"s{k}", center=0.1 * k, scale=0.7 + k, weight=0.3 / (k + 1)) for k in range(6))
    learned = LearnedSignal(intercept=-0.37, features=parts)
    columns = {f"s{k}": rng.integers(-20, 20, 500) / 10 for k in range(6)}
    singly = [learned.of_values({name: float(column[i]) for name, column in columns.items()}) for i in range(500)]
    assert learned.of_columns(columns).tolist() == singly


def test_a_signal_that_the_user_registered_is_looked_at():
    register_signal("mine", lambda sequence: float(len(sequence)))
    records = [
        CalibrationRecord(correct=i % 2 == 0, sequence=draft(0.3 + i % 2, tokens=3 + i % 5)) for i in range(30)
    ]
    found = calibrate(records, key=ProfileKey(model="m", task="t", signal="auto"), resamples=0)
    assert "mine" in {candidate.signal for candidate in found.candidates}
