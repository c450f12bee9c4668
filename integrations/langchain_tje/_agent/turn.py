"""One model call of an agent on its way through the gate: all of it but the calls themselves. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from langchain.agents.middleware import ExtendedModelResponse
from langchain.agents.structured_output import StructuredOutputError
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langgraph.types import Command

from tje_middleware import GateDecision
from tje_middleware.decision import METADATA_KEY
from tje_middleware.delivery import Delivery, Mode

from .._answer import without_logprobs
from .._asking import Asking
from .._gated_call import GatedCall
from .._late import resolved
from .._stopping import DraftAborted
from .._usage import SpendingHandler
from .deeper import Rejected, Request, Response, with_instruction
from .state import DeeperCount

#: What is done about a draft that calls tools; the middleware's docstring explains each.
ToolCalls = Literal["gate", "pass", "deeper_on_unknown"]
_UNJUDGED_CALL = "a call of tools, which tool_calls='pass' accepts unjudged"


@dataclass(frozen=True)
class TurnRules:
    """What holds for every turn of one middleware.

    Attributes:
        delivery: How decisions are carried out.
        tool_calls: What is done about drafts that call tools.
        instruction: For the deeper branch's system message.
    """

    delivery: Delivery
    tool_calls: ToolCalls = "gate"
    instruction: str | None = None

    def call(self, message: AIMessage, call: GatedCall) -> GatedCall:
        """The call by whose rules this draft is judged."""
        if self.tool_calls != "deeper_on_unknown" or not _calls_tools(message):
            return call
        return replace(call, delivery=replace(self.delivery, gate=self.delivery.gate.with_on_missing("deeper")))

    def mode_for(self, request: Request, *, capped: bool) -> Mode:
        """How this turn's draft is treated while it is written."""
        # A draft that nothing will replace is not stopped; nor one that may turn out to be a call that passes.
        may_pass = self.tool_calls == "pass" and bool(request.tools or request.response_format)
        mode = self.delivery.mode
        return "hold" if mode == "abort" and (capped or may_pass) else mode


@dataclass
class GatedTurn:
    """What is known of one model call of an agent, and what is delivered.

    Attributes:
        rules: The middleware's.
        request: The agent's request.
        count: How often the gate went deeper.
        mode: How this draft is treated while it is written.
        draft_request: The request for the draft: its model, and no setting that another would get, asks for logprobs.
        call: The draft's way through the gate.
        spent: Counts what the deeper branch spends.
        decision: What was decided; None before that, and where no model answered.
    """

    rules: TurnRules
    request: Request
    count: DeeperCount
    mode: Mode = field(init=False)
    draft_request: Request = field(init=False)
    call: GatedCall = field(init=False)
    spent: SpendingHandler = field(default_factory=SpendingHandler)
    decision: GateDecision | None = None
    _drafted: Response | None = None
    _unparsed: StructuredOutputError | None = None

    def __post_init__(self) -> None:
        gate = self.rules.delivery.gate
        self.mode = self.rules.mode_for(self.request, capped=self.count.cap_reached is not None)
        asking = Asking(top_k=gate.key.top_k, capabilities=gate.capabilities, mode=self.mode, gate=gate)
        visited = asking.visit(_known(self.request.model))
        self.draft_request = self.request.override(model=cast("Any", visited.runnable))
        self.call = GatedCall(
            self.rules.delivery, model_seen=visited.asked, one_writer=visited.asked, deepening=self.spent
        )

    def judge(self, response: Response) -> None:
        """Decide about a draft.

        Raises:
            GateError: it cannot be judged, and the gate says ``on_missing="raise"``.
        """
        self._drafted = response
        message = _answer_in(response.result)
        if message is not None:  # else it was no model that answered, but a middleware in its place
            self._decide(message)

    def judge_unfinished(self, ended: DraftAborted | StructuredOutputError) -> None:
        """Decide about a draft that was stopped, or that is not what the response format says.

        Raises:
            GateError: as ``judge``.
        """
        if isinstance(ended, DraftAborted):
            self.decision = ended.decision
        else:
            self._unparsed = ended
            self._decide(ended.ai_message)

    @property
    def goes_deeper(self) -> bool:
        """Whether the deeper branch is to run."""
        return self.decision is not None and self.call.goes_deeper(self.decision)

    @property
    def announced(self) -> GateDecision | None:
        """The decision as callback handlers are told; None where no model answered."""
        return None if self.decision is None else self.call.announced(self.decision)

    @property
    def rejected(self) -> Rejected:
        """What the deeper branch is told."""
        draft = None if self._unparsed is not None else self.call.draft
        request = with_instruction(self.request, self.rules.instruction)
        return Rejected(request, draft, cast("GateDecision", self.decision))

    def with_draft(self) -> Response | ExtendedModelResponse[Any]:
        """The draft as the agent's answer.

        Raises:
            StructuredOutputError: the draft's own, as the agent would raise it without a gate.
        """
        if self.decision is None:
            return cast("Response", self._drafted)
        return self._delivered_draft(self.call.with_draft(self.decision))

    def with_deeper(self, response: Response) -> ExtendedModelResponse[Any]:
        """The deeper branch's answer.

        Raises:
            TypeError: no message of a model is in it.
        """
        message = without_logprobs(_answer_in(response.result))
        if message is None:
            raise TypeError("the deeper branch answered without an AIMessage")
        return self._delivered(response, self.call.with_deeper(message, cast("GateDecision", self.decision)))

    def after_failure(self, error: Exception) -> ExtendedModelResponse[Any]:
        """The draft in the place of a deeper branch that failed.

        Raises:
            Exception: the error itself, where the policy says so, where it is an interrupt of the graph, or where
                there is no draft.
        """
        return self._delivered_draft(self.call.after_failure(cast("GateDecision", self.decision), error))

    def _decide(self, message: AIMessage) -> None:
        if self.rules.tool_calls == "pass" and _calls_tools(message):
            self.call.draft = self.call.shown(message)
            self.decision = self.rules.delivery.gate.passed("tool_call", _UNJUDGED_CALL)
            return
        self.call = self.rules.call(message, self.call)
        decision = self.call.judge(message)
        cap = self.count.cap_reached
        if cap is not None and self.call.goes_deeper(decision):
            decision = self.rules.delivery.capped(decision, cap)
        self.decision = decision

    def _delivered_draft(self, message: AIMessage) -> ExtendedModelResponse[Any]:
        if self._unparsed is not None:
            self._unparsed.ai_message = message
            raise self._unparsed
        return self._delivered(cast("Response", self._drafted), message)

    def _delivered(self, response: Response, answer: AIMessage) -> ExtendedModelResponse[Any]:
        """The response with the answer that has the decision in it, and no logprobs anywhere."""
        plain = _answer_in(response.result)
        result = [answer if message is plain else without_logprobs(message) for message in response.result]
        update = {METADATA_KEY: [answer.response_metadata[METADATA_KEY]], **self.count.update}
        return ExtendedModelResponse(replace(response, result=result), Command(update=update))


def _answer_in(messages: list[BaseMessage]) -> AIMessage | None:
    """The model's message; a structured output's tool message may follow it."""
    return next((message for message in reversed(messages) if isinstance(message, AIMessage)), None)


def _calls_tools(message: AIMessage) -> bool:
    return bool(message.tool_calls or message.invalid_tool_calls)


def _known(model: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """The model that a configurable one, or one within a binding, is in this run."""
    if isinstance(model, RunnableBindingBase):
        return model.model_copy(update={"bound": _known(model.bound)})
    if isinstance(model, RunnableWithFallbacks):
        return model
    return resolved(model, None)[0]
