"""What calibration finds in records: statistics, the AUROC and its interval, verdicts, refusals."""

from __future__ import annotations

import json
from math import sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from tests.samples import KEY, TOP_K, calibrate_samples, draft, sample
from tje_middleware import (
    CalibrationError,
    CalibrationProfile,
    CalibrationRecord,
    EntropyGate,
    NoThreshold,
    ProfileKey,
    calibrate,
    mean_entropy,
)
from tje_middleware.calibration.separation import auroc, auroc_interval
from tje_middleware.calibration.settings import CalibrationSettings, Prices

NONE = np.array([])
AUTO = ProfileKey(model="m", task="t", signal="auto")
BARE = CalibrationSettings(resamples=0)


def records(correct, incorrect):
    return [
        CalibrationRecord(correct=label, signals={"mean_entropy": value})
        for label, values in ((True, correct), (False, incorrect))
        for value in values
    ]


class TestStatistics:
    correct, incorrect = np.random.default_rng(0).gamma(3, 0.1, 31), np.random.default_rng(1).gamma(4, 0.15, 17)

    @pytest.fixture
    def found(self):
        return calibrate(records(self.correct, self.incorrect), key=KEY)

    def test_counts_means_and_standard_deviations_are_those_of_the_classes(self, found):
        assert (found.n_correct, found.n_incorrect) == (31, 17)
        assert found.mean_correct == pytest.approx(self.correct.mean())
        assert found.mean_incorrect == pytest.approx(self.incorrect.mean())
        assert found.sd_correct == pytest.approx(self.correct.std(ddof=1))
        assert found.sd_incorrect == pytest.approx(self.incorrect.std(ddof=1))

    def test_cohens_d_is_the_gap_over_the_pooled_standard_deviation(self, found):
        pooled = sqrt((30 * self.correct.var(ddof=1) + 16 * self.incorrect.var(ddof=1)) / 46)
        assert found.cohens_d == pytest.approx((self.incorrect.mean() - self.correct.mean()) / pooled)

    def test_p_values_are_scipys_welch_and_mann_whitney(self, found):
        assert found.welch_p == pytest.approx(stats.ttest_ind(self.correct, self.incorrect, equal_var=False).pvalue)
        assert found.mann_whitney_p == pytest.approx(stats.mannwhitneyu(self.correct, self.incorrect).pvalue)

    def test_the_order_of_the_records_does_not_matter(self, found):
        shuffled = np.random.default_rng(2).permutation(records(self.correct, self.incorrect)).tolist()
        again = calibrate(shuffled, key=KEY)
        assert again.auroc == found.auroc
        assert again.thresholds["bayes"].value == pytest.approx(found.thresholds["bayes"].value)

    def test_every_method_has_a_threshold(self, found):
        assert all(found.threshold(method) > 0 for method in ("mean", "info", "bayes", "universal"))

    def test_records_may_come_from_a_generator(self, found):
        again = calibrate(iter(records(self.correct, self.incorrect)), key=KEY)
        assert again.model_copy(update={"created_at": found.created_at}) == found


class TestAuroc:
    values = st.lists(st.integers(0, 6), min_size=1, max_size=15)

    @given(values, values)
    def test_counts_ordered_pairs_and_ties_half(self, correct, incorrect):
        pairs = [(c < i) + 0.5 * (c == i) for c in correct for i in incorrect]
        assert auroc(np.array(correct, float), np.array(incorrect, float)) == pytest.approx(np.mean(pairs))

    def test_is_unknown_without_both_classes(self):
        assert auroc(NONE, np.array([1.0])) is None
        assert auroc(np.array([1.0]), NONE) is None


def newcombe_by_roots(area, n_c, n_i):
    """Newcombe's equation squared and cleared of its fractions: its real roots in [0, 1] are the limits."""
    t = np.polynomial.Polynomial([0, 1])
    mean_count = (n_c + n_i) / 2 - 1
    inner = (2 - t) * (1 + t) + mean_count * (1 - t) * (1 + t) + mean_count * t * (2 - t)
    z = stats.norm.ppf(0.975)
    roots = ((area - t) ** 2 * n_c * n_i * (2 - t) * (1 + t) - z**2 * t * (1 - t) * inner).roots()
    real = roots.real[(abs(roots.imag) < 1e-7) & (roots.real > -1e-7) & (roots.real < 1 + 1e-7)]
    return real.min(), real.max()


