"""What a gate reads from an answer, and writes into it: the message, its usage and the decision."""

from __future__ import annotations

from typing import Any, cast

from langchain_core.messages import AIMessage, BaseMessage, get_buffer_string
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.prompt_values import PromptValue

from tje_middleware import GateDecision, TokenUsage
from tje_middleware.gate.decision import METADATA_KEY


def message_in(answer: object) -> AIMessage | None:
    """The message in an answer: itself, or under ``raw`` where structured output includes it."""
    raw = answer.get("raw") if isinstance(answer, dict) else answer
    return raw if isinstance(raw, AIMessage) else None


def without_logprobs(answer: object) -> Any:
    """Without the logprobs that only the gate wanted: at 20 alternatives they are 2 KB a token."""
    message = message_in(answer)
    if message is None or "logprobs" not in message.response_metadata:
        return answer
    rest = {name: value for name, value in message.response_metadata.items() if name != "logprobs"}
    return _with(answer, response_metadata=rest)


def usage_in(answer: object) -> TokenUsage:
    """The usage in the message of an answer, or of a chunk; no tokens where it has none."""
    message = message_in(answer)
    own = message.usage_metadata if message is not None else None
    return TokenUsage() if own is None or is_cached(own) else TokenUsage(own["input_tokens"], own["output_tokens"])


def annotated(answer: object, decision: GateDecision, told: TokenUsage | None = None) -> Any:
    """The answer with the decision in it, where there is a place for it.

    Where the deeper branch answered, its usage is that of everything the answer cost: the rejected draft is paid for,
    too.

    Args:
        answer: The answer, or the last chunk of it.
        decision: The decision.
        told: The usage that chunks before this one told of.
    """
    message = message_in(answer)
    if message is None:
        return answer
    update: dict[str, Any] = {
        "response_metadata": {**message.response_metadata, METADATA_KEY: decision.as_dict()},
    }
    if decision.answered_by == "deeper" or decision.deeper_usage is not None:
        told = usage_in(message) + (told or TokenUsage())
        # Where no handler counted the branch's calls, the usage in its answer is all that is known.
        spent = (decision.draft_usage or TokenUsage()) + (decision.deeper_usage or told)
        update["usage_metadata"] = _with_rest(message.usage_metadata, spent, told)
    return _with(answer, **update)


def _with(answer: object, **update: Any) -> object:
    """A copy with these fields; the message that was given may be in use elsewhere."""
    message = cast("AIMessage", message_in(answer)).model_copy(update=update)
    return {**answer, "raw": message} if isinstance(answer, dict) else message


def is_cached(usage: UsageMetadata | None) -> bool:
    """Whether a message with this usage came out of LangChain's cache, which says so by its cost."""
    return usage is not None and cast("dict[str, Any]", usage).get("total_cost") == 0


def _with_rest(own: UsageMetadata | None, spent: TokenUsage, told: TokenUsage) -> UsageMetadata | None:
    """A message's own usage, increased by what was spent beyond the usage that is reported already."""
    more_in = max(spent.input_tokens - told.input_tokens, 0)
    more_out = max(spent.output_tokens - told.output_tokens, 0)
    if not more_in and not more_out:
        return own
    more = UsageMetadata(input_tokens=more_in, output_tokens=more_out, total_tokens=more_in + more_out)
    return add_usage(None if is_cached(own) else own, more)


def in_words(question: Any) -> str:
    """What was asked, as a ledger keeps it: a conversation line by line, anything else as Python writes it."""
    if isinstance(question, PromptValue):
        question = question.to_messages()
    if isinstance(question, list) and all(isinstance(message, BaseMessage) for message in question):
        return get_buffer_string(question)
    return str(question)
