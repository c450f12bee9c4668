"""The Protocols of a deeper branch and its question, and checks of a user's function that is used as a branch."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from ..gate.decision import GateDecision

Answer = TypeVar("Answer")
Ask_contra = TypeVar("Ask_contra", contravariant=True)
Answer_co = TypeVar("Answer_co", covariant=True)

#: One message after the question: its role, and its text.
Message = tuple[Literal["assistant", "user"], str]
#: The arguments that a deeper function may name beside the question.
OFFERED = ("draft", "decision")

_POSITIONAL = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Ask(Protocol[Answer]):
    """A question whose draft was not accepted, and the way to ask it again. Each integration supplies its own."""

    @property
    def draft(self) -> Answer | None:
        """The draft, as the framework represents it; None where it was skipped, or stopped before its end."""

    @property
    def decision(self) -> GateDecision:
        """The gate's decision about the draft."""

    def again(self, *following: Message, **settings: object) -> Answer:
        """Ask the question once more, as a conversation of its own.

        Args:
            following: Messages after the question, such as the draft and an instruction to check it.
            **settings: Sampling settings of this call, such as ``temperature``; they replace the question's.
        """

    async def aagain(self, *following: Message, **settings: object) -> Answer:
        """The same on the event loop."""

    def text_of(self, answer: Answer, /) -> str:
        """The text of an answer."""


@runtime_checkable
class Branch(Protocol[Ask_contra, Answer_co]):
    """A deeper branch: it answers again, with more effort, where a draft is not accepted."""

    @property
    def needs_draft(self) -> bool:
        """Whether the branch cannot answer without the draft; if it can, the draft may be skipped or stopped."""

    @property
    def includes_draft(self) -> bool:
        """Whether always going deeper, which savings are counted against, costs the draft as well.

        That is so for a refinement, which starts from the draft.
        """

    def run(self, ask: Ask_contra) -> Answer_co:
        """Answer the question."""

    async def arun(self, ask: Ask_contra) -> Answer_co:
        """The same on the event loop."""


@runtime_checkable
class StreamingBranch(Branch[Ask_contra, Answer_co], Protocol[Ask_contra, Answer_co]):
    """A branch that can return its answer in chunks, while it is written."""

    def chunks(self, ask: Ask_contra) -> Iterator[Answer_co]:
        """Answer the question in chunks."""

    def achunks(self, ask: Ask_contra) -> AsyncIterator[Answer_co]:
        """The same on the event loop."""


def require_callable(function: Callable[..., Any], *, given: str, offered: Collection[str] = OFFERED) -> None:
    """Refuse a deeper function that could not be called, when the gate is built and not when a draft is rejected.

    Args:
        function: The user's function.
        given: The first argument that it gets, in words, for the error.
        offered: Names of further arguments that it gets, where it names them.

    Raises:
        TypeError: it takes no argument, or requires one that it does not get.

    Example:
        >>> require_callable(lambda question, draft: draft, given="the question")
        >>> def answer(question, style): ...
        >>> require_callable(answer, given="the question")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        TypeError: the deeper branch answer requires 'style', which it is not given: ...
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:  # written in C, without a signature
        return
    name = getattr(function, "__name__", type(function).__name__)
    if not any(each.kind in _POSITIONAL for each in parameters):
        raise TypeError(f"the deeper branch {name} takes no argument: it is given {given}")
    first = next(each for each in parameters if each.kind in _POSITIONAL)
    for each in parameters:
        if each is first or each.kind in _VARIADIC or each.default is not inspect.Parameter.empty:
            continue
        if each.name not in offered or each.kind is inspect.Parameter.POSITIONAL_ONLY:
            raise TypeError(
                f"the deeper branch {name} requires {each.name!r}, which it is not given: beside {given} it may name "
                f"{', '.join(offered)}; give {each.name!r} a default, or bind it with functools.partial"
            )


def needs_draft(function: Callable[..., Any]) -> bool:
    """Whether a user's function cannot be called without the draft: it names ``draft`` without a default.

    Example:
        >>> needs_draft(lambda question, draft: draft), needs_draft(lambda question, draft=None: question)
        (True, False)
    """
    draft = parameters_of(function).get("draft")
    return draft is not None and draft.default is inspect.Parameter.empty


def wanted_by(function: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """The offered arguments that the function names.

    Example:
        >>> def answer(question, *, decision): ...
        >>> wanted_by(answer, {"draft": "42", "decision": "uncertain"})
        {'decision': 'uncertain'}
    """
    named = parameters_of(function)
    return {name: value for name, value in offered.items() if name in named}


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """A function's parameters by name; empty where it is written in C without a signature."""
    try:
        return inspect.signature(function).parameters
    except ValueError:
        return {}
