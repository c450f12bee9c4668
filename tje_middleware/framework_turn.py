"""What a framework says of one turn: how its models are called, and what their answers look like."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from typing import Generic, TypeVar

from .capture import ModelCall
from .decision import GateDecision
from .usage import TokenUsage

Answer = TypeVar("Answer")


class FrameworkTurn(ABC, Generic[Answer]):
    """The part of a gated turn that is a framework's; ``GatedTurn`` calls it, and its twins differ in ``await``."""

    # How models are called

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

    # What answers look like

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

    def decision_in(self, draft: Answer) -> GateDecision | None:
        """The decision of a gate further in that the draft holds; None where it holds none."""
        return None

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

    @property
    def deeper_model(self) -> str | None:
        """The model that wrote the deeper answer; None where that is not known."""
        return None

    def question_text(self) -> str | None:
        """What was asked, in words; wanted only where a ledger keeps texts."""
        return None

    def text_of(self, answer: Answer) -> str | None:
        """The words of an answer, or of a chunk of it; likewise."""
        return None

    def tell(self, decision: GateDecision) -> None:
        """Tell whoever listens how the turn ended: which answer was taken, and what it cost; or how far it came."""

    def is_control_flow(self, error: Exception) -> bool:
        """Whether an error is the framework's way to interrupt or redirect, and not a failure."""
        return False
