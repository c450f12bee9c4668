"""GatedTurn: one question, from its draft through the gate's decision to the deeper branch where it is needed."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Generic, TypeVar, cast

from ..calls.log import ModelCall
from ..calls.streams import aclosed, amarked, closed, marked
from ..calls.usage import TokenUsage, counted
from ..errors import MissingLogprobs
from ..logprobs.evidence import Evidence
from .decision import GateDecision
from .delivery import Delivery
from .stopping.watch import DraftAborted, DraftStopped

Answer = TypeVar("Answer")


class GatedTurn(ABC, Generic[Answer]):
    """One question: its draft, the gate's decision and, where the draft is not accepted, the deeper branch.

    A turn serves one question. An integration derives from it, and implements how its models are called and what its
    answers look like. The sync and async twins differ only in ``await``.

    Args:
        delivery: The rules of delivery.

    Attributes:
        delivery: The rules of delivery.
        kept: The draft as it is delivered; None before there is one, and where it was stopped.
        decision: The decision; None before it was made.
    """

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self._began = 0.0
        self._draft_model: str | None = None
        self._said: list[str] | None = [] if delivery.gate.keeps_texts else None
        self.kept: Answer | None = None
        self.decision: GateDecision | None = None
        self._went_deeper = False

    # Answers, for the caller

    def answer(self) -> Answer:
        """The whole answer, with the decision in it.

        Raises:
            GateError: the draft cannot be judged, and the gate says ``on_missing="raise"``.
        """
        with self._concluding():
            decision = self._decided()
            if decision is None or not self.delivery.goes_deeper(decision):
                return self._with_draft(decision)
            self.require_deeper(on_loop=False)
            self._went_deeper = True
            try:
                answer = self.deeper(decision)
            except Exception as error:
                return self._after_failure(decision, error)
            return self._with_deeper(answer, decision)

    async def aanswer(self) -> Answer:
        """The same on the event loop."""
        with self._concluding():
            await self.delivery.gate.ready()
            decision = await self._adecided()
            if decision is None or not self.delivery.goes_deeper(decision):
                return self._with_draft(decision)
            self.require_deeper(on_loop=True)
            self._went_deeper = True
            try:
                answer = await self.adeeper(decision)
            except Exception as error:
                return self._after_failure(decision, error)
            return self._with_deeper(answer, decision)

    def answers(self) -> Iterator[Answer]:
        """The answer in chunks: an accepted draft as one chunk, a deeper answer as it is written.

        With ``annotate`` the draft comes as it is written. The decision is in the last chunk that has a place for it.
        """
        with self._concluding():
            yield from self._answers()

    async def aanswers(self) -> AsyncIterator[Answer]:
        """The same on the event loop."""
        with self._concluding():
            await self.delivery.gate.ready()
            async with aclosed(self._aanswers()) as answers:
                async for answer in answers:
                    yield answer

    def _answers(self) -> Iterator[Answer]:
        if self.delivery.mode == "annotate":
            with closed(self.draft_chunks()) as chunks:
                for chunk, is_last in marked(chunks, self.has_place):
                    yield self._with_draft(self._judged(chunk)) if is_last else self._noted(self.shown(chunk))
            return
        decision = self._decided()
        if decision is None or not self.delivery.goes_deeper(decision):
            yield self._with_draft(decision)
            return
        self.require_deeper(on_loop=False)
        self._went_deeper = True
        given = False
        try:
            with closed(self.deeper_chunks(decision)) as chunks:
                for chunk, is_last in marked(chunks, self.has_place):
                    given = True
                    yield self._with_deeper(chunk, decision) if is_last else self._noted(self.passed_on(chunk))
        except Exception as error:
            if given:  # the caller has chunks already, which the draft cannot replace
                raise
            yield self._after_failure(decision, error)

    async def _aanswers(self) -> AsyncIterator[Answer]:
        if self.delivery.mode == "annotate":
            async with aclosed(self.adraft_chunks()) as chunks:
                async for chunk, is_last in amarked(chunks, self.has_place):
                    yield self._with_draft(await self._ajudged(chunk)) if is_last else self._noted(self.shown(chunk))
            return
        decision = await self._adecided()
        if decision is None or not self.delivery.goes_deeper(decision):
            yield self._with_draft(decision)
            return
        self.require_deeper(on_loop=True)
        self._went_deeper = True
        given = False
        try:
            async with aclosed(self.adeeper_chunks(decision)) as chunks:
                async for chunk, is_last in amarked(chunks, self.has_place):
                    given = True
                    yield self._with_deeper(chunk, decision) if is_last else self._noted(self.passed_on(chunk))
        except Exception as error:
            if given:
                raise
            yield self._after_failure(decision, error)

    # How models are called, for an integration to implement

    @abstractmethod
    def draft(self) -> Answer:
        """Ask for the whole draft.

        Raises:
            DraftStopped: the draft was stopped; or DraftAborted, where a framework's code stands in between.
        """

    @abstractmethod
    async def adraft(self) -> Answer:
        """The same on the event loop."""

    def draft_chunks(self) -> Iterator[Answer]:
        """Ask for the draft as it is written, with ``annotate``; as one chunk where it cannot be streamed."""
        yield self.draft()

    async def adraft_chunks(self) -> AsyncIterator[Answer]:
        """The same on the event loop."""
        yield await self.adraft()

    @abstractmethod
    def deeper(self, decision: GateDecision) -> Answer:
        """Ask the deeper branch; the draft is in ``kept``."""

    @abstractmethod
    async def adeeper(self, decision: GateDecision) -> Answer:
        """The same on the event loop."""

    def deeper_chunks(self, decision: GateDecision) -> Iterator[Answer]:
        """Ask the deeper branch for its answer as it is written; as one chunk where it cannot be streamed."""
        yield self.deeper(decision)

    async def adeeper_chunks(self, decision: GateDecision) -> AsyncIterator[Answer]:
        """The same on the event loop."""
        yield await self.adeeper(decision)

    def require_deeper(self, *, on_loop: bool) -> None:
        """Raise where the deeper branch cannot be called this way, which is no failure of the branch."""

    # What answers look like, for an integration to implement

    @abstractmethod
    def writer_of(self, draft: Answer) -> ModelCall:
        """The model call that wrote the draft, with its logprobs or the error that says why there are none."""

    @abstractmethod
    def annotated(self, answer: Answer, decision: GateDecision) -> Answer:
        """The answer, or the last chunk of it, with the decision in it, where there is a place for it."""

    @property
    @abstractmethod
    def draft_usage(self) -> TokenUsage:
        """Tokens that the draft spent so far."""

    @property
    @abstractmethod
    def deeper_usage(self) -> TokenUsage:
        """Tokens that the deeper branch spent so far."""

    def shown(self, draft: Answer) -> Answer:
        """The draft, or a chunk of it, as it is delivered."""
        return draft

    def passed_on(self, chunk: Answer) -> Answer:
        """A chunk of the deeper answer as it is delivered; not called for the chunk with the decision."""
        return chunk

    def has_place(self, chunk: Answer) -> bool:
        """Whether a chunk has a place for the decision."""
        return True

    def decision_in(self, draft: Answer) -> GateDecision | None:
        """The decision that an inner gate left in the draft; None where there is none."""
        return None

    def is_draft(self, draft: Answer) -> bool:
        """Whether a model wrote the draft; if not, as for a cached answer, it is delivered without a decision."""
        return True

    def calls_tools(self, draft: Answer) -> bool:
        """Whether the draft calls tools."""
        return False

    def why_missing(self, draft: Answer) -> str | None:
        """The reason why a draft has no logprobs, where the framework knows more than the draft says; else None."""
        return None

    def was_asked(self, draft: Answer) -> bool:
        """Whether the draft's model was asked for logprobs."""
        return True

    def remark(self, draft: Answer) -> str | None:
        """A remark to add to the detail of the decision about a draft; None for none."""
        return None

    # What surrounds a turn, for an integration to override

    @property
    def cap_reached(self) -> str | None:
        """The cap, in words, that forbids going deeper; None where it is allowed."""
        return None

    def announce(self, decision: GateDecision) -> None:
        """Announce the decision, before the deeper branch runs."""

    async def aannounce(self, decision: GateDecision) -> None:
        """The same on the event loop."""
        self.announce(decision)

    @property
    def deeper_model(self) -> str | None:
        """The model that wrote the deeper answer; None where it is unknown."""
        return None

    def question_text(self) -> str | None:
        """The text of the question; asked for only where a ledger keeps texts."""
        return None

    def text_of(self, answer: Answer) -> str | None:
        """The text of an answer, or of a chunk of it; asked for only where a ledger keeps texts."""
        return None

    def tell(self, decision: GateDecision) -> None:
        """Announce the decision at the end of the turn, with the answer taken and its usage as far as it came."""

    def is_control_flow(self, error: Exception) -> bool:
        """Whether an error interrupts or redirects the framework's run, and is no failure."""
        return False

    # The steps

    def conclude(self, decision: GateDecision) -> None:
        """Settle the decision at the end of the turn, and announce it."""
        gate = self.delivery.gate
        was_unread = decision.aborted or decision.reason == "tool_call"
        gate.settle(
            decision,
            may_abort=self.delivery.mode_for(may_call_tools=False) == "abort",
            may_deepen=self.delivery.mode != "annotate",
            latency_seconds=time.monotonic() - self._began,
            # The model of a draft that was stopped, or accepted unjudged, was not read from its call: it is the
            # key's.
            draft_model=self._draft_model or (gate.key.model if was_unread else None),
            deeper_model=self.deeper_model if self._went_deeper else None,
            deeper_includes_draft=self.delivery.branch.includes_draft if self.delivery.branch else None,
            prompt=None if self._said is None else self.question_text(),
            answer="".join(self._said) if self._said else None,
        )
        self.tell(decision)

    @contextmanager
    def _concluding(self) -> Iterator[None]:
        self._began = time.monotonic()
        try:
            yield
        finally:
            if self.decision is not None:
                self.conclude(self._so_far(self.decision))

    def _so_far(self, decision: GateDecision) -> GateDecision:
        """The decision of a turn that ended without an answer, with the tokens spent until then."""
        if decision.answered_by is not None or decision.draft_usage is not None:
            return decision
        deeper_usage = counted(self.deeper_usage) if self._went_deeper else None
        return replace(decision, draft_usage=counted(self.draft_usage), deeper_usage=deeper_usage)

    def _decided(self) -> GateDecision | None:
        try:
            draft = self.draft()
        except (DraftStopped, DraftAborted) as stopped:
            self.decision = stopped.decision
            self.announce(self._announced(stopped.decision))
            return stopped.decision
        return self._judged(draft)

    async def _adecided(self) -> GateDecision | None:
        try:
            draft = await self.adraft()
        except (DraftStopped, DraftAborted) as stopped:
            self.decision = stopped.decision
            await self.aannounce(self._announced(stopped.decision))
            return stopped.decision
        return await self._ajudged(draft)

    def _judged(self, draft: Answer) -> GateDecision | None:
        decision = self._judge(draft)
        if decision is not None:
            self.announce(self._announced(decision))
        return decision

    async def _ajudged(self, draft: Answer) -> GateDecision | None:
        decision = self._judge(draft)
        if decision is not None:
            await self.aannounce(self._announced(decision))
        return decision

    def _judge(self, draft: Answer) -> GateDecision | None:
        self.kept = self.shown(draft)
        if not self.is_draft(draft):
            return None
        calls_tools = self.calls_tools(draft)
        decision = self.delivery.passed(calls_tools=calls_tools)
        if decision is None:
            call = self.writer_of(draft)
            gate = self.delivery.gate_for(calls_tools=calls_tools)
            self._draft_model = call.model
            decision = gate.judge(self._explained(call, draft), model=call.model, temperature=call.temperature)
        held = self.decision_in(draft)
        is_of_draft = held is not None and held.answered_by == "draft" and self.delivery.gate.made(held)
        if held is not None and held.decision_id is not None and is_of_draft:
            # An inner gate of the same key has counted the saving of this draft, so it is the same decision.
            decision = replace(decision, decision_id=held.decision_id)
        remark = self.remark(draft)
        if remark is not None:
            decision = replace(decision, detail=f"{decision.detail} ({remark})")
        if self.cap_reached is not None and self.delivery.goes_deeper(decision):
            decision = self.delivery.capped(decision, self.cap_reached)
        self.decision = decision
        return decision

    def _explained(self, call: ModelCall, draft: Answer) -> Evidence:
        """The evidence of a call; where it has no logprobs, with the best known reason."""
        if not isinstance(call.logprobs, MissingLogprobs) or not self.was_asked(draft):
            return call.logprobs
        return self.delivery.gate.capabilities.explained(call.logprobs, call.model, self.why_missing(draft))

    def _announced(self, decision: GateDecision) -> GateDecision:
        return self.delivery.announced(decision, counted(self.draft_usage))

    def _with_draft(self, decision: GateDecision | None) -> Answer:
        kept = self._noted(cast("Answer", self.kept))  # None only where the user's own code answered None
        if decision is None:
            return kept
        self.decision = self.delivery.with_draft(decision, counted(self.draft_usage))
        return self.annotated(kept, self.decision)

    def _with_deeper(self, answer: Answer, decision: GateDecision) -> Answer:
        self.decision = self.delivery.with_deeper(decision, counted(self.draft_usage), counted(self.deeper_usage))
        return self.annotated(self._noted(answer), self.decision)

    def _noted(self, answer: Answer) -> Answer:
        """Keep the text of an answer, or of a chunk of it, for a ledger that keeps texts; returns the answer."""
        if self._said is not None and (text := self.text_of(answer)) is not None:
            self._said.append(text)
        return answer

    def _after_failure(self, decision: GateDecision, error: Exception) -> Answer:
        """The draft, as the answer where the deeper branch failed."""
        if self.is_control_flow(error):
            raise error
        failed = self.delivery.after_failure(decision, error)
        return self._with_draft(replace(failed, deeper_usage=counted(self.deeper_usage)))
