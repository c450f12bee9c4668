"""The newest drafts beside the reference: distances as scipy and the textbook have them."""

from __future__ import annotations

import subprocess
import sys
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from tje_middleware.calibration.reference import reference_of, rounded
from tje_middleware.gate.drift.betting import Bins
from tje_middleware.gate.drift.monitor import Window

columns = st.lists(
    st.one_of(st.floats(-100, 100, allow_subnormal=False), st.integers(0, 5).map(float)), min_size=1, max_size=50
).map(lambda column: np.array(column, dtype=np.float32).astype(float))


def window_of(signal, live, size=200, **censored):
    bins = Bins(reference_of(np.asarray(signal)), **censored)
    window = Window(bins, size, **censored)
    for value in live:
        kept = rounded(float(value))
        window.see(kept, bins.place(kept))
    return window


@settings(deadline=None)
@given(columns, columns)
def test_the_distance_is_that_of_kolmogorov_and_smirnov(signal, live):
    distance, p_value = window_of(signal, live).ks()
    assert distance == pytest.approx(stats.ks_2samp(signal, live).statistic)
    exact = stats.kstwo.sf(distance, max(1, round(len(signal) * len(live) / (len(signal) + len(live)))))
    # Never too small, by a seventh too large at most, and where it is small by next to nothing.
    assert exact - 1e-6 <= p_value <= 1.15 * exact + 1e-6
    assert p_value > 0.1 or p_value == pytest.approx(exact, rel=0.01, abs=1e-12)


@pytest.mark.parametrize("n", [2, 30, 400, 20_000])
def test_the_p_value_is_twice_the_one_sided_one_however_small(n):
    for live in (n // 2, n):
        signal = np.arange(float(n))
        window = window_of(signal, signal[n - live :] + n / 4, size=n)
        distance, p_value = window.ks()
        size = round(n * live / (n + live))
        assert p_value == pytest.approx(min(1.0, 2 * special.smirnov(size, distance)), rel=1e-8, abs=1e-300)


def test_of_many_records_the_distance_is_off_by_a_512th_at_most():
    rng = np.random.default_rng(0)
    signal, live = rng.normal(size=20_000), rng.normal(0.3, 1, 200)
    distance, _ = window_of(signal, live).ks()
    assert distance == pytest.approx(stats.ks_2samp(signal, live).statistic, abs=1.5 / 512)


def test_of_censored_drafts_the_distance_is_that_of_what_is_known():
    rng = np.random.default_rng(1)
    signal, live = rng.random(300), rng.random(150) ** 2
    stopped = np.where(live > 0.5, 0.5 + rng.random(150), live)
    distance, _ = window_of(signal, stopped, censored_above=0.5).ks()
    known = [np.where(column > 0.5, 1.0, column) for column in (signal, live)]
    assert distance == pytest.approx(stats.ks_2samp(*known).statistic)
    assert distance == window_of(signal, live, censored_above=0.5).ks()[0]


def test_psi_is_the_sum_over_the_bins_less_what_chance_gives():
    signal = np.arange(1.0, 24.0)  # 24 gaps, twelve bins of two
    window = window_of(signal, [100.0] * 30)
    live = np.array([0.5] * 11 + [30.5]) / 36
    plain = sum((p - 1 / 12) * log(p * 12) for p in live)
    assert window.psi() == pytest.approx(plain - 11 * (1 / 23 + 1 / 30))


def test_psi_of_one_distribution_is_nothing_much():
    rng = np.random.default_rng(2)
    found = [window_of(rng.normal(size=500), rng.normal(size=200)).psi() for _ in range(100)]
    assert np.mean(found) < 0.02
    assert np.quantile(found, 0.95) < 0.1


def test_psi_of_half_a_standard_deviation_is_about_a_quarter():
    rng = np.random.default_rng(3)
    found = [window_of(rng.normal(size=500), rng.normal(0.5, 1, 200)).psi() for _ in range(100)]
    assert np.mean(found) == pytest.approx(0.25, abs=0.05)


def test_only_the_newest_values_count():
    rng = np.random.default_rng(4)
    signal, newest = rng.normal(size=100), rng.normal(size=50)
    window = window_of(signal, [*(newest + 9), *newest], size=50)
    fresh = window_of(signal, newest, size=50)
    assert len(window) == 50
    assert (window.ks(), window.psi(), window.share_up_to(0.0)) == (fresh.ks(), fresh.psi(), fresh.share_up_to(0.0))


def test_no_values_are_no_change():
    window = window_of([1.0, 2.0], [])
    assert (window.ks(), window.psi()) == ((0.0, 1.0), 0.0)


def test_an_alarm_waits_for_no_import_of_scipy():
    code = (
        "import sys, numpy as np\n"
        "from tje_middleware.gate.drift import DriftMonitor\n"
        "from tje_middleware.calibration.reference import reference_of\n"
        "monitor = DriftMonitor(reference_of(np.linspace(0.1, 1.0, 200)))\n"
        "assert any([monitor.observe(value) for value in np.linspace(0.9, 1.3, 100)])\n"
        "assert not [name for name in sys.modules if name.startswith('scipy')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
