"""One query on its way through the cheap engine, the gate, and where it must through the deeper branch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any, cast

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse

from tje_middleware import GateDecision
from tje_middleware.calls.aggregation import Aggregate
from tje_middleware.calls.streams import aclosed, closed
from tje_middleware.gate.decision import METADATA_KEY
from tje_middleware.gate.delivery import Delivery

from ..functions.turn import UserCodeTurn
from .answers import Answer, Stream, abegun, awhole, begun, followed, is_stream, noted, whole, with_decision
from .copies import asking
from .deeper import Branch, NoAnswer, Question

_HIDDEN = (
    "no LLM is to be seen in the query engine, so none was asked for logprobs: make the engine with "
    "ask_logprobs(llm, gate=gate) in the place of its LLM"
)


class QueryTurn(UserCodeTurn[Answer | str]):
    """One question; answers are responses, and the tokens of a draft that is shown while it is written.

    Args:
        delivery: How decisions are carried out.
        engine: The cheap engine.
        branch: The deeper branch.
        question: The question.
        aggregate: Which of several model calls speak for the draft.
    """

    def __init__(
        self, delivery: Delivery, *, engine: BaseQueryEngine, branch: Branch, question: Question, aggregate: Aggregate
    ) -> None:
        super().__init__(delivery, aggregate)
        self._engine = engine
        self._llm_seen = True
        self._branch = branch
        self._question = question
        self._still_written = False
        self._open: Answer | None = None  # a draft that may still be coming
        self._metadata: dict[str, Any] = {}  # of that

    # The way of an engine's answer, of which only the engine knows whether it is a stream

    def response(self) -> Answer:
        """The answer; with ``annotate`` a draft that streams is given out while it is written."""
        if self.delivery.mode == "annotate":
            self._open = self._opened()
            if is_stream(self._open):
                return self._shown_as_written(self._open)
        return cast("Answer", self.answer())

    async def aresponse(self) -> Answer:
        """The same on the event loop."""
        if self.delivery.mode == "annotate":
            self._open = await self._aopened()
            if is_stream(self._open):
                return self._shown_as_written(self._open)
        return cast("Answer", await self.aanswer())

    def _opened(self) -> Answer:
        with self._as_draft():
            return begun(self._question.ask(self._asking_engine()))

    async def _aopened(self) -> Answer:
        with self._as_draft():
            return await abegun(await self._question.aask(self._asking_engine()))

    def _shown_as_written(self, draft: Stream) -> Answer:
        """The draft, in whose metadata the decision will be."""
        self._metadata = noted(draft)
        tokens = self.answers() if isinstance(draft, StreamingResponse) else self.aanswers()
        return replace(draft, response_gen=tokens, metadata=self._metadata)  # type: ignore[arg-type]  # of tokens

    # How engines are asked

    def draft(self) -> Answer:
        """The cheap engine's whole answer."""
        if self._open is not None:
            return self._open
        with self._as_draft():
            return whole(self._question.ask(self._asking_engine()))

    async def adraft(self) -> Answer:
        """The same on the event loop."""
        if self._open is not None:
            return self._open
        with self._as_draft():
            return await awhole(await self._question.aask(self._asking_engine()))

    def draft_chunks(self) -> Iterator[str]:
        """The tokens of a draft that was opened; at least one, so that there is always one with the decision."""
        with closed(cast("StreamingResponse", self._open).response_gen) as tokens:
            yield from tokens
        yield ""

    async def adraft_chunks(self) -> AsyncIterator[str]:
        """The same on the event loop."""
        async with aclosed(cast("AsyncStreamingResponse", self._open).response_gen) as tokens:
            async for token in tokens:
                yield token
        yield ""

    def _asking_engine(self) -> BaseQueryEngine:
        found = asking(self._engine, self.delivery.gate, self._drafting)
        self._llm_seen = found.llm_seen
        return found.engine

    def deeper(self, decision: GateDecision) -> Answer:
        """The deeper branch's answer; a stream has begun."""
        with self._as_deeper():
            return begun(self._branch.answer(self._question, self._rejected, decision))

    async def adeeper(self, decision: GateDecision) -> Answer:
        """The same on the event loop."""
        with self._as_deeper():
            return await abegun(await self._branch.aanswer(self._question, self._rejected, decision))

    def deeper_chunks(self, decision: GateDecision) -> Iterator[Answer]:
        """The deeper branch's answer, which is one chunk to whoever asks for chunks, be it a stream itself."""
        yield self.deeper(decision)

    async def adeeper_chunks(self, decision: GateDecision) -> AsyncIterator[Answer]:
        """The same on the event loop."""
        yield await self.adeeper(decision)

    def require_deeper(self, *, on_loop: bool) -> None:
        """Refuse what the deeper branch cannot be asked."""
        self._branch.require(self._question, on_loop=on_loop)

    @property
    def _rejected(self) -> Answer | None:
        return cast("Answer | None", self.kept)

    # What speaks for a draft, and what answers look like

    def why_missing(self, draft: Answer | str) -> str | None:
        """An LLM that could not be seen was not asked."""
        return None if self._llm_seen else _HIDDEN

    def annotated(self, answer: Answer | str, decision: GateDecision) -> Answer | str:
        """The answer with the decision in its metadata; a stream's is completed when the stream has ended."""
        self._supersede_losers(decision)
        if isinstance(answer, str):
            self._metadata[METADATA_KEY] = decision.as_dict()
            return answer
        answer = with_decision(answer, decision)
        metadata = answer.metadata
        if not is_stream(answer) or metadata is None:
            return answer

        def complete() -> None:
            spent = self.delivery.with_deeper(decision, self.draft_usage, self.deeper_usage)
            metadata[METADATA_KEY] = spent.as_dict()
            super(QueryTurn, self).conclude(spent)

        self._still_written = True
        return followed(answer, complete)

    def conclude(self, decision: GateDecision) -> None:
        """Dispatch the decision, unless the answer is still being written: then at its end."""
        if not self._still_written:
            super().conclude(decision)

    def question_text(self) -> str | None:
        """The query's."""
        return self._question.bundle.query_str

    def text_of(self, answer: Answer | str) -> str | None:
        """What was answered; not of a stream, which the user reads."""
        return answer if isinstance(answer, str) else None if is_stream(answer) else str(answer)

    def is_control_flow(self, error: Exception) -> bool:
        """Whether a workflow waits for an event or was cancelled; or the deeper function is a mistake."""
        return isinstance(error, NoAnswer) or super().is_control_flow(error)
