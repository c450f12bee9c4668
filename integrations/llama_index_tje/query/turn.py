"""One query on its way through the cheap engine, the gate, and where it must through the deeper branch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.response.schema import AsyncStreamingResponse, StreamingResponse

from tje_middleware import GateDecision, MissingLogprobs
from tje_middleware.calls.aggregation import Aggregate
from tje_middleware.calls.log import ModelCall
from tje_middleware.calls.streams import aclosed, closed
from tje_middleware.gate.decision import METADATA_KEY
from tje_middleware.gate.delivery import Delivery
from tje_middleware.logprobs.evidence import without_advice

from ..branches import DeeperEngine, DeeperFunction, EngineAnswer, EngineAsk, NoAnswer, Question
from ..capture.blocks import OpenDraft, hearing_of_strays
from ..capture.turn import CapturedTurn
from .answers import Stream, abegun, awhole, begun, followed, is_stream, noted, whole, with_decision

_ASK = (
    "make the engine with ask_logprobs(llm, gate=gate) in the place of each of its LLMs, unless the model refuses to "
    "give logprobs"
)
_STRAYS = (
    "a model was called on a thread, or by a task, that came without this draft's context, so that it is not known "
    "for which draft: run the thread in contextvars.copy_context(), or by asyncio.to_thread"
)


class QueryTurn(CapturedTurn[EngineAnswer | str]):
    """One question; answers are responses, and the tokens of a draft that is shown while it is written.

    Args:
        delivery: How decisions are carried out.
        engine: The cheap engine.
        branch: The deeper branch.
        question: The question.
        aggregate: Which of several model calls speak for the draft.
    """

    def __init__(
        self,
        delivery: Delivery,
        *,
        engine: BaseQueryEngine,
        branch: DeeperEngine | DeeperFunction,
        question: Question,
        aggregate: Aggregate,
    ) -> None:
        super().__init__(delivery, aggregate)
        self._engine = engine
        self._branch = branch
        self._question = question
        self._heard: OpenDraft | None = None
        self._still_written = False
        self._open: EngineAnswer | None = None  # a draft that may still be coming
        self._metadata: dict[str, Any] = {}  # of that

    # The way of an engine's answer, of which only the engine knows whether it is a stream

    def response(self) -> EngineAnswer:
        """The answer; with ``annotate`` a draft that streams is given out while it is written."""
        if self.delivery.mode == "annotate":
            self._open = self._opened()
            if is_stream(self._open):
                return self._shown_as_written(self._open)
        return cast("EngineAnswer", self.answer())

    async def aresponse(self) -> EngineAnswer:
        """The same on the event loop."""
        if self.delivery.mode == "annotate":
            self._open = await self._aopened()
            if is_stream(self._open):
                return self._shown_as_written(self._open)
        return cast("EngineAnswer", await self.aanswer())

    def _opened(self) -> EngineAnswer:
        with self._as_draft():
            return begun(self._question.put_to(self._engine))

    async def _aopened(self) -> EngineAnswer:
        with self._as_draft():
            return await abegun(await self._question.aput_to(self._engine))

    def _shown_as_written(self, draft: Stream) -> EngineAnswer:
        """The draft, in whose metadata the decision will be."""
        self._metadata = noted(draft)
        tokens = self.answers() if isinstance(draft, StreamingResponse) else self.aanswers()
        return replace(draft, response_gen=tokens, metadata=self._metadata)  # type: ignore[arg-type]  # of tokens

    # How engines are asked

    def draft(self) -> EngineAnswer:
        """The cheap engine's whole answer."""
        if self._open is not None:
            return self._open
        with self._as_draft():
            return whole(self._question.put_to(self._engine))

    async def adraft(self) -> EngineAnswer:
        """The same on the event loop."""
        if self._open is not None:
            return self._open
        with self._as_draft():
            return await awhole(await self._question.aput_to(self._engine))

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

    @contextmanager
    def _as_draft(self) -> Iterator[None]:
        """What is called in the block is called for the draft; of calls that may have been, it is heard."""
        with super()._as_draft(), hearing_of_strays(self._drafting, self.delivery.gate.capabilities) as self._heard:
            yield

    def deeper(self, decision: GateDecision) -> EngineAnswer:
        """The deeper branch's answer; a stream has begun."""
        with self._as_deeper():
            return begun(self._branch.run(self._asked_deeper(decision)))

    async def adeeper(self, decision: GateDecision) -> EngineAnswer:
        """The same on the event loop."""
        with self._as_deeper():
            return await abegun(await self._branch.arun(self._asked_deeper(decision)))

    def deeper_chunks(self, decision: GateDecision) -> Iterator[EngineAnswer]:
        """The deeper branch's answer, which is one chunk to whoever asks for chunks, be it a stream itself."""
        yield self.deeper(decision)

    async def adeeper_chunks(self, decision: GateDecision) -> AsyncIterator[EngineAnswer]:
        """The same on the event loop."""
        yield await self.adeeper(decision)

    def require_deeper(self, *, on_loop: bool) -> None:
        """Refuse what the deeper branch cannot be asked."""
        self._branch.require(self._question, on_loop=on_loop)

    def _asked_deeper(self, decision: GateDecision) -> EngineAsk:
        return EngineAsk(self._question, cast("EngineAnswer | None", self.kept), decision)

    # What speaks for a draft, and what answers look like

    @property
    def _has_strays(self) -> bool:
        return self._heard is not None and self._heard.has_strays

    def writer_of(self, draft: EngineAnswer | str) -> ModelCall:
        """The evidence of all calls that the draft was made by; none where it is not known which these are."""
        speaking = super().writer_of(draft)
        return replace(speaking, logprobs=MissingLogprobs(_STRAYS)) if self._has_strays else speaking

    def was_asked(self, draft: EngineAnswer | str) -> bool:
        """Whether a model was called, as far as it is known which."""
        return not self._has_strays and super().was_asked(draft)

    def remark(self, draft: EngineAnswer | str) -> str | None:
        """By which rule the calls were aggregated, where there were several and they are known."""
        return None if self._has_strays else super().remark(draft)

    def why_missing(self, draft: EngineAnswer | str) -> str | None:
        """How the engine's LLMs are asked for logprobs, which the gate cannot do from outside."""
        said = self.writer_of(draft).logprobs
        return f"{without_advice(said)}; {_ASK}" if isinstance(said, MissingLogprobs) else None

    def annotated(self, answer: EngineAnswer | str, decision: GateDecision) -> EngineAnswer | str:
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

    def text_of(self, answer: EngineAnswer | str) -> str | None:
        """What was answered; not of a stream, which the user reads."""
        return answer if isinstance(answer, str) else None if is_stream(answer) else str(answer)

    def is_control_flow(self, error: Exception) -> bool:
        """Whether a workflow waits for an event or was cancelled; or the deeper function is a mistake."""
        return isinstance(error, NoAnswer) or super().is_control_flow(error)
