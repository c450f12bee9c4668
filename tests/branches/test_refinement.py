"""Sequential refinement without any framework: which answers are shown, and when it ends."""

import pytest

from tje_middleware.branches.refinement import SequentialRefinement


def recorder(*answers: str) -> tuple[list[str], object]:
    shown: list[str] = []
    rest = iter(answers)

    def ask(previous: str) -> str:
        shown.append(previous)
        return next(rest)

    return shown, ask


def test_every_step_is_shown_the_answer_before_it() -> None:
    shown, ask = recorder("b", "c", "d")
    assert SequentialRefinement(steps=3).run(ask, "a") == "d"
    assert shown == ["a", "b", "c"]


async def test_the_asynchronous_twin_is_shown_the_same() -> None:
    shown, ask = recorder("b", "c", "d")

    async def asynchronously(previous: str) -> str:
        return ask(previous)

    assert await SequentialRefinement(steps=3).arun(asynchronously, "a") == "d"
    assert shown == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("answers", "asked"), [(["a"], 1), (["b", "b"], 2), (["b", " b\n"], 2), (["b", "c", "d", "e"], 4)]
)
async def test_until_repeated_ends_at_the_first_answer_that_comes_again(answers: list[str], asked: int) -> None:
    refinement = SequentialRefinement(steps=4, until_repeated=True)
    shown, ask = recorder(*answers)
    assert refinement.run(ask, "a") == answers[-1]
    assert len(shown) == asked

    shown, ask = recorder(*answers)

    async def asynchronously(previous: str) -> str:
        return ask(previous)

    assert await refinement.arun(asynchronously, "a") == answers[-1]
    assert len(shown) == asked


def test_a_fixed_number_of_steps_is_taken_even_when_nothing_changes() -> None:
    shown, ask = recorder("a", "a", "a")
    SequentialRefinement(steps=3).run(ask, "a")
    assert len(shown) == 3


def test_answers_may_be_of_any_kind_that_has_a_text() -> None:
    refined = SequentialRefinement(steps=2).run(lambda previous: {"text": previous + "!"}, {"text": "a"}, text=_text)
    assert refined == {"text": "a!!"}


def _text(answer: dict) -> str:
    return answer["text"]


def test_less_than_one_step_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        SequentialRefinement(steps=0)
