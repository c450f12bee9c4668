"""Structured output from a gated LLM: each LLM predicts in its own way, and the draft's calls are listened to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llama_index.core.llms import LLM
from llama_index.core.prompts import BasePromptTemplate

from tje_middleware import GateDecision
from tje_middleware.calls.streams import aclosed
from tje_middleware.gate.delivery import Delivery

from ..asking.streams import areleased, released
from ..capture.turn import CapturedTurn

_NO_LOGPROBS = (
    "what the object was read from came without logprobs; many providers give none for calls of tools: where the LLM "
    "has a schema of its own for objects, let it use that (for OpenAILike: should_use_structured_outputs=True)"
)


@dataclass(frozen=True)
class StructuredCall:
    """One structured prediction.

    Attributes:
        llm: Who predicts.
        output_cls: The class of the object.
        prompt: The prompt.
        settings: The arguments of the LLM's request.
        variables: What the prompt is filled in with.
    """

    llm: LLM
    output_cls: type[Any]
    prompt: BasePromptTemplate
    settings: Mapping[str, Any]
    variables: Mapping[str, Any]

    def of(self, method: str) -> Any:
        """Call one of the LLM's four methods."""
        arguments = {"llm_kwargs": dict(self.settings), **self.variables}
        return getattr(self.llm, method)(self.output_cls, self.prompt, **arguments)


class Unparsed:
    """In the place of an object: the error that says why the draft is none."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class StructuredTurn(CapturedTurn[Any]):
    """One structured prediction by two LLMs. The object has no place for the decision, which is announced.

    A draft that is not what the class says is judged all the same; where it is the answer, its error is raised, as it
    would be without the gate.
    """

    def __init__(self, delivery: Delivery, *, draft: StructuredCall, deeper: StructuredCall) -> None:
        super().__init__(delivery, "worst")
        self._draft = draft
        self._deeper = deeper

    def draft(self) -> Any:
        """Predict."""
        with self._as_draft():
            try:
                return self._draft.of("structured_predict")
            except (ValueError, TypeError) as error:
                return self._unparsed(error)

    async def adraft(self) -> Any:
        """The same on the event loop."""
        with self._as_draft():
            try:
                return await self._draft.of("astructured_predict")
            except (ValueError, TypeError) as error:
                return self._unparsed(error)

    def draft_chunks(self) -> Iterator[Any]:
        """Predict an object that grows."""
        # A call belongs to the block in which it starts: what the caller does between chunks does not.
        with self._as_draft():
            chunks = self._draft.of("stream_structured_predict")
            first = next(chunks, None)
        yield from released(chunks, *([] if first is None else [first]))

    async def adraft_chunks(self) -> AsyncIterator[Any]:
        """The same on the event loop."""
        with self._as_draft():
            chunks = await self._draft.of("astream_structured_predict")
            first = await anext(chunks, None)
        async with aclosed(areleased(chunks, *([] if first is None else [first]))) as source:
            async for chunk in source:
                yield chunk

    def deeper(self, decision: GateDecision) -> Any:
        """Predict with the deeper LLM."""
        with self._as_deeper():
            return self._deeper.of("structured_predict")

    async def adeeper(self, decision: GateDecision) -> Any:
        """The same on the event loop."""
        with self._as_deeper():
            return await self._deeper.of("astructured_predict")

    def deeper_chunks(self, decision: GateDecision) -> Iterator[Any]:
        """Predict an object that grows, with the deeper LLM."""
        with self._as_deeper():
            chunks = self._deeper.of("stream_structured_predict")
            first = next(chunks, None)
        yield from released(chunks, *([] if first is None else [first]))

    async def adeeper_chunks(self, decision: GateDecision) -> AsyncIterator[Any]:
        """The same on the event loop."""
        with self._as_deeper():
            chunks = await self._deeper.of("astream_structured_predict")
            first = await anext(chunks, None)
        async with aclosed(areleased(chunks, *([] if first is None else [first]))) as source:
            async for chunk in source:
                yield chunk

    def why_missing(self, draft: Any) -> str | None:
        """Objects come by calls of tools, unless the provider is asked for its own schema."""
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
