"""The smallest framework that a gated turn can be made for: answers are values, models say what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import cast

from tje_middleware import GateDecision, MissingLogprobs, TokenUsage
from tje_middleware.calls.log import ModelCall
from tje_middleware.gate.delivery import Delivery
from tje_middleware.gate.turn import GatedTurn
from tje_middleware.logprobs.evidence import Evidence

MISSING = MissingLogprobs("it came without logprobs; ask the provider for logprobs=True and top_logprobs=20")
DRAFT_COST, DEEPER_COST = TokenUsage(10, 5, calls=1), TokenUsage(10, 40, calls=1)


@dataclass(frozen=True)
class Said:
    """An answer, or a chunk of one; ``place`` says whether a decision can be put into it."""

    text: str
    logprobs: Evidence | None = None
    decision: GateDecision | None = None
    place: bool = True
    calls_tools: bool = False
    by_model: bool = True


class Model:
    """Says its parts in their order, or raises what is among them."""

    def __init__(self, *parts: Said | BaseException) -> None:
        self.parts = parts
        self.times_asked = 0
        self.is_closed = False
        self._streams: list[object] = []  # held here: what is closed is closed by whoever read it

    def stream(self) -> Iterator[Said]:
        chunks = self.chunks()
        self._streams.append(chunks)
        return chunks

    def astream(self) -> AsyncIterator[Said]:
        chunks = self.achunks()
        self._streams.append(chunks)
        return chunks

    def whole(self) -> Said:
        parts = list(self.chunks())
        return replace(parts[-1], text="".join(part.text for part in parts))

    async def awhole(self) -> Said:
        await asyncio.sleep(0)
        return self.whole()

    def chunks(self) -> Iterator[Said]:
        self.times_asked += 1
        try:
            for part in self.parts:
                if isinstance(part, BaseException):
                    raise part
                yield part
        finally:
            self.is_closed = True

    async def achunks(self) -> AsyncIterator[Said]:
        self.times_asked += 1
        try:
            for part in self.parts:
                await asyncio.sleep(0)
                if isinstance(part, BaseException):
                    raise part
                yield part
        finally:
            self.is_closed = True


class Interrupted(Exception):  # noqa: N818
    """The framework's way to stop and to be resumed."""


@dataclass
class Seen:
    """What a turn told, in its order, and what its deeper branch was given."""

    announced: list[GateDecision] = field(default_factory=list)
    by_deeper: list[tuple[Said | None, GateDecision, int]] = field(default_factory=list)
    passed_on: list[str] = field(default_factory=list)
    concluded: list[GateDecision] = field(default_factory=list)


class WholeTurn(GatedTurn[Said]):
    """A framework whose models answer whole, and in no other way."""

    def __init__(self, delivery: Delivery, draft: Model, deeper: Model, *, cap: str | None = None) -> None:
        super().__init__(delivery)
        self.small, self.big = draft, deeper
        self.cap = cap
        self.seen = Seen()
        self.costs = DRAFT_COST, DEEPER_COST

    def draft(self) -> Said:
        return self.small.whole()

    async def adraft(self) -> Said:
        return await self.small.awhole()

    def deeper(self, decision: GateDecision) -> Said:
        self._note(decision)
        return self.big.whole()

    async def adeeper(self, decision: GateDecision) -> Said:
        self._note(decision)
        return await self.big.awhole()

    def require_deeper(self, *, on_loop: bool) -> None:
        if not self.big.parts:
            raise TypeError(f"there is nobody to ask, on_loop={on_loop}")

    def writer_of(self, draft: Said) -> ModelCall:
        return ModelCall("r1", draft.logprobs or MISSING, DRAFT_COST, model="m")

    def annotated(self, answer: Said, decision: GateDecision) -> Said:
        return replace(answer, decision=decision) if answer.place else answer

    @property
    def draft_usage(self) -> TokenUsage:
        return self.costs[0]

    @property
    def deeper_usage(self) -> TokenUsage:
        return self.costs[1]

    def shown(self, draft: Said) -> Said:
        return replace(draft, logprobs=None)

    def passed_on(self, chunk: Said) -> Said:
        self.seen.passed_on.append(chunk.text)
        return chunk

    def has_place(self, chunk: Said) -> bool:
        return chunk.place

    def is_draft(self, draft: Said) -> bool:
        return draft.by_model

    def calls_tools(self, draft: Said) -> bool:
        return draft.calls_tools

    def why_missing(self, draft: Said) -> str | None:
        return "calls have none here" if draft.calls_tools else None

    @property
    def cap_reached(self) -> str | None:
        return self.cap

    def announce(self, decision: GateDecision) -> None:
        self.seen.announced.append(decision)

    def tell(self, decision: GateDecision) -> None:
        self.seen.concluded.append(decision)

    def decision_in(self, draft: Said) -> GateDecision | None:
        return draft.decision

    @property
    def deeper_model(self) -> str | None:
        return "big"

    def question_text(self) -> str | None:
        return "6 x 7?"

    def text_of(self, answer: Said) -> str | None:
        return answer.text

    def is_control_flow(self, error: Exception) -> bool:
        return isinstance(error, Interrupted)

    def _note(self, decision: GateDecision) -> None:
        self.seen.by_deeper.append((self.kept, decision, len(self.seen.announced)))


class Turn(WholeTurn):
    """A framework whose models stream."""

    def draft_chunks(self) -> Iterator[Said]:
        return self.small.stream()

    def adraft_chunks(self) -> AsyncIterator[Said]:
        return self.small.astream()

    def deeper_chunks(self, decision: GateDecision) -> Iterator[Said]:
        self._note(decision)
        return self.big.stream()

    def adeeper_chunks(self, decision: GateDecision) -> AsyncIterator[Said]:
        self._note(decision)
        return self.big.astream()


class Blocking:
    """Takes a turn without an event loop."""

    on_loop = False

    def answer(self, turn: WholeTurn) -> Said:
        return turn.answer()

    def answers(self, turn: WholeTurn) -> list[Said]:
        return list(turn.answers())

    def left_early(self, turn: WholeTurn, asked: Model) -> tuple[str, bool]:
        """The first chunk, after which nobody reads on; and whether the model's stream was closed by then."""
        chunks = turn.answers()
        first = next(chunks)
        cast("Generator[Said]", chunks).close()
        return first.text, asked.is_closed


class OnLoop:
    """Takes it on one."""

    on_loop = True

    def answer(self, turn: WholeTurn) -> Said:
        return asyncio.run(turn.aanswer())

    def answers(self, turn: WholeTurn) -> list[Said]:
        async def read() -> list[Said]:
            return [chunk async for chunk in turn.aanswers()]

        return asyncio.run(read())

    def left_early(self, turn: WholeTurn, asked: Model) -> tuple[str, bool]:
        async def read() -> tuple[str, bool]:
            chunks = turn.aanswers()
            first = await anext(chunks)
            await cast("AsyncGenerator[Said]", chunks).aclose()
            return first.text, asked.is_closed  # the end of the loop would close it, too

        return asyncio.run(read())