class TestAurocInterval:
    @settings(max_examples=100, deadline=None)
    @given(n_c=st.integers(1, 60), n_i=st.integers(1, 60), share=st.floats(0, 1))
    def test_solves_newcombes_equation(self, n_c, n_i, share):
        area = round(share * n_c * n_i) / (n_c * n_i)
        assert auroc_interval(area, n_c, n_i) == pytest.approx(newcombe_by_roots(area, n_c, n_i), abs=1e-6)

    @pytest.mark.parametrize(("n_c", "n_i"), [(1, 1), (5, 5), (8, 8), (1000, 1000), (500_000, 500_000)])
    def test_is_no_point_at_the_ends(self, n_c, n_i):
        low, high = auroc_interval(1.0, n_c, n_i)
        assert low < 1.0 - 1e-7
        assert high == 1.0
        assert auroc_interval(0.0, n_c, n_i) == pytest.approx((0.0, 1 - low))

    def test_is_wide_for_five_and_five_even_when_they_are_apart(self):
        assert auroc_interval(1.0, 5, 5)[0] == pytest.approx(newcombe_by_roots(1.0, 5, 5)[0])
        assert 0.5 < auroc_interval(1.0, 5, 5)[0] < 0.7

    @pytest.mark.parametrize(("n_c", "n_i"), [(8, 8), (20, 30)])
    @pytest.mark.parametrize("gap", [0.5, 1.0, 1.8])
    def test_covers_the_truth_of_two_normal_classes(self, n_c, n_i, gap):
        truth, rng = stats.norm.cdf(gap / sqrt(2)), np.random.default_rng(7)
        covered = 0
        for _ in range(800):
            low, high = auroc_interval(auroc(rng.normal(0, 1, n_c), rng.normal(gap, 1, n_i)), n_c, n_i)
            covered += low <= truth <= high
        assert covered / 800 >= 0.93


class TestVerdicts:
    def test_classes_clearly_apart_are_usable(self):
        found = calibrate_samples(sample(0.3, 0.1, 20), sample(0.9, 0.2, 20), key=KEY)
        assert found.verdict == "usable"
        assert found.auroc_interval[0] > 0.5

    def test_five_and_five_that_overlap_are_weak(self):
        found = calibrate_samples(sample(0.4, 0.2, 5), sample(0.5, 0.2, 5), key=KEY)
        assert found.verdict == "weak"
        assert "add some" in found.verdict_reason

    def test_the_wrong_direction_is_unusable_however_clear(self):
        found = calibrate_samples(sample(0.9, 0.1, 20), sample(0.3, 0.1, 20), key=KEY)
        assert found.verdict == "unusable"
        assert found.verdict_reason.startswith("the wrong direction: incorrect drafts are the more confident ones")

    def test_one_class_alone_is_unusable_and_named(self):
        assert "no incorrect drafts among 6" in calibrate_samples(sample(0.3, 0.1, 6), NONE, key=KEY).verdict_reason
        assert "no correct drafts among 6" in calibrate_samples(NONE, sample(0.3, 0.1, 6), key=KEY).verdict_reason

    @pytest.mark.parametrize("value", [0.0, 0.1, 0.3])
    def test_a_constant_signal_is_unusable_and_has_no_statistics_of_spread(self, value):
        found = calibrate_samples(np.full(5, value), np.full(7, value), key=KEY)
        assert found.verdict == "unusable"
        assert "the same" in found.verdict_reason
        assert (found.cohens_d, found.welch_p, found.mann_whitney_p) == (None, None, None)
        assert found.sd_correct == found.sd_incorrect == 0.0

    @pytest.mark.filterwarnings("error")
    def test_one_constant_class_is_calibrated_without_a_numeric_warning(self):
        found = calibrate_samples(np.full(5, 0.1), sample(0.5, 0.1, 5), key=KEY)
        assert found.sd_correct == 0.0
        assert found.welch_p < 0.01

    @pytest.mark.parametrize(("n_c", "n_i"), [(5, 5), (8, 8), (30, 20)])
    def test_pure_noise_is_seldom_called_usable(self, n_c, n_i):
        rng, called = np.random.default_rng(11), 0
        for _ in range(800):
            correct, incorrect = rng.gamma(2, 1, n_c), rng.gamma(2, 1, n_i)
            called += calibrate_samples(correct, incorrect, key=KEY, settings=BARE).verdict == "usable"
        assert called / 800 <= 0.04


