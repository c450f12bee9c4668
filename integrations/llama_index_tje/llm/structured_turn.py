"""Structured output from a gated LLM: each LLM predicts in its own way, and the draft's calls are listened to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager
from typing import Any

from tje_middleware import GateDecision
from tje_middleware.calls.streams import aclosed, closed

from ..asking.requests import LLMCall
from ..asking.streams import astreamed, streamed
from ..branches import LLMAsk, achunks_of, chunks_of
from ..capture.captured_turn import CapturedTurn
from .llm_turn import LLMRules

_NO_LOGPROBS = (
    "what the object was read from came without logprobs; many providers give none for calls of tools: where the LLM "
    "has a schema of its own for objects, let it use that (for OpenAILike: should_use_structured_outputs=True)"
)


class Unparsed:
    """In the place of an object: the error that says why the draft is none."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __str__(self) -> str:
        return f"no valid object: {self.error}"


class StructuredTurn(CapturedTurn[Any]):
    """One structured prediction. The object has no place for the decision, which is announced.

    A draft that is not what the class says is judged all the same; where it is the answer, its error is raised, as it
    would be without the gate.

    Args:
        rules: What is the same for every question to the LLM.
        question: The prediction.
    """

    def __init__(self, rules: LLMRules, question: LLMCall) -> None:
        super().__init__(rules.delivery, "worst")
        self._rules = rules
        self._question = question
        self._draft = rules.drafted(question)

    def draft(self) -> Any:
        """Predict."""
        with self._as_draft():
            try:
                return self._draft.whole()
            except (ValueError, TypeError) as error:
                return self._unparsed(error)

    async def adraft(self) -> Any:
        """The same on the event loop."""
        with self._as_draft():
            try:
                return await self._draft.awhole()
            except (ValueError, TypeError) as error:
                return self._unparsed(error)

    def draft_chunks(self) -> Iterator[Any]:
        """Predict an object that grows."""
        return _begun_in(self._as_draft(), streamed(self._draft, self._rules.asked.capabilities))

    def adraft_chunks(self) -> AsyncIterator[Any]:
        """The same on the event loop."""
        return _abegun_in(self._as_draft(), astreamed(self._draft, self._rules.asked.capabilities))

    def deeper(self, decision: GateDecision) -> Any:
        """Ask the deeper branch."""
        with self._as_deeper():
            return self._rules.branch.run(self._asked_deeper(decision))

    async def adeeper(self, decision: GateDecision) -> Any:
        """The same on the event loop."""
        with self._as_deeper():
            return await self._rules.branch.arun(self._asked_deeper(decision))

    def deeper_chunks(self, decision: GateDecision) -> Iterator[Any]:
        """Ask the deeper branch for an object that grows."""
        return _begun_in(self._as_deeper(), chunks_of(self._rules.branch, self._asked_deeper(decision)))

    def adeeper_chunks(self, decision: GateDecision) -> AsyncIterator[Any]:
        """The same on the event loop."""
        return _abegun_in(self._as_deeper(), achunks_of(self._rules.branch, self._asked_deeper(decision)))

    def _asked_deeper(self, decision: GateDecision) -> LLMAsk:
        return LLMAsk(self._question, self._rules.same, decision, self.kept)

    def why_missing(self, draft: Any) -> str | None:
        """That objects come by calls of tools, unless the provider is asked for its own schema."""
        return _NO_LOGPROBS

    def annotated(self, answer: Any, decision: GateDecision) -> Any:
        """The object as it is.

        Raises:
            Exception: the draft's own, where it is none.
        """
        self._supersede_losers(decision)
        if isinstance(answer, Unparsed):
            raise answer.error
        return answer

    def _unparsed(self, error: Exception) -> Unparsed:
        # An error before any answer is the request's, not the draft's.
        if not self._drafting.calls:
            raise error
        return Unparsed(error)


def _begun_in(block: AbstractContextManager[None], chunks: Iterator[Any]) -> Iterator[Any]:
    """A stream whose first chunk is asked for in a block: its call starts there, unlike those of its reader."""
    with closed(chunks):
        with block:
            first = next(chunks, None)
        if first is not None:
            yield first
        yield from chunks


async def _abegun_in(block: AbstractContextManager[None], chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """The same on the event loop."""
    async with aclosed(chunks):
        with block:
            first = await anext(chunks, None)
        if first is not None:
            yield first
        async for chunk in chunks:
            yield chunk
