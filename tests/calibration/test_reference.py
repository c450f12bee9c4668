"""The signal's distribution over the records: what is kept of it, and what it tells."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.samples import KEY, profile
from tje_middleware import CalibrationProfile, CalibrationRecord, ProfileKey, calibrate
from tje_middleware.calibration.calibration import calibrate_observations
from tje_middleware.calibration.reference import (
    MOST_VALUES,
    ReferenceDistribution,
    fingerprint,
    reference_of,
    rounded,
)
from tje_middleware.calibration.settings import CalibrationSettings
from tje_middleware.records.columns import Observations

values = st.floats(-1e50, 1e50, allow_subnormal=False)
counts = st.integers(0, 12).map(float)
BARE = CalibrationSettings(resamples=0)


class TestWhatIsKept:
    @given(st.lists(st.one_of(values, counts), min_size=1, max_size=60))
    def test_all_values_with_their_ranks_and_ties_where_they_are_few(self, signal):
        found = reference_of(np.array(signal))
        kept = [rounded(value) for value in signal]
        assert [rounded(value) for value in found.values] == sorted({*kept})
        assert found.ranks == tuple(sum(other <= rounded(value) for other in kept) for value in found.values)
        assert found.tied == tuple(kept.count(rounded(value)) for value in found.values)

    @pytest.mark.parametrize("signal", [np.random.default_rng(0).gamma(2, 0.2, 30_000), np.arange(90_000) // 3])
    def test_of_many_distinct_ones_512_evenly_over_the_ranks_with_the_ends(self, signal):
        found = reference_of(np.asarray(signal, dtype=np.float64))
        assert len(found.values) == MOST_VALUES
        assert (found.values[0], found.values[-1]) == pytest.approx((signal.min(), signal.max()))
        assert max(np.diff(found.ranks)) < 1.1 * len(signal) / MOST_VALUES
        kept = np.asarray(signal, dtype=np.float32)
        assert found.ranks == tuple((kept <= np.float32(value)).sum() for value in found.values)
        assert found.tied == tuple((kept == np.float32(value)).sum() for value in found.values)

    def test_little_enough_to_travel_with_the_profile(self):
        rng = np.random.default_rng(0)
        found = reference_of(rng.normal(size=100_000), deeper_tokens=rng.poisson(600, 100_000).astype(float))
        assert len(found.model_dump_json()) < 20_000

    @given(st.lists(st.one_of(values, counts), min_size=1, max_size=40))
    def test_it_comes_back_from_json_as_it_went(self, signal):
        made = reference_of(np.array(signal), tokens=np.ones(len(signal)), deeper_tokens=np.full(len(signal), 7.0))
        assert ReferenceDistribution.model_validate_json(made.model_dump_json()) == made

    @given(values, values)
    def test_rounding_keeps_the_order_and_is_done_once(self, one, other):
        low, high = sorted([one, other])
        assert rounded(low) <= rounded(high)
        assert rounded(rounded(one)) == rounded(one)


class TestExpectedDeeperTokens:
    tokens = st.one_of(st.just(float("nan")), st.integers(0, 5_000).map(float))

    @given(st.lists(st.tuples(counts, tokens), min_size=1, max_size=60, unique_by=lambda pair: pair[0]), counts)
    def test_are_the_mean_over_the_accepted_records_that_tell_else_over_all_that_tell(self, pairs, threshold):
        signal, deeper = map(np.array, zip(*pairs, strict=True))
        told = ~np.isnan(deeper)
        chosen = told & (signal <= threshold)
        expected = deeper[chosen if chosen.any() else told].mean() if told.any() else None
        found = reference_of(signal, deeper_tokens=deeper).expected_deeper_tokens(threshold)
        assert found == (None if expected is None else pytest.approx(expected))

    def test_count_every_record_among_equals(self):
        found = reference_of(np.array([1.0, 1.0, 1.0, 2.0]), deeper_tokens=np.array([10.0, 20.0, 30.0, 100.0]))
        assert found.expected_deeper_tokens(1.0) == 20
        assert found.expected_deeper_tokens(2.0) == 40

    def test_count_every_record_where_values_were_thinned_out(self):
        rng = np.random.default_rng(1)
        signal = rng.gamma(2, 0.2, 20_000)
        deeper = np.round(300 + 500 * signal + rng.normal(0, 30, 20_000))
        found = reference_of(signal, deeper_tokens=deeper)
        for threshold in (0.1, 0.4, 2.0):
            assert found.expected_deeper_tokens(threshold) == pytest.approx(
                deeper[signal <= threshold].mean(), rel=5e-3
            )

    def test_are_unknown_where_no_record_tells(self):
        assert reference_of(np.array([1.0, 2.0])).expected_deeper_tokens(1.5) is None
        assert profile().model_copy(update={"reference": None}).expected_deeper_tokens(0.5) is None

    def test_a_record_at_the_threshold_is_accepted_whatever_rounding_made_of_it(self):
        signal = np.array([1 / 3, 2 / 3])
        found = reference_of(signal, deeper_tokens=np.array([10.0, 30.0]))
        assert found.expected_deeper_tokens(1 / 3) == 10
        assert found.share_up_to(1 / 3) == 0.5
        assert found.share_up_to(0.3) == 0.0


class TestInAProfile:
    def records(self, n=30):
        for place in range(n):
            bits = {"mean_entropy": 0.1 + place / 100}
            yield CalibrationRecord(
                correct=place % 3 > 0,
                signals=bits,
                tokens=100 + place,
                deeper_correct=True,
                deeper_tokens=400 + place,
            )

    def test_is_that_of_all_records(self):
        found = calibrate(self.records(), key=KEY, resamples=0)
        assert (found.reference.n, len(found.reference.values)) == (30, 30)
        assert found.reference.draft_tokens == 114.5
        assert found.expected_deeper_tokens(0.105) == 400
        assert found.expected_deeper_tokens(9.0) == 414.5

    def test_of_a_learned_signal_it_is_of_the_records_that_it_was_not_learned_from(self):
        rng = np.random.default_rng(3)
        correct = np.arange(400) % 2 == 0
        columns = {name: rng.normal(size=400) + 0.9 * ~correct for name in ("a", "b", "c")}
        key = ProfileKey(model="m", task="t", signal="auto")
        found = calibrate_observations(Observations(correct, columns), key=key, settings=BARE)
        assert found.learned is not None
        assert found.reference.n == found.n_correct + found.n_incorrect < 400
        scores = {rounded(score) for score in found.learned.of_columns(columns).tolist()}
        assert {rounded(value) for value in found.reference.values} <= scores

    @pytest.mark.parametrize("version", [1, 2])
    def test_a_profile_of_an_earlier_release_is_read_and_has_none(self, version):
        earlier = {**profile().model_dump(mode="json"), "schema_version": version}
        del earlier["reference"], earlier["records_fingerprint"]
        found = CalibrationProfile.model_validate_json(json.dumps(earlier))
        assert (found.reference, found.records_fingerprint, found.schema_version) == (None, None, version)


class TestFingerprint:
    signal, correct = np.array([0.1, 0.2, 0.2, 0.4]), np.array([True, False, True, False])

    @given(st.permutations(range(4)))
    def test_is_the_same_in_any_order(self, order):
        tokens = np.array([4.0, 3.0, 2.0, 1.0])
        shuffled = fingerprint(self.signal[order], self.correct[order], tokens[order])
        assert shuffled == fingerprint(self.signal, self.correct, tokens)

    def test_is_another_one_for_other_records(self):
        one = fingerprint(self.signal, self.correct, None)
        others = [
            fingerprint(np.nextafter(self.signal, 1), self.correct, None),
            fingerprint(self.signal, ~self.correct, None),
            fingerprint(self.signal[1:], self.correct[1:], None),
            fingerprint(self.signal, self.correct, np.zeros(4)),
            # The same labels and values, otherwise put together.
            fingerprint(self.signal, np.array([False, True, True, False]), None),
        ]
        assert len({one, *others}) == 1 + len(others)

    def test_tells_labels_apart_that_order_nothing(self):
        right, wrong = (fingerprint(self.signal, np.full(4, label)) for label in (True, False))
        assert right != wrong

    def test_is_a_sha_256_and_takes_no_zero_for_another(self):
        minus, plus = (fingerprint(np.array([zero]), np.array([True])) for zero in (-0.0, 0.0))
        assert minus == plus
        assert len(bytes.fromhex(plus)) == 32

    def test_stands_in_the_profile_and_survives_another_order_of_the_records(self):
        records = list(TestInAProfile().records())
        one, other = (calibrate(some, key=KEY, resamples=0) for some in (records, records[::-1]))
        assert one.records_fingerprint == other.records_fingerprint
        assert one.records_fingerprint != calibrate(records[1:], key=KEY, resamples=0).records_fingerprint


class TestWhatIsRefused:
    good = reference_of(np.array([1.0, 2.0, 2.0, 3.0]), deeper_tokens=np.ones(4)).model_dump(mode="json")

    def test_the_good_one_is_read(self):
        assert ReferenceDistribution.model_validate(self.good).tied == (1, 2, 1)

    @pytest.mark.parametrize(
        "wrong",
        [
            {"values": [1.0, 3.0, 2.0]},
            {"values": [1.0, 1.0 + 1e-9, 3.0]},  # one and the same, as kept
            {"values": [1.0, 2.0]},
            {"values": [], "ranks": [], "deeper_tokens": None},
            {"values": [1.0, 2.0, float("nan")]},
            {"ranks": [1, 3, 3]},
            {"ranks": [1, 3, 5]},
            {"ranks": [0, 3, 4]},
            {"ties": [1, 3, 1]},
            {"ranks": [2, 4, 5], "n": 5, "ties": [1, 2, 1]},  # a record below the first value
            {"ties": [1]},
            {"deeper_tokens": [1.0]},
            {"deeper_tokens": [1.0, -1.0, 1.0]},
            {"n": 10**13},
            {"draft_tokens": float("inf")},
            {"surprise": 1},
            {"values": list(range(513)), "ranks": list(range(1, 514)), "n": 513, "deeper_tokens": None},
        ],
    )
    def test_what_does_not_fit_together_is_not(self, wrong):
        with pytest.raises(ValidationError):
            ReferenceDistribution.model_validate({**self.good, **wrong})


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 2_000), st.integers(0, 5))
def test_the_share_of_records_up_to_a_threshold_is_off_by_a_512th_at_most(n, seed):
    rng = np.random.default_rng(seed)
    signal, threshold = rng.normal(size=n), rng.normal()
    assert abs(reference_of(signal).share_up_to(threshold) - (signal <= threshold).mean()) <= 1.5 / MOST_VALUES
