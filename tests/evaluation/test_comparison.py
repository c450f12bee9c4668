"""Policies that were run for real: figures against hand-computed ones."""

import pytest

from tje_middleware.evaluation import Outcome, compare


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


def test_the_same_seed_gives_the_same_interval() -> None:
    runs = [compare({"gated": GATED, "always": ALWAYS}, baseline="always", seed=7) for _ in range(2)]
    assert runs[0] == runs[1]


def test_policies_over_different_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="same questions"):
        compare({"gated": GATED[:3], "always": ALWAYS}, baseline="always")
    with pytest.raises(ValueError, match="at least one"):
        compare({"always": []}, baseline="always")
