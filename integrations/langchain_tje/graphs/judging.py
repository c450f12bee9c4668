"""Judging a draft in a graph once: its message then holds the decision and no logprobs; and a human's reply to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid4, uuid5

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, convert_to_messages
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import set_config_context
from langgraph.types import interrupt

from tje_middleware import EntropyGate, GateDecision, MissingLogprobs, TokenUsage
from tje_middleware.calls.usage import usage_of
from tje_middleware.gate.decision import METADATA_KEY, decision_held
from tje_middleware.gate.delivery import Delivery
from tje_middleware.logprobs.evidence import read, without_advice

from ..messages.answer import annotated, in_words, is_cached, without_logprobs

_HINT = (
    "ask for them in the node that drafts, with ask_logprobs(model), unless the model refuses, and judge the message "
    "before it is changed"
)


class Judged(NamedTuple):
    """A message that holds its decision.

    Attributes:
        message: Without logprobs.
        decision: What was decided about it.
    """

    message: AIMessage
    decision: GateDecision


def judged(message: AIMessage, delivery: Delivery, *, asked: Any, hands_over: bool, is_kept: bool) -> Judged:
    """Decide about a draft, unless that was done before.

    Args:
        message: The draft.
        delivery: The rules.
        asked: The messages that it answers, or a text; None where they are not known.
        hands_over: Whether a draft that is given up goes to somebody; if not, it is the answer.
        is_kept: Whether the message stays in the state with its decision. If not, the next node judges the draft that
            it finds there anew, maybe out of a checkpoint, and has to come to this same decision.

    Raises:
        GateError: it cannot be judged, and the gate says ``on_missing="raise"``.
    """
    decision = decision_in(message)
    if decision is not None and delivery.gate.made(decision):
        return Judged(without_logprobs(message), decision)
    evidence = read(message)
    if isinstance(evidence, MissingLogprobs):
        evidence = MissingLogprobs(f"{without_advice(evidence)}; {_HINT}")
    model = model_of(message)
    decision = _named(delivery.gate.judge(evidence, model=model), message, asked, is_kept=is_kept)
    decision = delivery.handed_on(decision, spent_on(message), hands_over=hands_over)
    delivery.gate.settle(  # a deeper node or a human that answers amends it
        decision,
        draft_model=model,
        prompt=in_words(asked) if asked is not None and delivery.gate.keeps_texts else None,
        answer=text_for(delivery.gate, message) if decision.answered_by == "draft" else None,
    )
    message = annotated(without_logprobs(message), decision)
    # The answer that replaces the draft finds it by its id.
    return Judged(message if message.id else message.model_copy(update={"id": str(uuid4())}), decision)


def decision_in(message: object) -> GateDecision | None:
    """The decision in a message, also one out of a checkpoint; None where there is none that can be read."""
    return decision_held(message.response_metadata.get(METADATA_KEY)) if isinstance(message, AIMessage) else None


def model_of(message: AIMessage) -> str | None:
    """The model that a message names as its writer."""
    name = message.response_metadata.get("model_name")
    return name if isinstance(name, str) else None


def spent_on(message: AIMessage) -> TokenUsage:
    """What the one call that wrote a message spent, as far as its provider said."""
    said = message.usage_metadata
    if is_cached(said):
        return usage_of(0, 0)
    return usage_of(said["input_tokens"], said["output_tokens"]) if said else usage_of(None, None)


def text_for(gate: EntropyGate, answer: AIMessage) -> str | None:
    """The words of an answer, where the gate's ledger keeps them."""
    return str(answer.text) if gate.keeps_texts else None


def _named(decision: GateDecision, message: AIMessage, asked: Any, *, is_kept: bool) -> GateDecision:
    """The decision with an id made of the draft's: judging one draft twice in a run gives the same id."""
    names = [message.id, decision.key]
    if is_cached(message.usage_metadata):  # a cached message has the id of the run that first wrote it
        if is_kept:
            return decision
        messages = asked if isinstance(asked, list) else []
        names.append(next((each.id for each in reversed(messages) if isinstance(each, HumanMessage)), None))
    if None in names:
        return decision
    return replace(decision, decision_id=uuid5(NAMESPACE_URL, " ".join(map(str, names))).hex)


def reply_to(asked: dict[str, Any], config: RunnableConfig | None) -> Any:
    """Interrupt the graph until it is resumed with a reply; returns the content of it, or None for no reply.

    Raises:
        GraphInterrupt: LangGraph's own, which saves the graph where it stands.
    """
    reply = _interrupted(asked, config)
    # LangGraph keeps what a graph was resumed with, so an error here would come again at every resumption.
    while not _is_reply(reply):
        problem = f"a reply is a text, a message or a dict with its 'content', not {reply!r}"
        reply = _interrupted({**asked, "problem": problem}, config)
    return _content(reply) or None


def question_of(messages: list[Any]) -> str | None:
    """The text of the last question in a conversation."""
    questions = (message for message in reversed(convert_to_messages(messages)) if isinstance(message, HumanMessage))
    question = next(questions, None)
    return None if question is None else str(question.text)


def answer_of(content: Any, draft: Judged, delivery: Delivery) -> AIMessage:
    """The message that takes the draft's place: the human's, or the draft itself where there was no reply."""
    if content is None:
        decision = delivery.with_draft(draft.decision, draft.decision.draft_usage)
        delivery.gate.amend(decision, answer=text_for(delivery.gate, draft.message))
        kept: AIMessage = annotated(draft.message, decision)
        return kept
    decision = replace(draft.decision, answered_by="human")
    answer = AIMessage(
        content=content,
        id=draft.message.id,
        name=draft.message.name,
        usage_metadata=draft.message.usage_metadata,  # the draft is paid for
        response_metadata={METADATA_KEY: decision.as_dict()},
    )
    delivery.gate.amend(decision, answer=text_for(delivery.gate, answer))
    return answer


def _interrupted(asked: dict[str, Any], config: RunnableConfig | None) -> object:
    if config is None:
        return interrupt(asked)
    # Before Python 3.11 an asynchronous graph does not set the config in the context.
    with set_config_context(config) as context:
        return context.run(interrupt, asked)


def _is_reply(reply: object) -> bool:
    return reply is None or isinstance(_content(reply), (str, list))


def _content(reply: object) -> Any:
    if isinstance(reply, BaseMessage):
        return reply.content
    return reply.get("content") if isinstance(reply, dict) else reply
