"""One run of a gated runnable: the calls around what ``GatedCall`` decides, sync and async, whole and in chunks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.runnables import Runnable, RunnableConfig

from tje_middleware import GateDecision
from tje_middleware.delivery import Delivery

from ._chunks import aclosed, alast_marked, closed, last_marked
from ._deeper import deeper_arguments, rejecting, require_async, require_sync
from ._gated_call import GatedCall
from ._stopping import DraftAborted
from ._trace import atraced, deeper_config, draft_config, traced

Manager = TypeVar("Manager", CallbackManagerForChainRun, AsyncCallbackManagerForChainRun)


@dataclass(frozen=True)
class Prepared:
    """What is the same for every run of one gated runnable.

    Attributes:
        asking: The draft, its model asked for logprobs.
        deeper: The deeper branch.
        delivery: The rules.
        model_seen: Whether there was a model to be asked.
        one_writer: Whether no more than one of them writes the draft.
        keeps_logprobs: Whether the user asks for logprobs anyway, and expects them in the answer.
    """

    asking: Runnable[Any, Any]
    deeper: Runnable[Any, Any]
    delivery: Delivery
    model_seen: bool
    one_writer: bool
    keeps_logprobs: bool


@dataclass
class _Run(Generic[Manager]):
    """What both kinds of runs know.

    Attributes:
        prepared: What is the same for every run.
        config: The run's.
        run_manager: The run's.
        settings: What the user passed on to the draft and the deeper branch.
        call: What is known of the draft.
    """

    prepared: Prepared
    config: RunnableConfig
    run_manager: Manager
    settings: dict[str, Any]
    call: GatedCall = field(init=False)

    def __post_init__(self) -> None:
        known = self.prepared
        self.call = GatedCall(
            known.delivery,
            model_seen=known.model_seen,
            one_writer=known.one_writer,
            keeps_logprobs=known.keeps_logprobs or bool(self.settings.get("logprobs")),
        )

    @property
    def _watched(self) -> RunnableConfig:
        hidden = self.prepared.delivery.mode != "annotate"
        return draft_config(self.config, self.run_manager, self.call.drafting, hidden=hidden)

    def _deepening(self, decision: GateDecision) -> RunnableConfig:
        return deeper_config(self.config, self.run_manager, decision, self.call.deepening)

    def _arguments(self, decision: GateDecision) -> dict[str, Any]:
        return deeper_arguments(self.prepared.deeper, self.call.draft, decision, self.settings)


class SyncRun(_Run[CallbackManagerForChainRun]):
    """A run that blocks."""

    def answer(self, question: Any) -> Any:
        """The whole answer."""
        decision = self._decided(question)
        if not self.call.goes_deeper(decision):
            return self.call.with_draft(decision)
        require_sync(self.prepared.deeper)
        try:
            with rejecting(self.call.draft):
                answer = self.prepared.deeper.invoke(question, self._deepening(decision), **self._arguments(decision))
        except Exception as error:
            return self.call.after_failure(decision, error)
        return self.call.with_deeper(answer, decision)

    def chunks(self, question: Any) -> Iterator[Any]:
        """The answer in chunks: an accepted draft is one."""
        if self.prepared.delivery.mode == "annotate":
            yield from self._annotated(question)
            return
        decision = self._decided(question)
        if not self.call.goes_deeper(decision):
            yield self.call.with_draft(decision)
            return
        require_sync(self.prepared.deeper)
        given = False
        try:
            stream = self.prepared.deeper.stream(question, self._deepening(decision), **self._arguments(decision))
            with rejecting(self.call.draft), closed(stream) as source:
                for chunk, told in last_marked(source):
                    given = True
                    yield chunk if told is None else self.call.with_deeper(chunk, decision, told)
        except Exception as error:
            if given:  # what was given out cannot be taken back
                raise
            yield self.call.after_failure(decision, error)

    def _decided(self, question: Any) -> GateDecision:
        try:
            draft = self.prepared.asking.invoke(question, self._watched, **self.settings)
            decision = self.call.judge(draft)
        except DraftAborted as stopped:
            decision = stopped.decision
        traced(self.call.announced(decision), self.run_manager, self.config)
        return decision

    def _annotated(self, question: Any) -> Iterator[Any]:
        with closed(self.prepared.asking.stream(question, self._watched, **self.settings)) as source:
            for chunk, told in last_marked(source):
                if told is None:
                    yield self.call.shown(chunk)
                    continue
                decision = self.call.judge(chunk)
                traced(self.call.announced(decision), self.run_manager, self.config)
                yield self.call.with_draft(decision)


class AsyncRun(_Run[AsyncCallbackManagerForChainRun]):
    """The same on the event loop."""

    async def answer(self, question: Any) -> Any:
        """The whole answer."""
        decision = await self._decided(question)
        if not self.call.goes_deeper(decision):
            return self.call.with_draft(decision)
        require_async(self.prepared.deeper)
        try:
            with rejecting(self.call.draft):
                answer = await self.prepared.deeper.ainvoke(
                    question, self._deepening(decision), **self._arguments(decision)
                )
        except Exception as error:
            return self.call.after_failure(decision, error)
        return self.call.with_deeper(answer, decision)

    async def chunks(self, question: Any) -> AsyncIterator[Any]:
        """The answer in chunks: an accepted draft is one."""
        if self.prepared.delivery.mode == "annotate":
            async with aclosed(self._annotated(question)) as annotated:
                async for chunk in annotated:
                    yield chunk
            return
        decision = await self._decided(question)
        if not self.call.goes_deeper(decision):
            yield self.call.with_draft(decision)
            return
        require_async(self.prepared.deeper)
        given = False
        try:
            stream = self.prepared.deeper.astream(question, self._deepening(decision), **self._arguments(decision))
            async with aclosed(stream) as source:
                with rejecting(self.call.draft):
                    async for chunk, told in alast_marked(source):
                        given = True
                        yield chunk if told is None else self.call.with_deeper(chunk, decision, told)
        except Exception as error:
            if given:  # what was given out cannot be taken back
                raise
            yield self.call.after_failure(decision, error)

    async def _decided(self, question: Any) -> GateDecision:
        try:
            draft = await self.prepared.asking.ainvoke(question, self._watched, **self.settings)
            decision = self.call.judge(draft)
        except DraftAborted as stopped:
            decision = stopped.decision
        await atraced(self.call.announced(decision), self.run_manager, self.config)
        return decision

    async def _annotated(self, question: Any) -> AsyncIterator[Any]:
        stream = self.prepared.asking.astream(question, self._watched, **self.settings)
        async with aclosed(stream) as source:
            async for chunk, told in alast_marked(source):
                if told is None:
                    yield self.call.shown(chunk)
                    continue
                decision = self.call.judge(chunk)
                await atraced(self.call.announced(decision), self.run_manager, self.config)
                yield self.call.with_draft(decision)