class TestThePapersControl:
    """Llama 3.3 70B: d = -0.191, p = 0.230; its entropy does not tell right from wrong."""

    @pytest.fixture
    def control(self):
        return calibrate_samples(sample(0.5 + 0.191 * 0.2, 0.2, 80), sample(0.5, 0.2, 80), key=KEY)

    def test_has_the_papers_statistics(self, control):
        assert control.cohens_d == pytest.approx(-0.191)
        assert control.welch_p == pytest.approx(0.230, abs=0.002)

    def test_is_unusable(self, control):
        assert control.verdict == "unusable"

    def test_a_gate_on_it_accepts_nothing(self, control):
        gate = EntropyGate(control)
        with pytest.warns(UserWarning, match="unusable"):
            decisions = [gate.decide(draft(bits)) for bits in (0.01, 0.2, 0.5, 3.0)]
        assert {(str(decision.route), decision.reason) for decision in decisions} == {("deeper", "unusable_profile")}

    def test_a_gate_on_it_accepts_when_told_to_use_it_all_the_same(self, control):
        assert EntropyGate(control, on_unusable="use").decide(draft(0.2)).accepted


class TestRefusals:
    def test_no_records_are_refused(self):
        with pytest.raises(CalibrationError, match="no records"):
            calibrate([], key=KEY)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
    def test_values_that_are_no_signal_are_refused(self, value):
        with pytest.raises(CalibrationError, match="not finite, or beyond"):
            calibrate_samples(np.array([0.1, value]), np.array([0.3]), key=KEY)

    def test_a_record_without_the_signal_is_named_by_its_place_and_id(self):
        bad = CalibrationRecord(id="q17", correct=True, signals={"length": 7})
        with pytest.raises(CalibrationError, match=r"record 2 \(q17\): no signal 'mean_entropy' \(there: length\)"):
            calibrate([*records([0.1], [0.2]), bad], key=KEY)

    def test_a_record_without_an_id_is_named_by_its_place(self):
        with pytest.raises(CalibrationError, match=r"^record 0: no signal"):
            calibrate([CalibrationRecord(correct=True)], key=KEY)

    def test_a_mapping_is_refused_with_the_way_to_read_it(self):
        with pytest.raises(CalibrationError, match=r"record 0 is a dict: CalibrationRecord\.model_validate"):
            calibrate([{"correct": True, "signals": {"mean_entropy": 0.1}}], key=KEY)

    def test_too_few_alternatives_for_the_key_are_refused(self):
        bad = CalibrationRecord(id="q1", correct=True, sequence=draft(0.3, top_k=5))
        with pytest.raises(CalibrationError, match=r"record 0 \(q1\): 5 alternatives a position.*top_k=20"):
            calibrate([bad], key=KEY)

    def test_an_unknown_signal_is_refused_with_those_that_there_are(self):
        key = ProfileKey(model="m", task="t", signal="mood")
        with pytest.raises(CalibrationError, match=r"no signal 'mood'; there are .*mean_entropy"):
            calibrate([CalibrationRecord(correct=True, sequence=draft(0.3))], key=key)


class TestRawLogprobs:
    bits = ((True, 0.2), (True, 0.35), (True, 0.5), (False, 0.6), (False, 1.4), (False, 0.45))

    def lines(self, top_k=TOP_K):
        for correct, bits in self.bits:
            raw = draft(bits, top_k=top_k).top_logprobs.tolist()
            yield json.dumps({"correct": correct, "top_logprobs": raw, "token_texts": ["a", " b", " c", "d"]})

    def test_records_with_logprobs_give_the_profile_of_records_with_the_signal(self):
        raw = calibrate(map(CalibrationRecord.model_validate_json, self.lines()), key=KEY)
        values = [(correct, mean_entropy(draft(bits))) for correct, bits in self.bits]
        computed = [CalibrationRecord(correct=correct, signals={"mean_entropy": value}) for correct, value in values]
        assert raw.thresholds == calibrate(computed, key=KEY).thresholds

    def test_more_alternatives_than_the_keys_are_cut_to_the_most_probable(self):
        key = ProfileKey(model="m", task="t", top_k=5)
        found = calibrate(map(CalibrationRecord.model_validate_json, self.lines()), key=key)
        cut = [mean_entropy(draft(bits).truncated(5)) for correct, bits in self.bits if correct]
        assert found.mean_correct == pytest.approx(np.mean(cut))


