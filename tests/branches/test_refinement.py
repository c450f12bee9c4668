"""Sequential refinement without any framework: which answers are shown, and when it ends."""

import pytest

from tje_middleware.branches import REFINE_INSTRUCTION, Branch, SequentialRefinement


class Conversation:
    """An ask whose answers are given beforehand."""

    decision = None

    def __init__(self, draft: object, *answers: object) -> None:
        self.draft = draft
        self.shown: list[str] = []
        self._answers = iter(answers)

    def again(self, *following: tuple[str, str], **settings: object) -> object:
        (role, previous), instruction = following
        assert (role, settings) == ("assistant", {})
        assert instruction == ("user", REFINE_INSTRUCTION)
        self.shown.append(previous)
        return next(self._answers)

    async def aagain(self, *following: tuple[str, str], **settings: object) -> object:
        return self.again(*following, **settings)

    def text_of(self, answer: object) -> str:
        return answer["text"] if isinstance(answer, dict) else str(answer)


async def refined(refinement: SequentialRefinement, ask: Conversation, *, on_loop: bool) -> object:
    return await refinement.arun(ask) if on_loop else refinement.run(ask)


either_way = pytest.mark.parametrize("on_loop", [False, True])


@either_way
async def test_every_step_is_shown_the_answer_before_it(on_loop: bool) -> None:
    ask = Conversation("a", "b", "c", "d")
    assert await refined(SequentialRefinement(steps=3), ask, on_loop=on_loop) == "d"
    assert ask.shown == ["a", "b", "c"]


@either_way
@pytest.mark.parametrize(
    ("answers", "asked"), [(["a"], 1), (["b", "b"], 2), (["b", " b\n"], 2), (["b", "c", "d", "e"], 4)]
)
async def test_until_repeated_ends_at_the_first_answer_that_comes_again(
    answers: list[str], asked: int, on_loop: bool
) -> None:
    ask = Conversation("a", *answers)
    refinement = SequentialRefinement(steps=4, until_repeated=True)
    assert await refined(refinement, ask, on_loop=on_loop) == answers[-1]
    assert len(ask.shown) == asked


@either_way
async def test_a_fixed_number_of_steps_is_taken_even_when_nothing_changes(on_loop: bool) -> None:
    ask = Conversation("a", "a", "a", "a")
    await refined(SequentialRefinement(steps=3), ask, on_loop=on_loop)
    assert len(ask.shown) == 3


def test_answers_may_be_of_any_kind_that_has_a_text() -> None:
    ask = Conversation({"text": "a"}, {"text": "a!"}, {"text": "a!!"})
    assert SequentialRefinement(steps=2).run(ask) == {"text": "a!!"}
    assert ask.shown == ["a", "a!"]


def test_it_needs_the_draft_and_its_price_includes_it() -> None:
    refinement = SequentialRefinement()
    assert isinstance(refinement, Branch)
    assert (refinement.needs_draft, refinement.includes_draft) == (True, True)


@either_way
async def test_without_a_draft_it_says_so(on_loop: bool) -> None:
    with pytest.raises(ValueError, match="there is none"):
        await refined(SequentialRefinement(), Conversation(None), on_loop=on_loop)


def test_less_than_one_step_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        SequentialRefinement(steps=0)
