"""One question on its way: through the draft, the gate, and where it must through the deeper model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import cast

from .._chunks import aclosed, alast_marked, closed, last_marked
from .._gated_call import GatedCall
from .._stopping import DraftStopped
from .direct_call import Answer, DirectCall


@dataclass(frozen=True)
class GatedTurn:
    """What one question asks of two models.

    Attributes:
        gated: The gate's part.
        draft: The request to the draft's model, which asks for logprobs.
        deeper: The request to the deeper model, if it comes to that.
    """

    gated: GatedCall
    draft: DirectCall
    deeper: DirectCall

    def answer(self) -> Answer:
        """The answer, with the decision in it."""
        try:
            decision = self.gated.judge(self.draft.whole())
        except DraftStopped as stopped:
            decision = stopped.decision
        if not self.gated.goes_deeper(decision):
            return cast("Answer", self.gated.with_draft(decision))
        try:
            answer = self.deeper.whole()
        except Exception as error:
            return cast("Answer", self.gated.after_failure(decision, error))
        return cast("Answer", self.gated.with_deeper(answer, decision))

    async def aanswer(self) -> Answer:
        """The same on the event loop."""
        try:
            decision = self.gated.judge(await self.draft.awhole())
        except DraftStopped as stopped:
            decision = stopped.decision
        if not self.gated.goes_deeper(decision):
            return cast("Answer", self.gated.with_draft(decision))
        try:
            answer = await self.deeper.awhole()
        except Exception as error:
            return cast("Answer", self.gated.after_failure(decision, error))
        return cast("Answer", self.gated.with_deeper(answer, decision))

    def answers(self) -> Iterator[Answer]:
        """An accepted draft whole, or the deeper answer as it comes; with ``annotate`` the draft as it comes.

        The decision is in the last chunk.
        """
        if self.gated.delivery.mode == "annotate":
            with closed(self.draft.chunks()) as chunks:
                for chunk, told in last_marked(chunks):
                    yield self._annotated(chunk, is_last=told is not None)
            return
        try:
            decision = self.gated.judge(self.draft.whole())
        except DraftStopped as stopped:
            decision = stopped.decision
        if not self.gated.goes_deeper(decision):
            yield self.gated.with_draft(decision)
            return
        given = False
        try:
            with closed(self.deeper.chunks()) as chunks:
                for chunk, told in last_marked(chunks):
                    given = True
                    yield chunk if told is None else self.gated.with_deeper(chunk, decision, told)
        except Exception as error:
            if given:  # what was given out cannot be taken back
                raise
            yield self.gated.after_failure(decision, error)

    async def aanswers(self) -> AsyncIterator[Answer]:
        """The same on the event loop."""
        if self.gated.delivery.mode == "annotate":
            async with aclosed(self.draft.achunks()) as chunks:
                async for chunk, told in alast_marked(chunks):
                    yield self._annotated(chunk, is_last=told is not None)
            return
        try:
            decision = self.gated.judge(await self.draft.awhole())
        except DraftStopped as stopped:
            decision = stopped.decision
        if not self.gated.goes_deeper(decision):
            yield self.gated.with_draft(decision)
            return
        given = False
        try:
            async with aclosed(self.deeper.achunks()) as chunks:
                async for chunk, told in alast_marked(chunks):
                    given = True
                    yield chunk if told is None else self.gated.with_deeper(chunk, decision, told)
        except Exception as error:
            if given:
                raise
            yield self.gated.after_failure(decision, error)

    def _annotated(self, chunk: Answer, *, is_last: bool) -> Answer:
        return cast("Answer", self.gated.with_draft(self.gated.judge(chunk)) if is_last else self.gated.shown(chunk))
