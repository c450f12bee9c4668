"""A human's answer in the place of a draft: an interrupt of the graph, and what it is resumed with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, convert_to_messages
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import set_config_context
from langgraph.types import interrupt

from tje_middleware.decision import METADATA_KEY
from tje_middleware.delivery import Delivery

from .._answer import annotated
from .judging import Judged, text_for


def reply_to(asked: dict[str, Any], config: RunnableConfig | None) -> Any:
    """Interrupt the graph until it is resumed with a reply; returns the content of it, or None for no reply.

    Raises:
        GraphInterrupt: LangGraph's own, which saves the graph where it stands.
    """
    reply = _interrupted(asked, config)
    # What a graph is resumed with is kept: raising here would raise at every resumption to come.
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
    # Before Python 3.11 an asynchronous graph does not set it.
    with set_config_context(config) as context:
        return context.run(interrupt, asked)


def _is_reply(reply: object) -> bool:
    return reply is None or isinstance(_content(reply), (str, list))


def _content(reply: object) -> Any:
    if isinstance(reply, BaseMessage):
        return reply.content
    return reply.get("content") if isinstance(reply, dict) else reply
