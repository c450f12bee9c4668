"""One question to a gated LLM."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import cast

from tje_middleware import GateDecision, TokenUsage
from tje_middleware.calls.log import ModelCall
from tje_middleware.calls.request import DraftRequest
from tje_middleware.calls.streams import aclosed, closed
from tje_middleware.gate.delivery import Delivery, watch_for
from tje_middleware.gate.stopping.watch import DraftStopped, RejectionWatch, raise_if_rejected
from tje_middleware.logprobs.evidence import StreamedEvidence

from ..answers.responses import (
    LLMResponse,
    annotated,
    answer_text,
    calls_tools,
    decision_in,
    in_one_chunk,
    model_behind,
    payload_of_chunk,
    payload_of_stream_end,
    spent_on,
    whole,
)
from ..asking.asked_llm import AskedLLM
from ..asking.requests import LLMCall, limits_of, model_of, setting_of, temperature_of, without_asking
from ..asking.streams import StreamUsage, astreamed, streamed
from ..branches import DeeperLLM, LLMAsk, LLMBranch, achunks_of, chunks_of
from ..capture.blocks import replaceable, supersede
from ..capture.captured import CapturedEntropy
from ..capture.captured_turn import AnnouncedTurn

_CALL = (
    "the draft is a call of tools, for which its provider gave no logprobs; where calls need no second look, "
    "EntropyGatedLLM(tool_calls='pass') accepts them unjudged"
)


@dataclass(frozen=True)
class LLMRules:
    """What is the same for every question to one gated LLM.

    Attributes:
        asked: The LLM that drafts, asked for logprobs.
        same: The LLM that drafts, as a branch asks it again.
        branch: The deeper branch.
        delivery: The rules.
    """

    asked: AskedLLM
    same: DeeperLLM
    branch: LLMBranch
    delivery: Delivery

    def drafted(self, question: LLMCall) -> LLMCall:
        """The request for a draft, which asks for logprobs by the gate's own arguments."""
        return replace(question, settings=without_asking(question.settings)).of(self.asked)


