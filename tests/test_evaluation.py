"""Comparing policies: figures against hand-computed ones, intervals against their meaning."""

import numpy as np
import pytest
from scipy import stats

from tje_middleware.evaluation import Outcome, compare, paired_difference, paired_interval, share


def outcomes(correct: list[bool], written: list[int], read: int = 10, accepted: bool = False) -> list[Outcome]:
    return [Outcome(c, w, read, accepted) for c, w in zip(correct, written, strict=True)]


ALWAYS = outcomes([True, False, True, True], [40, 40, 40, 80])
GATED = outcomes([True, False, True, False], [10, 10, 40, 40], read=5, accepted=True)


def test_the_figures_are_those_computed_by_hand() -> None:
    figures = compare({"gated": GATED, "always": ALWAYS}, baseline="always")["gated"]
    assert figures.questions == 4
    assert figures.accuracy.value == 0.5
    assert figures.accuracy_gain.value == -0.25
    assert figures.output_tokens == 100
    assert figures.input_tokens == 20
    assert figures.saved.value == 0.5
    assert figures.saved_all.value == pytest.approx(1 - 120 / 240)
    assert figures.accepted.value == 1.0


def test_the_baseline_compared_with_itself_differs_by_exactly_nothing() -> None:
    figures = compare({"always": ALWAYS}, baseline="always")["always"]
    assert (figures.saved.low, figures.saved.value, figures.saved.high) == (0, 0, 0)
    assert figures.accuracy_gain.value == 0


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
        estimate = paired_interval(lambda a, b: a.mean(-1) - b.mean(-1), mine, reference, seed=run, resamples=499)
        covered += estimate.low <= -5 <= estimate.high
        paired_width += estimate.high - estimate.low
        unpaired_width += 2 * 1.96 * np.sqrt(mine.var() / 60 + reference.var() / 60)
    assert covered >= 180
    assert paired_width < unpaired_width / 3


def test_the_same_seed_gives_the_same_interval() -> None:
    runs = [compare({"gated": GATED, "always": ALWAYS}, baseline="always", seed=7) for _ in range(2)]
    assert runs[0] == runs[1]


def test_policies_over_different_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="same questions"):
        compare({"gated": GATED[:3], "always": ALWAYS}, baseline="always")
    with pytest.raises(ValueError, match="at least one"):
        compare({"always": []}, baseline="always")
