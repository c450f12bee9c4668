"""The events around a routing step: a draft, the two ways on from it, and the word of what was decided."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import lru_cache
from typing import Any

from llama_index.core.workflow import Event
from pydantic import Field, PrivateAttr

from tje_middleware import EntropyGate, GateDecision, TokenUsage

from .._places import annotated, model_of, spent_on, text_of
from .carrying import Calls, Draft

_logger = logging.getLogger("llama_index_tje")


class DraftEvent(Event):
    """A draft that is to be judged. What else it is made with is carried on: ``DraftEvent(draft=..., question=...)``.

    Example:
        >>> from llama_index.core.llms import ChatMessage, ChatResponse
        >>> DraftEvent(draft=ChatResponse(message=ChatMessage("Lyon?")), question="The capital?").question
        'The capital?'
    """

    draft: Draft = Field(
        description="The LLM's response, with its logprobs: a ChatResponse or CompletionResponse. Or what holds none "
        "(a query engine's Response, an agent's output, a text), with the calls that made it."
    )
    calls: Calls = Field(
        default=(), description="The LLM calls that made the draft, where it does not hold their logprobs itself."
    )


class RejectedDraftEvent(Event):
    """A draft that is not the answer: what such events have in common.

    What becomes of it, they write into the ledger of the gate that rejected it. Which gate that was is not known any
    more once a Context was saved and restored between the steps: give it to ``answered`` or ``settled`` there.
    """

    draft: Draft = Field(description="The rejected draft, with the decision in it.")
    decision: GateDecision = Field(description="Why it was rejected, and what it spent.")
    _gate: EntropyGate | None = PrivateAttr(default=None)  # lost where a Context is saved between the steps

    def _written_down(
        self, decision: GateDecision, gate: EntropyGate | None, answer: object, deeper_model: str | None = None
    ) -> GateDecision:
        """The decision, which the gate writes into its ledger."""
        gate = self._gate if gate is None else gate
        if gate is not None:
            gate.amend(decision, deeper_model=deeper_model, answer=text_for(gate, answer))
        elif decision.decision_id is not None:
            _say_untold(decision.key)
        return decision


def text_for(gate: EntropyGate, answer: object) -> str | None:
    """The words of an answer, or of a question, where the gate's ledger keeps them."""
    return text_of(answer) if gate.keeps_texts else None


@lru_cache
def _say_untold(key: str | None) -> None:
    """Say it once of a gate's key."""
    _logger.warning(
        "a draft that the gate of %s rejected was answered, and no ledger is told of it: the gate is not known after "
        "a Context was restored; answered(answer, gate=gate) tells its ledger (said once)",
        key,
    )


class DeeperEvent(RejectedDraftEvent):
    """A draft that the gate is not satisfied with: for the step that thinks deeper.

    It has what the draft's event was made with, too. A user's own events may be subclasses.

    Example:
        >>> from llama_index.core.llms import CompletionResponse
        >>> from tje_middleware import Route
        >>> rejected = GateDecision(Route.DEEPER, "uncertain", "1.2 bits", "mean_entropy", "bayes")
        >>> event = DeeperEvent(draft="Lyon?", decision=rejected, question="The capital?")
        >>> answer = event.answered(CompletionResponse(text="Paris"))
        >>> answer.text, answer.additional_kwargs["tje"]["answered_by"], event.question
        ('Paris', 'deeper', 'The capital?')
    """

    def answered(self, answer: Any, *, usage: TokenUsage | None = None, gate: EntropyGate | None = None) -> Any:
        """The deeper answer, with the decision in it, where there is a place for it; the gate's ledger is told of it.

        Args:
            answer: A response; or a text or anything else, which comes back as it is.
            usage: What the deeper branch spent in all. None: what the answer says of itself, which is one call's.
            gate: Whose ledger is told. None: the gate's that rejected the draft, as long as no Context was saved and
                restored since then; after that nobody is told, which is logged once.

        Returns:
            A copy. A response of an LLM counts in its ``additional_kwargs`` what the draft spent, too.
        """
        return annotated(answer, self.settled(answer, usage=usage, gate=gate))

    def settled(
        self, answer: object, *, usage: TokenUsage | None = None, gate: EntropyGate | None = None
    ) -> GateDecision:
        """The decision of such an answer, for one that has no place for it; arguments are those of ``answered``."""
        spent = usage or spent_on(answer)
        decision = replace(self.decision, answered_by="deeper", deeper_usage=spent)
        return self._written_down(decision, gate, answer, model_of(answer))


class AbstainEvent(RejectedDraftEvent):
    """A draft that the gate gives up, since going deeper is not expected to help: for the step that hands over.

    It has what the draft's event was made with, too.

    Example:
        >>> from tje_middleware import Route
        >>> hopeless = GateDecision(Route.ABSTAIN, "hopeless", "4 bits", "mean_entropy", "bayes")
        >>> event = AbstainEvent(draft="Lyon?", decision=hopeless)
        >>> event.answered("Ask a geographer."), event.settled().answered_by
        ('Ask a geographer.', 'human')
    """

    def answered(self, answer: Any, *, gate: EntropyGate | None = None) -> Any:
        """What a human answered, with the decision in it, where there is a place for it: a text has none.

        Args:
            answer: A response, or a text or anything else.
            gate: As in :meth:`DeeperEvent.answered`.
        """
        return annotated(answer, self.settled(answer, gate=gate))

    def settled(self, answer: object = None, *, gate: EntropyGate | None = None) -> GateDecision:
        """The decision of a human's answer; the gate's ledger is told of it. Arguments as above."""
        return self._written_down(replace(self.decision, answered_by="human"), gate, answer)


class DecisionEvent(Event):
    """What a routing step decided, in the workflow's stream of events, before the next step runs.

    Example:
        >>> from tje_middleware import Route
        >>> decision = GateDecision(Route.FINAL, "confident", "0.3 bits", "mean_entropy", "bayes")
        >>> DecisionEvent(decision=decision).decision.route
        <Route.FINAL: 'final'>
    """

    decision: GateDecision = Field(description="With ``answered_by`` where the draft is the answer.")
