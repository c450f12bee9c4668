"""One question on its way: through the draft, the gate, and where it must through the deeper branch.

What comes after what, and what happens when something fails, is here; a framework says how its models are called and
what its answers look like. The twins differ in ``await`` alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Generic, TypeVar, cast

from .capture import ModelCall
from .chunks import aclosed, amarked, closed, marked
from .decision import GateDecision
from .delivery import Delivery
from .errors import MissingLogprobs
from .evidence import Evidence
from .stopping import DraftAborted, DraftStopped
from .usage import TokenUsage

Answer = TypeVar("Answer")


class GatedTurn(ABC, Generic[Answer]):
    """One question to a draft and, where the gate says so, to a deeper branch; made anew for each.

    Args:
        delivery: The rules.

    Attributes:
        delivery: The rules.
        kept: The draft as it is delivered; None before there is one, and where it was stopped.
        decision: What was decided; None before that.
    """

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.kept: Answer | None = None
        self.decision: GateDecision | None = None

    # The way

    def answer(self) -> Answer:
        """The whole answer, with the decision in it.

        Raises:
            GateError: the draft cannot be judged, and the gate says ``on_missing="raise"``.
        """
        decision = self._decided()
        if decision is None or not self.delivery.goes_deeper(decision):
            return self._with_draft(decision)
        self.require_deeper(on_loop=False)
        try:
            answer = self.deeper(decision)
        except Exception as error:
            return self._after_failure(decision, error)
        return self._with_deeper(answer, decision)

    async def aanswer(self) -> Answer:
        """The same on the event loop."""
        decision = await self._adecided()
        if decision is None or not self.delivery.goes_deeper(decision):
            return self._with_draft(decision)
        self.require_deeper(on_loop=True)
        try:
            answer = await self.adeeper(decision)
        except Exception as error:
            return self._after_failure(decision, error)
        return self._with_deeper(answer, decision)

    def answers(self) -> Iterator[Answer]:
        """The answer in chunks: an accepted draft is one, the deeper answer comes as it is written.

        With ``annotate`` the draft comes as it is written. The decision is in the last chunk that has a place for it.
        """
        if self.delivery.mode == "annotate":
            with closed(self.draft_chunks()) as chunks:
                for chunk, is_last in marked(chunks, self.has_place):
                    yield self._with_draft(self._judged(chunk)) if is_last else self.shown(chunk)
            return
        decision = self._decided()
        if decision is None or not self.delivery.goes_deeper(decision):
            yield self._with_draft(decision)
            return
        self.require_deeper(on_loop=False)
        given = False
        try:
            with closed(self.deeper_chunks(decision)) as chunks:
                for chunk, is_last in marked(chunks, self.has_place):
                    given = True
                    yield self._with_deeper(chunk, decision) if is_last else self.passed_on(chunk)
        except Exception as error:
            if given:  # what was given out cannot be taken back
                raise
            yield self._after_failure(decision, error)

    async def aanswers(self) -> AsyncIterator[Answer]:
        """The same on the event loop."""
        if self.delivery.mode == "annotate":
            async with aclosed(self.adraft_chunks()) as chunks:
                async for chunk, is_last in amarked(chunks, self.has_place):
                    yield self._with_draft(await self._ajudged(chunk)) if is_last else self.shown(chunk)
            return
        decision = await self._adecided()
        if decision is None or not self.delivery.goes_deeper(decision):
            yield self._with_draft(decision)
            return
        self.require_deeper(on_loop=True)
        given = False
        try:
            async with aclosed(self.adeeper_chunks(decision)) as chunks:
                async for chunk, is_last in amarked(chunks, self.has_place):
                    given = True
                    yield self._with_deeper(chunk, decision) if is_last else self.passed_on(chunk)
        except Exception as error:
            if given:
                raise
            yield self._after_failure(decision, error)

    # What a framework says: how its models are called

    @abstractmethod
    def draft(self) -> Answer:
        """Ask for the whole draft.

        Raises:
            DraftStopped: it was stopped; or DraftAborted, where a framework's code stands in between.
        """

    @abstractmethod
    async def adraft(self) -> Answer:
        """The same on the event loop."""

    def draft_chunks(self) -> Iterator[Answer]:
        """Ask for the draft as it is written, with ``annotate``; whole where it comes in no other way."""
        yield self.draft()

    async def adraft_chunks(self) -> AsyncIterator[Answer]:
        """The same on the event loop."""
        yield await self.adraft()

    @abstractmethod
    def deeper(self, decision: GateDecision) -> Answer:
        """Ask the deeper branch; ``kept`` is the rejected draft."""

    @abstractmethod
    async def adeeper(self, decision: GateDecision) -> Answer:
        """The same on the event loop."""

    def deeper_chunks(self, decision: GateDecision) -> Iterator[Answer]:
        """Ask the deeper branch for its answer as it is written; whole where it comes in no other way."""
        yield self.deeper(decision)

    async def adeeper_chunks(self, decision: GateDecision) -> AsyncIterator[Answer]:
        """The same on the event loop."""
        yield await self.adeeper(decision)

    def require_deeper(self, *, on_loop: bool) -> None:
        """Refuse a way of calling that the deeper branch has not: a mistake must not pass for its failure."""

    # What its answers look like

    @abstractmethod
    def writer_of(self, draft: Answer) -> ModelCall:
        """The call that wrote the draft, with its logprobs or the reason why there are none."""

    @abstractmethod
    def annotated(self, answer: Answer, decision: GateDecision) -> Answer:
        """The answer, or the last chunk of it, with the decision in it, where there is a place for it."""

    @property
    @abstractmethod
    def draft_usage(self) -> TokenUsage:
        """What the draft spent so far."""

    @property
    @abstractmethod
    def deeper_usage(self) -> TokenUsage:
        """What the deeper branch spent so far."""

    def shown(self, draft: Answer) -> Answer:
        """The draft, or a chunk of it, as it is delivered."""
        return draft

    def passed_on(self, chunk: Answer) -> Answer:
        """A chunk of the deeper answer, other than the one that the decision is in."""
        return chunk

    def has_place(self, chunk: Answer) -> bool:
        """Whether there is a place for the decision in a chunk."""
        return True

    def is_draft(self, draft: Answer) -> bool:
        """Whether a model wrote it; what came from elsewhere is delivered undecided."""
        return True

    def calls_tools(self, draft: Answer) -> bool:
        """Whether the draft is a call of tools."""
        return False

    def why_missing(self, draft: Answer) -> str | None:
        """What this framework knows of a draft without logprobs; None where that is nothing more."""
        return None

    def was_asked(self, draft: Answer) -> bool:
        """Whether a model was asked for logprobs at all; where none was called, none refused."""
        return True

    def remark(self, draft: Answer) -> str | None:
        """What is to be said of the decision about a draft beside its reason."""
        return None

    # What goes on around it

    @property
    def cap_reached(self) -> str | None:
        """The cap, in words, that forbids going deeper; None where it is allowed."""
        return None

    def announce(self, decision: GateDecision) -> None:
        """Tell whoever listens, before the deeper branch runs."""

    async def aannounce(self, decision: GateDecision) -> None:
        """The same on the event loop."""
        self.announce(decision)

    def is_control_flow(self, error: Exception) -> bool:
        """Whether an error is the framework's way to interrupt or redirect, and not a failure."""
        return False

    # The steps

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
            decision = gate.decide(self._explained(call, draft), model=call.model, temperature=call.temperature)
        remark = self.remark(draft)
        if remark is not None:
            decision = replace(decision, detail=f"{decision.detail} ({remark})")
        if self.cap_reached is not None and self.delivery.goes_deeper(decision):
            decision = self.delivery.capped(decision, self.cap_reached)
        self.decision = decision
        return decision

    def _explained(self, call: ModelCall, draft: Answer) -> Evidence:
        """The call's evidence; where there is none, with the reason as far as it is known."""
        if not isinstance(call.logprobs, MissingLogprobs) or not self.was_asked(draft):
            return call.logprobs
        return self.delivery.gate.capabilities.explained(call.logprobs, call.model, self.why_missing(draft))

    def _announced(self, decision: GateDecision) -> GateDecision:
        """The decision as it is told before the deeper branch runs: where none does, the draft is the answer."""
        return self.delivery.announced(decision, self.draft_usage)

    def _with_draft(self, decision: GateDecision | None) -> Answer:
        kept = cast("Answer", self.kept)  # None only where that is what the user's own code answered
        if decision is None:
            return kept
        self.decision = self.delivery.with_draft(decision, self.draft_usage)
        return self.annotated(kept, self.decision)

    def _with_deeper(self, answer: Answer, decision: GateDecision) -> Answer:
        self.decision = self.delivery.with_deeper(decision, self.draft_usage, self.deeper_usage)
        return self.annotated(answer, self.decision)

    def _after_failure(self, decision: GateDecision, error: Exception) -> Answer:
        """The draft in the place of a deeper branch that failed."""
        if self.is_control_flow(error):
            raise error
        return self._with_draft(self.delivery.after_failure(decision, error))
