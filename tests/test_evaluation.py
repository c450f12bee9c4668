"""Comparing policies: figures against hand-computed ones, intervals against their meaning."""

import numpy as np
import pytest
from scipy import stats

from tje_middleware.evaluation import Outcome, compare, paired_interval, share


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
    assert (figures.accuracy_gain.low, figures.accuracy_gain.high) == (0, 0)


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
