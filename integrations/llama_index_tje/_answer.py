"""What a gate reads from an LLM's answer, and writes into it: its usage, its text and the decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse

from tje_middleware import GateDecision, TokenUsage
from tje_middleware.decision import METADATA_KEY, decision_held
from tje_middleware.logprobs.fields import field

from ._usage import usage_in

#: What an LLM answers with, or a chunk of it.
Response = ChatResponse | CompletionResponse


def annotated(response: Response, decision: GateDecision) -> Response:
    """The answer with the decision in it: in its message, which is what an agent keeps.

    Where the deeper LLM answered, the counts of tokens are those of everything the answer cost: the rejected draft is
    paid for, too.
    """
    # Responses belong to whoever made them, and are copied.
    more = _counts(decision)
    if isinstance(response, CompletionResponse):
        return response.model_copy(
            update={
                "additional_kwargs": {**response.additional_kwargs, **more, METADATA_KEY: decision.as_dict()},
            }
        )
    message = response.message
    noted = {**message.additional_kwargs, METADATA_KEY: decision.as_dict()}
    return response.model_copy(
        update={
            "message": message.model_copy(update={"additional_kwargs": noted}),
            "additional_kwargs": {**response.additional_kwargs, **more},
        }
    )


def decision_in(response: Response) -> GateDecision | None:
    """The decision that an answer holds; None where it holds none that can be read."""
    place = response.message if isinstance(response, ChatResponse) else response
    return decision_held(place.additional_kwargs.get(METADATA_KEY))


def text_of(response: Response) -> str | None:
    """The words of an answer; None where it has none, such as a call of tools."""
    return response.text if isinstance(response, CompletionResponse) else response.message.content


def spent_on(response: Response) -> TokenUsage:
    """What an answer cost, with the draft that a gate around its LLM rejected for it."""
    decision = decision_in(response)
    known = decision.usage if decision is not None else None
    return usage_in(response) if known is None else known


def model_behind(response: Response) -> str | None:
    """The model that answered in the place of the one that was asked, where a gate further in did that; else None."""
    decision = decision_in(response)
    if decision is None or decision.answered_by != "deeper":
        return None
    name = field(response.raw, "model")
    return name if isinstance(name, str) else "another model"


def in_one_chunk(response: Response) -> Response:
    """A whole answer as the one chunk of a stream."""
    text = response.message.content if isinstance(response, ChatResponse) else response.text
    return response.model_copy(update={"delta": text or ""})


def whole(chunk: Response) -> Response:
    """The last chunk of a stream, which has all that came before it, as the whole answer."""
    return chunk.model_copy(update={"delta": None})


def without_decisions(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Messages without the decisions about them: some providers are sent all that a message holds."""
    return [
        _without_decision(message) if METADATA_KEY in message.additional_kwargs else message for message in messages
    ]


def calls_tools(response: Response) -> bool:
    """Whether an answer is a call of tools."""
    if isinstance(response, CompletionResponse):
        return False
    message = response.message
    blocks: Sequence[Any] = getattr(message, "blocks", ())
    return bool(message.additional_kwargs.get("tool_calls")) or any(
        getattr(block, "block_type", None) == "tool_call" for block in blocks
    )


def _without_decision(message: ChatMessage) -> ChatMessage:
    rest = {name: value for name, value in message.additional_kwargs.items() if name != METADATA_KEY}
    return message.model_copy(update={"additional_kwargs": rest})


def _counts(decision: GateDecision) -> dict[str, int]:
    """The counts of tokens by LlamaIndex's names, where they are of more than one LLM."""
    spent = decision.usage
    if decision.deeper_usage is None or spent is None:
        return {}
    return {
        "prompt_tokens": spent.input_tokens,
        "completion_tokens": spent.output_tokens,
        "total_tokens": spent.total_tokens,
    }
