"""One question to a gated LLM."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

from tje_middleware import GateDecision, TokenUsage
from tje_middleware.calls.log import ModelCall
from tje_middleware.calls.streams import aclosed, closed
from tje_middleware.calls.usage import usage_of
from tje_middleware.gate.delivery import Delivery
from tje_middleware.gate.request import DraftRequest, watch_for
from tje_middleware.gate.stopping.watch import DraftStopped, RejectionWatch, raise_if_rejected
from tje_middleware.gate.turn import GatedTurn
from tje_middleware.logprobs.evidence import StreamedEvidence

from ..answers.responses import (
    Response,
    Tokens,
    annotated,
    answer_text,
    calls_tools,
    decision_in,
    in_one_chunk,
    model_behind,
    payload_of_chunk,
    payload_of_stream_end,
    spent_on,
    tokens_of,
    whole,
    without_decisions,
)
from ..asking.calls import LLMCall, acounted, counted
from ..asking.model import AskedLLM
from ..asking.settings import limits_of, model_of, setting_of, temperature_of
from ..capture.blocks import keeper_here
from ..capture.captured import CapturedEntropy, announce
from ..capture.turn import replaceable, supersede

_CALL = (
    "the draft is a call of tools, for which its provider gave no logprobs; where calls need no second look, "
    "EntropyGatedLLM(tool_calls='pass') accepts them unjudged"
)


class LLMTurn(GatedTurn[Response]):
    """What one question asks of two LLMs.

    Args:
        delivery: The rules.
        asked: The LLM that drafts.
        draft: The request to it.
        deeper: The request to the deeper LLM, if it comes to that.
        streamed: Whether the answer is wanted in chunks.
    """

    def __init__(
        self, delivery: Delivery, *, asked: AskedLLM, draft: LLMCall, deeper: LLMCall, streamed: bool = False
    ) -> None:
        super().__init__(delivery)
        self._asked = asked
        self._draft = draft
        self._deeper = deeper
        self._streamed = streamed
        self._evidence = StreamedEvidence()
        self._came_in_chunks = False
        self._replaceable: CapturedEntropy | None = None
        self._keeper: CapturedEntropy | None = None
        self._draft_usage = TokenUsage()
        self._deeper_usage = TokenUsage()

    # How the LLMs are called

    def draft(self) -> Response:
        """Ask for the draft: whole, or as a stream that may be stopped."""
        watch = self._watch()
        with replaceable() as self._replaceable:
            request, call = self._asked.request(self._draft.settings), self._draft
            if watch is not None:
                try:
                    return self._watched(watch)
                except Exception as error:
                    call = self._not_streamed(request, error)
            response = request.answered(call.whole())
        self._draft_usage = spent_on(response)
        return response

    async def adraft(self) -> Response:
        """The same on the event loop."""
        watch = self._watch()
        with replaceable() as self._replaceable:
            request, call = self._asked.request(self._draft.settings), self._draft
            if watch is not None:
                try:
                    return await self._awatched(watch)
                except Exception as error:
                    call = self._not_streamed(request, error)
            response = request.answered(await call.awhole())
        self._draft_usage = spent_on(response)
        return response

    def draft_chunks(self) -> Iterator[Response]:
        """Ask for the draft as it is written."""
        return self._written(self._draft)

    def adraft_chunks(self) -> AsyncIterator[Response]:
        """The same on the event loop."""
        return self._awritten(self._draft)

    def deeper(self, decision: GateDecision) -> Response:
        """Ask the deeper LLM."""
        response = self._deeper.whole()
        self._deeper_usage = spent_on(response)
        return response

    async def adeeper(self, decision: GateDecision) -> Response:
        """The same on the event loop."""
        response = await self._deeper.awhole()
        self._deeper_usage = spent_on(response)
        return response

    def deeper_chunks(self, decision: GateDecision) -> Iterator[Response]:
        """Ask the deeper LLM for its answer as it is written."""
        usage = StreamUsage()
        with closed(counted(self._deeper, self.delivery.gate.capabilities)) as chunks:
            for chunk in chunks:
                self._deeper_usage = usage.after(chunk)
                yield chunk

    async def adeeper_chunks(self, decision: GateDecision) -> AsyncIterator[Response]:
        """The same on the event loop."""
        usage = StreamUsage()
        async with aclosed(acounted(self._deeper, self.delivery.gate.capabilities)) as chunks:
            async for chunk in chunks:
                self._deeper_usage = usage.after(chunk)
                yield chunk

    # What their answers look like

    def writer_of(self, draft: Response) -> ModelCall:
        """The one call there was."""
        llm, settings = self._asked.llm, self._draft.settings
        by_another = model_behind(draft)
        return ModelCall(
            None,
            self._evidence.of(payload_of_stream_end(draft) if self._came_in_chunks else draft),
            self._draft_usage,
            model=model_of(llm, settings) if by_another is None else by_another,
            temperature=temperature_of(llm, settings),
        )

    def annotated(self, answer: Response, decision: GateDecision) -> Response:
        """The answer with the decision in its message."""
        if decision.answered_by == "deeper" and self._replaceable is not None:
            supersede(self._replaceable.calls)
        return annotated(answer, decision)

    def shown(self, draft: Response) -> Response:
        """A draft that was held is one chunk of a stream."""
        return in_one_chunk(draft) if self._streamed and self.delivery.mode != "annotate" else draft

    def decision_in(self, draft: Response) -> GateDecision | None:
        """The one in its message."""
        return decision_in(draft)

    def calls_tools(self, draft: Response) -> bool:
        """Whether the draft is a call of tools."""
        return calls_tools(draft)

    def why_missing(self, draft: Response) -> str | None:
        """A call of tools has no logprobs with some providers."""
        return _CALL if calls_tools(draft) else None

    @property
    def draft_usage(self) -> TokenUsage:
        """What the draft spent so far."""
        return self._draft_usage

    @property
    def deeper_usage(self) -> TokenUsage:
        """What the deeper LLM spent so far."""
        return self._deeper_usage

    @property
    def deeper_model(self) -> str | None:
        """The one that was asked."""
        return model_of(self._deeper.llm, self._deeper.settings)

    def question_text(self) -> str | None:
        """The messages line by line, or the prompt."""
        question = self._draft.question
        return question if isinstance(question, str) else "\n".join(map(str, question))

    def text_of(self, answer: Response) -> str | None:
        """What was written, or is new in a chunk of it."""
        return answer.delta if self._streamed and answer.delta is not None else answer_text(answer)

    def announce(self, decision: GateDecision) -> None:
        """Note where the draft was judged: the block that it is in is told of the end, wherever that comes."""
        self._keeper = keeper_here()

    def tell(self, decision: GateDecision) -> None:
        """Dispatch the decision as an event, once, when it is known what the answer cost."""
        announce(decision, self._keeper)

    # A draft that may be stopped

    def _watch(self) -> RejectionWatch | None:
        """What foresees the draft's rejection; None where nothing can, and streaming would be for nothing."""
        llm, settings = self._asked.llm, self._draft.settings
        if self.delivery.mode_for(may_call_tools=bool(settings.get("tools"))) != "abort":
            return None
        if not self._asked.request(settings).may_be_stopped(self.delivery.gate):
            return None
        answers = setting_of(llm, settings, "n")
        if getattr(llm, "answers_by_several", False) or (isinstance(answers, int) and answers > 1):
            return None  # a stream of several answers, or of one of two LLMs, is not one draft
        return watch_for(
            self.delivery.gate,
            limits=limits_of(llm, settings),
            model=model_of(llm, settings),
            temperature=temperature_of(llm, settings),
        )

    def _watched(self, watch: RejectionWatch) -> Response:
        kept = _Kept()
        try:
            with closed(self._written(self._to_watch)) as chunks:
                for chunk in chunks:
                    kept.take(chunk)
                    raise_if_rejected(watch.add(payload_of_chunk(chunk)), kept)
        except DraftStopped as stopped:
            self._draft_usage = stopped.usage
            raise
        return self._ended(kept)

    async def _awatched(self, watch: RejectionWatch) -> Response:
        kept = _Kept()
        try:
            async with aclosed(self._awritten(self._to_watch)) as chunks:
                async for chunk in chunks:
                    kept.take(chunk)
                    raise_if_rejected(watch.add(payload_of_chunk(chunk)), kept)
        except DraftStopped as stopped:
            self._draft_usage = stopped.usage
            raise
        return self._ended(kept)

    @property
    def _to_watch(self) -> LLMCall:
        """The draft's request, past what would ask once more without logprobs where they are refused."""
        kind, question = self._draft.kind, self._draft.question
        plain = without_decisions(question) if kind == "chat" else question
        settings = self._asked.asking.for_logprobs(self._draft.settings)
        return LLMCall(self._asked.plain, kind, plain, settings)

    def _written(self, call: LLMCall) -> Iterator[Response]:
        usage, self._came_in_chunks = StreamUsage(), True
        with closed(counted(call, self.delivery.gate.capabilities)) as chunks:
            for chunk in chunks:
                self._draft_usage = usage.after(chunk)
                self._evidence.add(payload_of_chunk(chunk))
                yield chunk

    async def _awritten(self, call: LLMCall) -> AsyncIterator[Response]:
        usage, self._came_in_chunks = StreamUsage(), True
        async with aclosed(acounted(call, self.delivery.gate.capabilities)) as chunks:
            async for chunk in chunks:
                self._draft_usage = usage.after(chunk)
                self._evidence.add(payload_of_chunk(chunk))
                yield chunk

    def _ended(self, kept: _Kept) -> Response:
        if kept.last is None:
            raise ValueError("the LLM's stream ended without a chunk")
        response = whole(kept.last)
        return response if self._draft.finish is None else self._draft.finish(response)

    def _not_streamed(self, request: DraftRequest, error: Exception) -> LLMCall:
        """How to go on unstreamed where such a stream is refused; every other error is raised."""
        request.note_refused_stream(error)
        self._evidence, self._came_in_chunks, self._draft_usage = StreamedEvidence(), False, TokenUsage()
        if request.may_ask():
            return self._draft
        plain = without_decisions(self._draft.question) if self._draft.kind == "chat" else self._draft.question
        return replace(self._draft, llm=self._asked.llm, question=plain)


class _Kept:
    """Of a stream the last chunk, which has all the text: each has all that came before, and many are too much."""

    def __init__(self) -> None:
        self.last: Response | None = None
        self._came = 0

    def __len__(self) -> int:
        return self._came

    def take(self, chunk: Response) -> None:
        """Keep a chunk in the place of the one before."""
        self.last = chunk
        self._came += 1


class StreamUsage:
    """Adds up a stream: what its provider says of it in the end; until then, or if it never does, a lower bound."""

    def __init__(self) -> None:
        self._written = 0
        self._said = Tokens()

    def after(self, chunk: Response) -> TokenUsage:
        """What the stream cost so far, with this chunk."""
        if decision_in(chunk) is not None:  # of a gated LLM, which knows
            return spent_on(chunk)
        self._written += int(bool(chunk.delta))
        said = tokens_of(chunk)
        if said != Tokens():
            self._said = said
        read, written = self._said
        if written is None:
            return TokenUsage(read or 0, self._written, calls=1, partly_known=1)
        return usage_of(read, written)
