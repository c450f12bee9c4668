"""One answer on its way through the gate, whatever asks for it: a runnable, an agent, a graph. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from langchain_core.messages import AIMessage

from tje_middleware import GateDecision, MissingLogprobs, Route, TokenUsage
from tje_middleware.delivery import Delivery

from ._answer import annotated, message_in, without_logprobs
from ._capture import DraftCapture
from ._deeper import is_control_flow
from ._usage import SpendingHandler

_CALL = (
    "the draft is a call of tools, for which its provider gave no logprobs; where calls need no second look, "
    "EntropyGateMiddleware(tool_calls='pass') accepts them unjudged"
)
_HIDDEN = (
    "the chain calls its model where it cannot be asked for logprobs: use a chat model wrapped in ask_logprobs() "
    "there"
)


class Spender(Protocol):
    """What counts the spending of a branch."""

    @property
    def usage(self) -> TokenUsage:
        """What was spent so far."""
        ...


@dataclass
class GatedCall:
    """What is known of one draft, what was decided, and what is delivered.

    Attributes:
        delivery: The rules.
        model_seen: Whether there was a model to be asked; a draft without one is explained otherwise.
        one_writer: Whether no more than one of them writes the draft.
        keeps_logprobs: Whether the user asks for logprobs anyway, and expects them in the answer.
        drafting: Watches the draft's model calls.
        deepening: Counts what those of the deeper branch spend.
        draft: The draft, once there is one; None where it was stopped.
    """

    delivery: Delivery
    model_seen: bool = True
    one_writer: bool = True
    keeps_logprobs: bool = False
    drafting: DraftCapture = field(default_factory=DraftCapture)
    deepening: Spender = field(default_factory=SpendingHandler)
    draft: Any = None

    def judge(self, draft: object) -> GateDecision:
        """Decide about a draft that was written to its end.

        Raises:
            GateError: it cannot be judged, and the gate says ``on_missing="raise"``.
        """
        call = self.drafting.writer_of(message_in(draft) or draft, trusted=self.one_writer)
        logprobs: object = call.logprobs
        if isinstance(logprobs, MissingLogprobs):
            logprobs = self._explained(logprobs, call.model, message_in(draft))
        self.draft = self.shown(draft)
        return self.delivery.gate.decide(logprobs, model=call.model, temperature=call.temperature)

    def shown(self, chunk: object) -> Any:
        """A chunk of a draft that passes through."""
        return chunk if self.keeps_logprobs else without_logprobs(chunk)

    def goes_deeper(self, decision: GateDecision) -> bool:
        """Whether the deeper branch is to run."""
        return self.delivery.goes_deeper(decision)

    def announced(self, decision: GateDecision) -> GateDecision:
        """The decision as it is told before the deeper branch runs: where none does, the draft is the answer."""
        # One that is given up stays open: whoever stands around this gate must not take it for accepted.
        settled = decision.accepted or (decision.route is Route.DEEPER and not self.goes_deeper(decision))
        return self.delivery.with_draft(decision, self.draft_usage) if settled else decision

    def with_draft(self, decision: GateDecision) -> Any:
        """The draft as the answer."""
        return annotated(self.draft, self.delivery.with_draft(decision, self.draft_usage))

    def with_deeper(self, answer: object, decision: GateDecision, told: TokenUsage | None = None) -> Any:
        """The deeper branch's answer, or the last chunk of it; ``told`` is the usage that earlier chunks told of."""
        decision = self.delivery.with_deeper(decision, self.draft_usage, self.deepening.usage)
        return annotated(answer, decision, told)

    def after_failure(self, decision: GateDecision, error: Exception) -> Any:
        """The draft in the place of a deeper branch that failed.

        Raises:
            Exception: the error itself, where there is no draft to be had, where the policy says so, or where it is
                LangGraph's way to interrupt a graph.
        """
        if is_control_flow(error):
            raise error
        return self.with_draft(self.delivery.after_failure(decision, error))

    @property
    def draft_usage(self) -> TokenUsage:
        """What the draft spent: all its model calls."""
        return self.drafting.usage

    def _explained(self, missing: MissingLogprobs, model: str | None, message: AIMessage | None) -> MissingLogprobs:
        """Why there are no logprobs, as far as it is known here."""
        # Not every integration names its model; what any model of this gate said is then the best there is.
        capabilities = self.delivery.gate.capabilities
        refusal = capabilities.refusal(model) if model else capabilities.any_refusal()
        if refusal is not None:
            return MissingLogprobs(refusal)
        if not self.model_seen:
            return MissingLogprobs(_HIDDEN)
        if message is not None and message.tool_calls:
            return MissingLogprobs(_CALL)
        said, _, _ = str(missing).partition("; ask the provider")
        if said.endswith("came without logprobs"):  # of a shape that says nothing to whoever gates a chain
            said = "the draft came without logprobs"
        return MissingLogprobs(f"{said}; the model was asked for them")
