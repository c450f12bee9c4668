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
from ..capture.captured_turn import CapturedTurn
from .answers import StreamedAnswer, abegun, awhole, begun, followed, is_streamed, whole

_ASK = (
    "make the engine with ask_logprobs(llm, gate=gate) in the place of each of its LLMs, unless the model refuses to "
    "give logprobs"
)
_STRAYS = (
    "a model was called on a thread, or by a task, that came without this draft's context, so that it is not known "
    "for which draft: run the thread in contextvars.copy_context(), or by asyncio.to_thread"
)


class QueryTurn(CapturedTurn[EngineAnswer | str]):
    """One question to a gated query engine; with ``annotate``, a draft that streams is shown token by token.

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
        self._open: EngineAnswer | None = None  # with annotate the draft, which may be a stream
        self._metadata: dict[str, Any] = {}  # of the draft that streams

    # How a question is answered: whether an answer is a stream is known only once the engine has given it

    def response(self) -> EngineAnswer:
        """The answer; with ``annotate`` a draft that streams is given out while it is written."""
        if self.delivery.mode == "annotate":
            with self._as_draft():
                self._open = begun(self._question.put_to(self._engine))
            if is_streamed(self._open):
                return self._shown_as_written(self._open)
        return cast("EngineAnswer", self.answer())

    async def aresponse(self) -> EngineAnswer:
        """The same on the event loop."""
        if self.delivery.mode == "annotate":
            with self._as_draft():
                self._open = await abegun(await self._question.aput_to(self._engine))
            if is_streamed(self._open):
                return self._shown_as_written(self._open)
        return cast("EngineAnswer", await self.aanswer())

    def _shown_as_written(self, draft: StreamedAnswer) -> EngineAnswer:
        """The draft that streams; the decision will be in its metadata."""
        self._metadata = dict(draft.metadata or {})
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
        """The tokens of a draft that streams, and an empty one: it gets the decision, and there may be no other."""
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
        """What is called in the block is called for the draft; calls that no draft sees are noticed meanwhile."""
        with super()._as_draft(), hearing_of_strays(self._drafting, self.delivery.gate.capabilities) as self._heard:
            yield

    def deeper(self, decision: GateDecision) -> EngineAnswer:
        """The deeper branch's answer; one that streams has given its first token."""
        with self._as_deeper():
            return begun(self._branch.run(self._asked_deeper(decision)))

    async def adeeper(self, decision: GateDecision) -> EngineAnswer:
        """The same on the event loop."""
        with self._as_deeper():
            return await abegun(await self._branch.arun(self._asked_deeper(decision)))

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
        """The evidence of all calls that made the draft; none where it is not known which calls these are."""
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
        metadata = {**(answer.metadata or {}), METADATA_KEY: decision.as_dict()}
        answer = replace(answer, metadata=metadata)
        if not is_streamed(answer):
            return answer

        def complete() -> None:
            spent = self.delivery.with_deeper(decision, self.draft_usage, self.deeper_usage)
            metadata[METADATA_KEY] = spent.as_dict()
            super(QueryTurn, self).conclude(spent)

        self._still_written = True
        return followed(answer, complete)

    def conclude(self, decision: GateDecision) -> None:
        """Settle the decision; where the answer is a stream, that is done at the end of the stream."""
        if not self._still_written:
            super().conclude(decision)

    def question_text(self) -> str | None:
        """The text of the query."""
        return self._question.bundle.query_str

    def text_of(self, answer: EngineAnswer | str) -> str | None:
        """The text of an answer; None for a stream, which is still to be read."""
        return answer if isinstance(answer, str) else None if is_streamed(answer) else str(answer)

    def is_control_flow(self, error: Exception) -> bool:
        """Whether a workflow waits for an event or was cancelled; or the deeper function is a mistake."""
        return isinstance(error, NoAnswer) or super().is_control_flow(error)
