"""What a user's function is called with."""

from __future__ import annotations

from functools import partial

import pytest

from tje_middleware.branches.base import parameters_of, wanted_by

OFFERED = {"draft": "42", "decision": "uncertain"}


def of_neither(question): ...
def of_draft(question, draft=None): ...
def of_both(question, *, draft, decision): ...
def of_anything(question, **settings): ...
async def of_decision(question, decision): ...


class Callable:
    def __call__(self, question, draft): ...


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (of_neither, []),
        (of_draft, ["draft"]),
        (of_both, ["draft", "decision"]),
        (of_anything, []),  # it names neither
        (of_decision, ["decision"]),
        (Callable(), ["draft"]),
        (Callable().__call__, ["draft"]),
        (partial(of_both, draft="41"), ["draft", "decision"]),
        (lambda decision: decision, ["decision"]),
        (next, []),  # written in C, and says nothing of its parameters
    ],
)
def test_a_function_is_given_what_it_names_of_what_is_offered(function, wanted):
    assert wanted_by(function, OFFERED) == {name: OFFERED[name] for name in wanted}


def test_a_function_is_given_nothing_that_is_not_offered():
    assert wanted_by(of_both, {"draft": "42"}) == {"draft": "42"}


def test_parameters_are_those_of_the_signature():
    assert list(parameters_of(of_both)) == ["question", "draft", "decision"]
    assert parameters_of(of_anything)["settings"].kind.name == "VAR_KEYWORD"


def test_what_is_no_function_is_refused():
    with pytest.raises(TypeError):
        wanted_by("answer", OFFERED)
