"""One run of a gated runnable: its chain and its deeper branch are called as children of the run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.runnables import Runnable, RunnableConfig

from tje_middleware import GateDecision
from tje_middleware.calls.streams import aclosed, closed
from tje_middleware.gate.delivery import Delivery

from ..branches.deeper import deeper_arguments, rejecting, require_async, require_sync
from ..callbacks.draft_capture import DraftCapture
from ..callbacks.usage import SpendingHandler
from ..messages.answer import in_words
from ..messages.trace import atraced, deeper_config, draft_config, traced
from ..messages.turn import MessageTurn


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


class ChainTurn(MessageTurn):
    """A question to a gated runnable.

    Args:
        prepared: What is the same for every run.
        question: The run's input.
        config: The run's.
        run_manager: The run's; the event loop's where the turn is taken there.
        settings: What the user passed on to the draft and the deeper branch.
    """

    def __init__(
        self,
        prepared: Prepared,
        question: Any,
        config: RunnableConfig,
        run_manager: CallbackManagerForChainRun | AsyncCallbackManagerForChainRun,
        settings: dict[str, Any],
    ) -> None:
        super().__init__(
            prepared.delivery,
            drafting=DraftCapture(),
            deepening=SpendingHandler(),
            model_seen=prepared.model_seen,
            one_writer=prepared.one_writer,
            keeps_logprobs=prepared.keeps_logprobs or bool(settings.get("logprobs")),
        )
        self._asking, self._branch = prepared.asking, prepared.deeper
        self._question = question
        self._config = config
        self._run_manager = run_manager
        self._settings = settings

    def draft(self) -> Any:
        """What the chain answers."""
        return self._asking.invoke(self._question, self._watched, **self._settings)

    async def adraft(self) -> Any:
        """The same on the event loop."""
        return await self._asking.ainvoke(self._question, self._watched, **self._settings)

    def draft_chunks(self) -> Iterator[Any]:
        """What the chain streams."""
        return self._asking.stream(self._question, self._watched, **self._settings)

    def adraft_chunks(self) -> AsyncIterator[Any]:
        """The same on the event loop."""
        return self._asking.astream(self._question, self._watched, **self._settings)

    def deeper(self, decision: GateDecision) -> Any:
        """What the branch answers."""
        with rejecting(self.kept):
            return self._branch.invoke(self._question, self._counted(decision), **self._arguments(decision))

    async def adeeper(self, decision: GateDecision) -> Any:
        """The same on the event loop."""
        with rejecting(self.kept):
            return await self._branch.ainvoke(self._question, self._counted(decision), **self._arguments(decision))

    def deeper_chunks(self, decision: GateDecision) -> Iterator[Any]:
        """What the branch streams."""
        stream = self._branch.stream(self._question, self._counted(decision), **self._arguments(decision))
        with rejecting(self.kept), closed(stream) as chunks:
            yield from chunks

    async def adeeper_chunks(self, decision: GateDecision) -> AsyncIterator[Any]:
        """The same on the event loop."""
        stream = self._branch.astream(self._question, self._counted(decision), **self._arguments(decision))
        async with aclosed(stream) as chunks:
            with rejecting(self.kept):
                async for chunk in chunks:
                    yield chunk

    def require_deeper(self, *, on_loop: bool) -> None:
        """Refuse a function without the event loop that it needs, and a generator that cannot run on it."""
        if on_loop:
            require_async(self._branch)
        else:
            require_sync(self._branch)

    def announce(self, decision: GateDecision) -> None:
        """As a run and an event of its own."""
        traced(decision, cast("CallbackManagerForChainRun", self._run_manager), self._config)

    async def aannounce(self, decision: GateDecision) -> None:
        """The same on the event loop."""
        await atraced(decision, cast("AsyncCallbackManagerForChainRun", self._run_manager), self._config)

    def question_text(self) -> str | None:
        """The run's input."""
        return in_words(self._question)

    @property
    def _watched(self) -> RunnableConfig:
        hidden = self.delivery.mode != "annotate"
        return draft_config(self._config, self._run_manager, self._drafting, hidden=hidden)

    def _counted(self, decision: GateDecision) -> RunnableConfig:
        return deeper_config(self._config, self._run_manager, decision, self._deepening)

    def _arguments(self, decision: GateDecision) -> dict[str, Any]:
        return deeper_arguments(self._branch, self.kept, decision, self._settings)