def cascade(n=300, *, seed=0, deeper=True):
    """Records of two signals: mean_entropy separates, mood does not; a third of the drafts is hopeless."""
    rng = np.random.default_rng(seed)
    for place in range(n):
        kind = rng.choice(["right", "rescued", "hopeless"])
        bits = rng.normal({"right": 1.0, "rescued": 2.0, "hopeless": 4.0}[kind], 0.2)
        outcome = {"deeper_correct": bool(kind != "hopeless"), "deeper_tokens": 300} if deeper else {}
        signals = {"mean_entropy": bits, "mood": rng.normal()}
        yield CalibrationRecord(id=f"q{place}", correct=bool(kind == "right"), tokens=100, signals=signals, **outcome)


@pytest.fixture(scope="module")
def full():
    """With everything there is to ask for."""
    prices = Prices(token=0.001, error=1.0)
    return calibrate(cascade(), key=KEY, alpha=0.1, epsilon=0.08, eta=0.1, prices=prices, seed=5, resamples=60)


class TestEveryMethod:
    def test_all_have_a_threshold_where_the_records_hold_all_outcomes(self, full):
        assert list(full.thresholds) == ["mean", "info", "bayes", "universal", "risk", "noninferior", "cost"]
        assert {name for name, threshold in full.thresholds.items() if threshold.value is None} <= {"universal"}

    def test_those_with_a_guarantee_say_which(self, full):
        statements = {name: full.thresholds[name].guarantee for name in ("mean", "risk", "noninferior", "cost")}
        assert statements["mean"] is None
        assert "at most 10.00% of accepted drafts are wrong" in statements["risk"]
        assert "at most 8 points below always going deeper" in statements["noninferior"]
        assert "costs" in statements["cost"]

    def test_the_value_lies_in_its_interval(self, full):
        for name, threshold in full.thresholds.items():
            if threshold.interval is not None:
                low, high = threshold.interval
                assert low <= threshold.value <= high, name
            assert threshold.found is None or 0 <= threshold.found <= 1

    def test_hopeless_drafts_are_given_up(self, full):
        assert 2.1 < full.abstain.value < 4
        assert "going deeper answers at most 10.00% of these drafts rightly" in full.abstain.guarantee
        assert 2.5 < full.thresholds["cost"].abstain_from < 4

    def test_what_was_asked_for_is_kept(self, full):
        assert (full.settings.alpha, full.settings.epsilon, full.settings.eta, full.settings.seed) == (
            0.1,
            0.08,
            0.1,
            5,
        )
        assert full.settings.prices == Prices(token=0.001, error=1.0)

    def test_the_profile_survives_json(self, full):
        assert CalibrationProfile.model_validate_json(full.model_dump_json()) == full

    def test_the_same_seed_gives_the_same_profile(self, full):
        again = calibrate(
            cascade(), key=KEY, alpha=0.1, epsilon=0.08, eta=0.1, prices=full.settings.prices, seed=5, resamples=60
        )
        assert again.model_copy(update={"created_at": full.created_at}) == full

    def test_without_resamples_there_are_no_intervals(self):
        found = calibrate(cascade(60), key=KEY, resamples=0)
        assert {(threshold.interval, threshold.found) for threshold in found.thresholds.values()} == {(None, None)}


class TestMethodsThatLackSomething:
    def test_say_what(self):
        found = calibrate(cascade(deeper=False), key=KEY, resamples=0)
        assert "needs deeper_correct in every record" in found.thresholds["noninferior"].reason
        assert "needs deeper_correct in every record" in found.abstain.reason
        assert "Prices(error=...)" in found.thresholds["cost"].reason

    def test_few_records_have_none_of_the_guaranteed_ones_and_say_how_many_would_do(self):
        found = calibrate(cascade(20), key=KEY, resamples=0)
        assert found.thresholds["risk"].value is None
        assert "from 20 records" in found.thresholds["risk"].reason
        assert found.thresholds["mean"].value is not None

    def test_a_gate_by_such_a_method_is_refused_with_the_reason(self):
        found = calibrate(cascade(20), key=KEY, resamples=0)
        with pytest.raises(NoThreshold, match="risk finds no threshold"):
            found.threshold("risk")

    @pytest.mark.parametrize("level", ["alpha", "delta", "epsilon", "eta"])
    @pytest.mark.parametrize("value", [0.0, 1.0, -0.1, float("nan")])
    def test_levels_that_are_none_are_refused(self, level, value):
        with pytest.raises(ValidationError, match=level):
            calibrate(cascade(20), key=KEY, **{level: value})


