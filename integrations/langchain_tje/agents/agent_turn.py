"""One model call of an agent on its way through the gate: draft and deeper answer come from the agent's handler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

from langchain.agents.middleware import ExtendedModelResponse
from langchain.agents.structured_output import StructuredOutputError
from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.config import RunnableConfig, ensure_config, merge_configs, var_child_runnable_config
from langgraph.types import Command

from tje_middleware import GateDecision
from tje_middleware.gate.decision import METADATA_KEY
from tje_middleware.gate.delivery import Delivery

from ..asking.chain import Asking, resolved
from ..messages.answer import annotated, in_words, without_logprobs
from ..messages.message_turn import MessageTurn
from ..messages.visibility import EVENT, Visibility, trace_metadata
from .agent_branch import (
    AgentAsk,
    AsyncHandler,
    CustomBranch,
    Handler,
    Request,
    Response,
    response_in,
    with_instruction,
)
from .deeper_count import DeeperCount


class AgentTurn(MessageTurn):
    """A model call of an agent.

    Args:
        delivery: The rules, with the deeper branch.
        instruction: For the deeper branch's system message.
        request: The agent's request.
        handler: Calls the agent's model; to be awaited where the turn is taken on the event loop.
        count: How often the gate went deeper.
    """

    def __init__(
        self,
        delivery: Delivery,
        instruction: str | None,
        request: Request,
        handler: Handler | AsyncHandler,
        count: DeeperCount,
    ) -> None:
        mode = delivery.mode_for(
            may_call_tools=bool(request.tools or request.response_format), capped=count.cap_reached is not None
        )
        self._visibility = Visibility(mode)
        visited = Asking.for_gate(delivery.gate, self._visibility).visit(_known(request.model))
        super().__init__(delivery, visited)
        self._instruction = instruction
        self._request = request
        # The model itself asks for logprobs: the request's settings would also reach a model that steps in for it.
        self._draft_request = request.override(model=cast("Any", visited.runnable))
        self._handler: Any = handler
        self._count = count
        self._unparsed: StructuredOutputError | None = None

    def draft(self) -> Response:
        """The agent's answer, also one that breaks the response format."""
        with self._writing_draft():
            try:
                return cast("Response", self._handler(self._draft_request))
            except StructuredOutputError as error:
                return self._unread(error)

    async def adraft(self) -> Response:
        """The same on the event loop."""
        with self._writing_draft():
            try:
                return cast("Response", await self._handler(self._draft_request))
            except StructuredOutputError as error:
                return self._unread(error)

    def deeper(self, decision: GateDecision) -> object:
        """The branch's answer."""
        with self._going_deeper(decision):
            return super().deeper(decision)

    async def adeeper(self, decision: GateDecision) -> object:
        """The same on the event loop."""
        with self._going_deeper(decision):
            return await super().adeeper(decision)

    def message_in(self, answer: Response) -> AIMessage | None:
        """The model's message; a structured output's tool message may follow it."""
        return next((message for message in reversed(answer.result) if isinstance(message, AIMessage)), None)

    def is_draft(self, draft: Response) -> bool:
        """Whether a model wrote it; a middleware may answer in the model's place."""
        return self.message_in(draft) is not None

    def shown(self, draft: Response) -> Response:
        """The draft unchanged: ``annotated`` takes the logprobs out."""
        return draft

    def annotated(self, answer: Any, decision: GateDecision) -> ExtendedModelResponse[Any]:
        """The answer with the decision in its message and in the agent's state, and with no logprobs anywhere.

        Raises:
            StructuredOutputError: the draft's own, as the agent would raise it without a gate.
            TypeError: the deeper branch answered with what is no answer, which is a mistake and no failure of it.
        """
        by_deeper = decision.answered_by == "deeper"
        response = self._deeper_response(answer) if by_deeper else cast("Response", answer)
        plain = self.message_in(response)
        if plain is None:
            raise TypeError("the deeper branch answered without an AIMessage")
        message = annotated(without_logprobs(plain), decision)
        if self._unparsed is not None and not by_deeper:
            self._unparsed.ai_message = message
            raise self._unparsed
        result = [message if each is plain else without_logprobs(each) for each in response.result]
        update = {METADATA_KEY: [message.response_metadata[METADATA_KEY]], **self._count.update}
        return ExtendedModelResponse(replace(response, result=result), Command(update=update))

    @property
    def cap_reached(self) -> str | None:
        """The cap of this turn or this run that is reached."""
        return self._count.cap_reached

    def announce(self, decision: GateDecision) -> None:
        """Tell callback handlers and ``stream_mode="custom"`` of the decision; outside of a run there are none."""
        if _has_run():
            dispatch_custom_event(EVENT, decision.as_dict())
            self._write(decision)

    async def aannounce(self, decision: GateDecision) -> None:
        """The same on the event loop."""
        if _has_run():
            await adispatch_custom_event(EVENT, decision.as_dict())
            self._write(decision)

    def question_text(self) -> str | None:
        """The conversation so far."""
        return in_words(self._request.messages)

    def _deeper_response(self, answer: object) -> Response:
        if isinstance(self._branch, CustomBranch):
            return self._branch.read(answer, self._request)
        return response_in(answer)

    @contextmanager
    def _writing_draft(self) -> Iterator[None]:
        """Mark the runs in the block as the draft's; LangGraph streams no tokens of a draft that may be rejected."""
        # The tags are for the models of other middleware as well, such as one that a fallback brings in.
        tags = self._visibility.tags
        with _running(RunnableConfig(callbacks=[self._drafting], tags=tags, metadata={"tje.role": "draft"})):
            yield

    @contextmanager
    def _going_deeper(self, decision: GateDecision) -> Iterator[None]:
        """Mark the runs in the block as the deeper branch's, and count that the gate went deeper."""
        metadata = {"tje.role": "deeper", **trace_metadata(decision)}
        with self._count.going_deeper(), _running(RunnableConfig(callbacks=[self._deepening], metadata=metadata)):
            yield

    def _write(self, decision: GateDecision) -> None:
        if self._request.runtime is not None:
            self._request.runtime.stream_writer({METADATA_KEY: decision.as_dict()})

    def _unread(self, error: StructuredOutputError) -> Response:
        """The draft that the error holds: the agent could not parse it, but the gate can judge it."""
        self._unparsed = error
        return Response(result=[error.ai_message])

    def ask(self, decision: GateDecision) -> AgentAsk:
        """The conversation, and the agent's handler to ask its model again."""
        known = None if self.kept is None or self._unparsed is not None else self.message_in(self.kept)
        request = with_instruction(self._request, self._instruction)
        system = request.system_message
        return AgentAsk(
            question=[*([system] if system else []), *request.messages],
            draft=without_logprobs(known),
            decision=decision,
            request=request,
            handler=self._handler,
        )


def _known(model: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """The request's model; a configurable one, also within a binding, as this run's configuration makes it."""
    if isinstance(model, RunnableBindingBase):
        return model.model_copy(update={"bound": _known(model.bound)})
    if isinstance(model, RunnableWithFallbacks):
        return model
    return resolved(model, None)[0]


def _has_run() -> bool:
    return getattr(ensure_config().get("callbacks"), "parent_run_id", None) is not None


@contextmanager
def _running(more: RunnableConfig) -> Iterator[None]:
    token = var_child_runnable_config.set(merge_configs(var_child_runnable_config.get(), more))
    try:
        yield
    finally:
        var_child_runnable_config.reset(token)
