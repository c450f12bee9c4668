"""Bootstrap intervals: what they cover, how often a threshold was found, and many records."""

from __future__ import annotations

import numpy as np
import pytest

from tje_middleware import NoThreshold
from tje_middleware.calibration import calibration
from tje_middleware.calibration.calibration import spreads
from tje_middleware.calibration.settings import CalibrationSettings
from tje_middleware.calibration.thresholds.methods import METHODS
from tje_middleware.calibration.thresholds.rule import Drafts, Found

MEAN = {"mean": METHODS["mean"].rule}


def drafts(n, rng):
    correct = rng.random(n) < 0.6
    return Drafts(rng.normal(np.where(correct, 1.0, 2.0), 0.5), correct)


def interval(sample, **options):
    value = MEAN["mean"](sample, CalibrationSettings()).value
    return spreads(sample, MEAN, {"mean": value}, CalibrationSettings(**options))["mean"].interval


def test_intervals_of_the_mean_cover_the_truth_about_95_times_in_a_hundred():
    rng, covered = np.random.default_rng(0), 0
    for seed in range(300):
        low, high = interval(drafts(80, rng), seed=seed, resamples=200)
        covered += low <= 1.0 <= high
    assert 0.90 <= covered / 300 <= 0.985


def test_an_interval_is_as_wide_as_the_standard_error_says():
    sample = drafts(2000, np.random.default_rng(1))
    low, high = interval(sample)
    right = sample.signal[sample.correct]
    assert high - low == pytest.approx(2 * 1.96 * right.std(ddof=1) / np.sqrt(len(right)), rel=0.15)


def test_fewer_are_drawn_from_very_many_and_the_interval_is_as_narrow_all_the_same(monkeypatch):
    sample = drafts(4000, np.random.default_rng(2))
    all_drawn = interval(sample)
    monkeypatch.setattr(calibration, "_MOST_RECORDS", 250)
    few_drawn = interval(sample)
    assert few_drawn[1] - few_drawn[0] == pytest.approx(all_drawn[1] - all_drawn[0], rel=0.2)
    assert few_drawn == pytest.approx(all_drawn, abs=0.01)


def test_the_share_of_resamples_with_a_threshold_is_told():
    # One wrong draft among ten: a resample lacks it with probability 0.9^10 = 0.349.
    sample = Drafts(np.arange(10.0), np.arange(10) < 9)

    def of_wrong_ones(drawn, _):
        if drawn.correct.all():
            raise NoThreshold("none is wrong")
        return Found(float(drawn.signal[~drawn.correct].mean()))

    found = spreads(sample, {"m": of_wrong_ones}, {"m": 9.0}, CalibrationSettings(resamples=2000))["m"]
    assert found.found == pytest.approx(1 - 0.9**10, abs=0.04)
    assert found.interval == (9.0, 9.0)


def test_a_threshold_that_hardly_any_resample_has_gets_no_interval():
    def never(drawn, _):
        raise NoThreshold("never")

    found = spreads(Drafts(np.arange(5.0), np.ones(5, bool)), {"m": never}, {"m": 1.0}, CalibrationSettings())["m"]
    assert (found.interval, found.found) == (None, 0.0)


def test_the_same_seed_gives_the_same_interval_and_another_another():
    sample = drafts(50, np.random.default_rng(3))
    assert interval(sample, seed=4) == interval(sample, seed=4)
    assert interval(sample, seed=4) != interval(sample, seed=5)


def test_the_outcomes_of_a_record_stay_together():
    signal = np.arange(40.0)
    sample = Drafts(signal, signal % 2 == 0, signal % 3 == 0, signal * 10)

    def check(drawn, _):
        assert (drawn.correct == (drawn.signal % 2 == 0)).all()
        assert (drawn.deeper_correct == (drawn.signal % 3 == 0)).all()
        assert (drawn.deeper_tokens == drawn.signal * 10).all()
        return Found(0.0)

    spreads(sample, {"m": check}, {"m": 0.0}, CalibrationSettings(resamples=20))