@pytest.fixture(scope="module")
def chosen():
    return calibrate(cascade(120), key=AUTO, resamples=0)


class TestAutomaticChoice:
    def test_the_profile_names_the_signal_that_was_chosen(self, chosen):
        assert (chosen.key.signal, chosen.chosen_signal, chosen.signal) == ("auto", "mean_entropy", "mean_entropy")
        assert {candidate.signal for candidate in chosen.candidates} == {"mean_entropy", "mood"}
        assert chosen.auroc_out_of_fold > 0.9

    def test_its_signal_is_that_of_a_draft(self, chosen):
        assert chosen.measure(draft(1.5)) == pytest.approx(mean_entropy(draft(1.5)))

    def test_may_be_asked_for_beside_the_key(self, chosen):
        again = calibrate(cascade(120), key=KEY, signal="auto", resamples=0)
        assert again.model_copy(update={"created_at": chosen.created_at}) == chosen

    def test_can_be_limited_to_candidates(self):
        found = calibrate(cascade(120), key=AUTO, candidates=["mood"], resamples=0)
        assert (found.signal, found.verdict) == ("mood", "unusable")

    def test_pays_for_having_looked(self, chosen):
        alone = calibrate(cascade(120), key=KEY.model_copy(update={"signal": chosen.signal}), resamples=0)
        assert chosen.auroc_interval == alone.auroc_interval  # of 95 %, as it says
        one, other = (found.thresholds["noninferior"].value for found in (chosen, alone))
        assert other is not None
        assert one is None or one <= other

    def test_a_candidate_that_is_named_twice_is_looked_at_once(self):
        found = calibrate(cascade(60), key=AUTO, candidates=["mean_entropy", "mean_entropy"], resamples=0)
        assert [candidate.signal for candidate in found.candidates] == ["mean_entropy"]

    @pytest.mark.parametrize(("key", "candidates"), [(AUTO, "mean_entropy"), (KEY, ["mean_entropy"])])
    def test_candidates_that_would_mean_nothing_are_refused(self, key, candidates):
        with pytest.raises(CalibrationError, match="candidates are"):
            calibrate(cascade(60), key=key, candidates=candidates)

    def test_a_signal_that_only_later_records_have_is_in_the_table_with_the_reason(self):
        later = [
            record.model_copy(update={"signals": {**record.signals, "late": 1.0}} if place else {})
            for place, record in enumerate(cascade(60))
        ]
        found = calibrate(later, key=AUTO, resamples=0)
        assert {c.signal: c.reason for c in found.candidates}["late"] == "record 0 has no signal 'late'"

    @pytest.mark.parametrize("name", ["auto", "learned"])
    def test_a_column_with_a_name_of_ours_is_refused(self, name):
        with pytest.raises(CalibrationError, match="a meaning of its own"):
            calibrate([CalibrationRecord(correct=True, signals={name: 1.0})], key=AUTO)

    def test_a_chosen_signal_that_no_gate_can_measure_is_noted(self):
        records = [r.model_copy(update={"signals": {"mine": r.signals["mean_entropy"]}}) for r in cascade(60)]
        assert any("mine is known by its values alone" in note for note in calibrate(records, key=AUTO).notes)

    def test_without_any_signal_that_all_records_have_is_refused(self):
        bare = [CalibrationRecord(correct=True), CalibrationRecord(correct=False)]
        with pytest.raises(CalibrationError, match="no signal that all records have"):
            calibrate(bare, key=AUTO)


class TestNotes:
    def test_what_is_odd_about_the_records_is_in_the_profile(self):
        found = calibrate(sorted(cascade(60), key=lambda record: record.correct), key=KEY, resamples=0)
        assert any("stand together" in note for note in found.notes)

    def test_an_id_that_is_there_twice_is_refused(self):
        with pytest.raises(CalibrationError, match="have the same id 'q0'"):
            calibrate([*cascade(20), next(cascade(1))], key=KEY)
