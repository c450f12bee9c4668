"""The demo's questions: well formed, a fair mix, and graded as a person would."""

from collections import Counter

import pytest

from tje_middleware.demo import Question, is_right, load_questions

QUESTIONS = load_questions()


def test_there_are_enough_of_every_kind_and_level() -> None:
    counts = Counter((question.kind, question.level) for question in QUESTIONS)
    assert set(counts.values()) == {40}
    assert len(counts) == 6


def test_no_question_is_asked_twice() -> None:
    assert len({question.question.lower() for question in QUESTIONS}) == len(QUESTIONS)
    assert len({question.id for question in QUESTIONS}) == len(QUESTIONS)


def test_no_question_gives_its_answer_away() -> None:
    facts = [question for question in QUESTIONS if question.kind == "fact"]
    assert [question.id for question in facts if is_right(question, question.question)] == []


def test_any_first_part_is_a_mix() -> None:
    for part in (40, 72, 168):
        facts = sum(question.kind == "fact" for question in QUESTIONS[:part])
        assert 0.35 <= facts / part <= 0.65


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.id)
def test_every_accepted_answer_is_graded_right(question: Question) -> None:
    assert all(is_right(question, f"The answer is {answer}.") for answer in question.answers)


@pytest.mark.parametrize("question", [each for each in QUESTIONS if each.question.startswith("What is ")][:200])
def test_sums_are_right(question: Question) -> None:
    expression = question.question.removeprefix("What is ").removesuffix("?").replace("times", "*")
    if question.kind == "arithmetic" and all(character in "0123456789+-* " for character in expression):
        assert float(question.answers[0]) == eval(expression)


TWELVE = Question(id="q", kind="arithmetic", level=1, question="What is 20 - 8?", answers=("12", "twelve"))
PARIS = Question(id="q", kind="fact", level=1, question="What is the capital of France?", answers=("Paris",))


@pytest.mark.parametrize(
    "text", ["12", "20 - 8 = 12", "20-12", "Twelve.", "12.0", "The answer is 12.", "8, 9, 10, 12", "(3) - 12"]
)
def test_right_numbers(text: str) -> None:
    assert is_right(TWELVE, text)


@pytest.mark.parametrize("text", ["-12", "= -12", "1,012", "12 or 13", "twelve, 13", "112", "no idea", ""])
def test_wrong_numbers(text: str) -> None:
    assert not is_right(TWELVE, text)


@pytest.mark.parametrize("text", ["Paris", "It is paris.", "(Paris)"])
def test_right_facts(text: str) -> None:
    assert is_right(PARIS, text)


@pytest.mark.parametrize("text", ["Parish", "comparison", "Lyon", ""])
def test_wrong_facts(text: str) -> None:
    assert not is_right(PARIS, text)
