"""Intervals against their closed forms and their meaning."""

import numpy as np
import pytest
from scipy import stats

from tje_middleware.evaluation import Resamples, paired_difference, share
from tje_middleware.evaluation.estimates import share_saved


def right(both: int, mine: int, reference: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Two policies' answers, by how many questions only one of them has right."""
    pairs = [(True, True)] * both + [(True, False)] * mine + [(False, True)] * reference + [(False, False)] * neither
    return tuple(np.array(pairs, dtype=bool).T)


def test_two_policies_that_never_differ_may_still_differ_elsewhere() -> None:
    estimate = paired_difference(*right(20, 0, 0, 12))
    z2 = stats.norm.ppf(0.975) ** 2
    assert (estimate.value, estimate.high) == (0, pytest.approx(z2 / (32 + z2)))  # the closed form without discord
    assert estimate.low == pytest.approx(-estimate.high)


def test_exchanging_the_policies_mirrors_the_interval() -> None:
    one, other = paired_difference(*right(43, 1, 4, 51)), paired_difference(*right(43, 4, 1, 51))
    assert (one.low, one.high) == (pytest.approx(-other.high), pytest.approx(-other.low))


@pytest.mark.parametrize("cells", [(0, 9, 0, 0), (0, 0, 9, 0), (1, 0, 0, 0), (0, 1, 1, 0)])
def test_extreme_tables_have_an_interval_around_their_difference(cells: tuple[int, int, int, int]) -> None:
    estimate = paired_difference(*right(*cells))
    assert -1 <= estimate.low <= estimate.value <= estimate.high <= 1
    assert estimate.high - estimate.low > 0.3


@pytest.mark.parametrize(("questions", "mine", "reference"), [(30, 0.05, 0.05), (60, 0.1, 0.02), (96, 0.01, 0.03)])
def test_the_interval_of_a_paired_difference_covers_the_truth(questions: int, mine: float, reference: float) -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(1_000):
        estimate = paired_difference(
            *right(*rng.multinomial(questions, [0.3, mine, reference, 0.7 - mine - reference]))
        )
        covered += estimate.low <= mine - reference <= estimate.high
    assert covered >= 920


def test_a_share_has_wilsons_interval() -> None:
    estimate = share(7, 20)
    expected = stats.binomtest(7, 20).proportion_ci(method="wilson")
    assert (estimate.value, estimate.low, estimate.high) == (0.35, expected.low, expected.high)


@pytest.mark.parametrize("count", [0, 20])
def test_a_share_of_none_or_all_is_not_certain(count: int) -> None:
    estimate = share(count, 20)
    assert estimate.high - estimate.low > 0.1


def test_the_paired_interval_covers_the_truth_and_is_narrower_than_an_unpaired_one() -> None:
    rng = np.random.default_rng(1)
    covered, paired_width, unpaired_width = 0, 0.0, 0.0
    for run in range(200):
        hard = rng.normal(100, 30, 60)  # what makes a question long is common to both policies
        mine, reference = hard + rng.normal(-5, 5, 60), hard + rng.normal(0, 5, 60)
        estimate = Resamples(60, seed=run, resamples=499).interval(np.subtract, mine, reference)
        covered += estimate.low <= -5 <= estimate.high
        paired_width += estimate.high - estimate.low
        unpaired_width += 2 * 1.96 * np.sqrt(mine.var() / 60 + reference.var() / 60)
    assert covered >= 180
    assert paired_width < unpaired_width / 3


def test_the_bootstrap_agrees_with_scipys() -> None:
    rng = np.random.default_rng(4)
    mine, reference = rng.gamma(3, 50, 80), rng.gamma(3, 80, 80)
    found = Resamples(80, seed=1).interval(share_saved, mine, reference)
    expected = stats.bootstrap(
        (mine, reference),
        lambda a, b, axis: 1 - a.sum(axis) / b.sum(axis),
        paired=True,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert (found.low, found.high) == (pytest.approx(expected.low, abs=0.01), pytest.approx(expected.high, abs=0.01))


def test_equal_columns_differ_by_exactly_nothing() -> None:
    column = np.array([3.0, 1.0, 4.0])
    estimate = Resamples(3).interval(share_saved, column, column)
    assert (estimate.low, estimate.value, estimate.high) == (0, 0, 0)


def test_resamples_in_which_a_figure_is_not_defined_are_left_out() -> None:
    mostly_nothing = np.array([0.0, 0.0, 0.0, 8.0])
    estimate = Resamples(4).interval(share_saved, mostly_nothing, mostly_nothing)
    assert (estimate.low, estimate.high) == (0, 0)


def test_a_resample_has_as_many_records_as_there_are() -> None:
    counts = Resamples(50, resamples=20).counts
    assert counts.shape == (20, 50)
    assert set(counts.sum(axis=1)) == {50}


def test_many_records_are_resampled_less_often() -> None:
    assert len(Resamples(100).counts) == 9_999
    assert len(Resamples(100_000).counts) == 400