class LLMTurn(AnnouncedTurn[LLMResponse]):
    """One question to a gated LLM.

    Args:
        rules: What is the same for all of them.
        question: The question.
        streamed: Whether the answer is wanted in chunks.
    """

    def __init__(self, rules: LLMRules, question: LLMCall, *, streamed: bool = False) -> None:
        super().__init__(rules.delivery)
        self._rules = rules
        self._question = question
        self._draft = rules.drafted(question)
        self._streamed = streamed
        self._evidence = StreamedEvidence()
        self._came_in_chunks = False
        self._replaceable: CapturedEntropy | None = None
        self._draft_usage = TokenUsage()
        self._ask: LLMAsk | None = None

    # How the LLMs are called

    def draft(self) -> LLMResponse:
        """Ask for the draft: whole, or as a stream that may be stopped."""
        watch = self._watch()
        with replaceable() as self._replaceable:
            request, call = self._rules.asked.request(self._draft.settings), self._draft
            if watch is not None:
                try:
                    return self._watched(watch)
                except Exception as error:
                    call = self._not_streamed(request, error)
            response: LLMResponse = request.answered(call.whole())
        self._draft_usage = spent_on(response)
        return response

    async def adraft(self) -> LLMResponse:
        """The same on the event loop."""
        watch = self._watch()
        with replaceable() as self._replaceable:
            request, call = self._rules.asked.request(self._draft.settings), self._draft
            if watch is not None:
                try:
                    return await self._awatched(watch)
                except Exception as error:
                    call = self._not_streamed(request, error)
            response: LLMResponse = request.answered(await call.awhole())
        self._draft_usage = spent_on(response)
        return response

    def draft_chunks(self) -> Iterator[LLMResponse]:
        """Ask for the draft as it is written."""
        return self._written(self._draft)

    def adraft_chunks(self) -> AsyncIterator[LLMResponse]:
        """The same on the event loop."""
        return self._awritten(self._draft)

    def deeper(self, decision: GateDecision) -> LLMResponse:
        """Ask the deeper branch."""
        return cast("LLMResponse", self._rules.branch.run(self._asked_deeper(decision)))

    async def adeeper(self, decision: GateDecision) -> LLMResponse:
        """The same on the event loop."""
        return cast("LLMResponse", await self._rules.branch.arun(self._asked_deeper(decision)))

    def deeper_chunks(self, decision: GateDecision) -> Iterator[LLMResponse]:
        """Ask the deeper branch for its answer as it is written."""
        return chunks_of(self._rules.branch, self._asked_deeper(decision))

    def adeeper_chunks(self, decision: GateDecision) -> AsyncIterator[LLMResponse]:
        """The same on the event loop."""
        return achunks_of(self._rules.branch, self._asked_deeper(decision))

    def _asked_deeper(self, decision: GateDecision) -> LLMAsk:
        self._ask = LLMAsk(self._question, self._rules.same, decision, self.kept)
        return self._ask

    # What their answers look like

    def writer_of(self, draft: LLMResponse) -> ModelCall:
        """The call that wrote the draft."""
        llm, settings = self._rules.asked.llm, self._draft.settings
        by_another = model_behind(draft)
        return ModelCall(
            None,
            self._evidence.of(payload_of_stream_end(draft) if self._came_in_chunks else draft),
            self._draft_usage,
            model=model_of(llm, settings) if by_another is None else by_another,
            temperature=temperature_of(llm, settings),
        )

    def annotated(self, answer: LLMResponse, decision: GateDecision) -> LLMResponse:
        """The answer with the decision in its message."""
        if decision.answered_by == "deeper" and self._replaceable is not None:
            supersede(self._replaceable.calls)
        return annotated(answer, decision)

    def shown(self, draft: LLMResponse) -> LLMResponse:
        """The draft; in one chunk, where the answer is wanted in chunks and the draft was held."""
        return in_one_chunk(draft) if self._streamed and self.delivery.mode != "annotate" else draft

    def decision_in(self, draft: LLMResponse) -> GateDecision | None:
        """The decision that a gate within left in the draft."""
        return decision_in(draft)

    def calls_tools(self, draft: LLMResponse) -> bool:
        """Whether the draft is a call of tools."""
        return calls_tools(draft)

    def why_missing(self, draft: LLMResponse) -> str | None:
        """That some providers give no logprobs for calls of tools, where the draft is one."""
        return _CALL if calls_tools(draft) else None

    @property
    def draft_usage(self) -> TokenUsage:
        """What the draft spent so far."""
        return self._draft_usage

    @property
    def deeper_usage(self) -> TokenUsage:
        """What the deeper branch spent so far."""
        return TokenUsage() if self._ask is None else self._ask.usage

    @property
    def deeper_model(self) -> str | None:
        """The model that the deeper branch asked last."""
        return None if self._ask is None else self._ask.model

    def question_text(self) -> str | None:
        """The text of the messages line by line, or the prompt."""
        question = self._draft.question
        return question if isinstance(question, str) else "\n".join(map(str, question))

    def text_of(self, answer: LLMResponse) -> str | None:
        """The text of an answer, or what is new in a chunk of it."""
        return answer.delta if self._streamed and answer.delta is not None else answer_text(answer)

    # A draft that may be stopped. It is no stream of the AskedLLM itself, which would ask once more without logprobs
    # where these are refused.

    def _watch(self) -> RejectionWatch | None:
        """What foresees the draft's rejection; None where the draft cannot be stopped."""
        llm, settings = self._rules.asked.llm, self._draft.settings
        if self.delivery.mode_for(may_call_tools=bool(settings.get("tools"))) != "abort":
            return None
        if not self._rules.asked.request(settings).may_be_stopped(self.delivery.gate.policies.on_missing):
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

    def _watched(self, watch: RejectionWatch) -> LLMResponse:
        last = None
        with closed(self._written(self._rules.asked.asking(self._draft))) as chunks:
            for number, last in enumerate(chunks, 1):
                raise_if_rejected(watch.add(payload_of_chunk(last)), range(number))
        return self._ended(last)

    async def _awatched(self, watch: RejectionWatch) -> LLMResponse:
        last, number = None, 0
        async with aclosed(self._awritten(self._rules.asked.asking(self._draft))) as chunks:
            async for last in chunks:
                number += 1
                raise_if_rejected(watch.add(payload_of_chunk(last)), range(number))
        return self._ended(last)

    def _written(self, call: LLMCall) -> Iterator[LLMResponse]:
        usage, self._came_in_chunks = StreamUsage(), True
        with closed(streamed(call, self.delivery.gate.capabilities)) as chunks:
            for chunk in chunks:
                self._draft_usage = usage.after(chunk)
                self._evidence.add(payload_of_chunk(chunk))
                yield chunk

    async def _awritten(self, call: LLMCall) -> AsyncIterator[LLMResponse]:
        usage, self._came_in_chunks = StreamUsage(), True
        async with aclosed(astreamed(call, self.delivery.gate.capabilities)) as chunks:
            async for chunk in chunks:
                self._draft_usage = usage.after(chunk)
                self._evidence.add(payload_of_chunk(chunk))
                yield chunk

    def _ended(self, last: LLMResponse | None) -> LLMResponse:
        if last is None:
            raise ValueError("the LLM's stream ended without a chunk")
        response = whole(last)
        return response if self._draft.finish is None else self._draft.finish(response)

    def _not_streamed(self, request: DraftRequest, error: Exception) -> LLMCall:
        """The call to make unstreamed, where such a stream was refused; every other error is raised."""
        if isinstance(error, DraftStopped):
            self._draft_usage = error.usage
            raise error
        request.note_refused_stream(error)
        self._evidence, self._came_in_chunks, self._draft_usage = StreamedEvidence(), False, TokenUsage()
        if request.may_ask():
            return self._draft
        return replace(self._draft.undecided(), llm=self._rules.asked.llm)
