"""What a gate reads from an LLM's answer, and writes into it: its usage, its text and the decision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse

from tje_middleware import GateDecision, TokenUsage
from tje_middleware.calls.usage import usage_of
from tje_middleware.gate.decision import METADATA_KEY, decision_held
from tje_middleware.logprobs.fields import field, is_sequence, text_of

#: What an LLM answers with, or a chunk of it.
LLMResponse = ChatResponse | CompletionResponse


def annotated(response: LLMResponse, decision: GateDecision) -> LLMResponse:
    """The answer with the decision in it: in its message, which is what an agent keeps.

    Where the deeper LLM answered, the counts of tokens are those of everything the answer cost: the rejected draft is
    paid for, too.
    """
    # Responses belong to whoever made them, and are copied.
    own = {**response.additional_kwargs, **_counts(decision)}
    noted = {METADATA_KEY: decision.as_dict()}
    if isinstance(response, CompletionResponse):
        return response.model_copy(update={"additional_kwargs": {**own, **noted}})
    message = response.message
    message = message.model_copy(update={"additional_kwargs": {**message.additional_kwargs, **noted}})
    return response.model_copy(update={"message": message, "additional_kwargs": own})


def decision_in(response: LLMResponse) -> GateDecision | None:
    """The decision that an answer holds; None where it holds none that can be read."""
    place = response.message if isinstance(response, ChatResponse) else response
    return decision_held(place.additional_kwargs.get(METADATA_KEY))


def answer_text(response: LLMResponse) -> str | None:
    """The words of an answer; None where it has none, such as a call of tools."""
    return response.text if isinstance(response, CompletionResponse) else response.message.content


def spent_on(response: LLMResponse) -> TokenUsage:
    """What an answer cost, with the draft that a gate around its LLM rejected for it."""
    decision = decision_in(response)
    known = decision.usage if decision is not None else None
    return usage_in(response) if known is None else known


def model_behind(response: LLMResponse) -> str | None:
    """The model that answered in place of the one that was asked, where a gate within went deeper."""
    decision = decision_in(response)
    if decision is None or decision.answered_by != "deeper":
        return None
    name = field(response.raw, "model")
    return name if isinstance(name, str) else "another model"


def in_one_chunk(response: LLMResponse) -> LLMResponse:
    """A whole answer as the one chunk of a stream."""
    text = response.message.content if isinstance(response, ChatResponse) else response.text
    return response.model_copy(update={"delta": text or ""})


def whole(chunk: LLMResponse) -> LLMResponse:
    """The last chunk of a stream, which has all that came before it, as the whole answer."""
    return chunk.model_copy(update={"delta": None})


def without_decisions(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """Messages without the decisions about them: some providers are sent all that a message holds."""
    return [
        _without_decision(message) if METADATA_KEY in message.additional_kwargs else message for message in messages
    ]


def calls_tools(response: LLMResponse) -> bool:
    """Whether an answer is a call of tools."""
    return bool(_tool_calls(field(response, "message")))


def tool_calls_in(response: LLMResponse) -> list[tuple[str, object]]:
    """The tools that an answer calls, each by its name and its arguments."""
    called = []
    for call in _tool_calls(field(response, "message")):
        function = field(call, "function") or call
        called.append((str(field(function, "tool_name", "name")), field(function, "tool_kwargs", "arguments")))
    return called


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


def payload_of_chunk(chunk: object) -> object:
    """The payload of what a chunk adds: not its message, which holds all that came so far."""
    if field(chunk, "raw") is not None:
        return chunk
    return {"logprobs": field(chunk, "logprobs"), "delta": field(chunk, "delta")}


def payload_of_stream_end(last: object) -> object:
    """The payload of a streamed answer: the ``raw`` of its last chunk lacks the tools that earlier ones call."""
    message = field(last, "message")
    calls = _tool_calls(message)
    if not calls:
        return last
    return {"content": text_of(field(message, "content")), "response_metadata": {}, "tool_calls": calls}


def _tool_calls(message: object) -> list[object]:
    blocks, noted = field(message, "blocks"), field(field(message, "additional_kwargs"), "tool_calls")
    found = [block for block in blocks if field(block, "block_type") == "tool_call"] if is_sequence(blocks) else []
    return found or (list(noted) if is_sequence(noted) else [])


# The names of the tokens read and written: of OpenAI (chat, completions), its Responses, Anthropic, Google, Ollama.
_INPUT = ("prompt_tokens", "input_tokens", "prompt_token_count", "prompt_eval_count")
_OUTPUT = ("completion_tokens", "output_tokens", "candidates_token_count", "eval_count")


class Tokens(NamedTuple):
    """What a provider says of one call; None where it does not say (tokens)."""

    input_tokens: int | None = None
    output_tokens: int | None = None


def usage_in(response: object) -> TokenUsage:
    """What one call spent, by its response; partly known where the response does not say all.

    Example:
        >>> usage_in({"raw": {"usage": {"prompt_tokens": 12, "completion_tokens": 3}}})
        TokenUsage(input_tokens=12, output_tokens=3, calls=1, partly_known=0)
        >>> usage_in({"raw": None})
        TokenUsage(input_tokens=0, output_tokens=0, calls=1, partly_known=1)
    """
    return usage_of(*tokens_of(response))


def tokens_of(response: object) -> Tokens:
    """What a response says of the tokens of its call: the provider's own payload first, then what LlamaIndex noted.

    Args:
        response: A ``ChatResponse``, a ``CompletionResponse``, the last chunk of a stream of either, or an agent's
            output; as an object or a dict.
    """
    raw = field(response, "raw")
    whole = field(raw, "response")  # the event that ends a stream of OpenAI's Responses
    noted = field(response, "additional_kwargs")
    for place in (field(raw, "usage", "usage_metadata"), field(whole, "usage"), noted, raw):
        said = Tokens(_count(place, *_INPUT), _count(place, *_OUTPUT))
        if said != Tokens():
            return said
    return Tokens()


def tokens_of_chunk(chunk: object) -> int:
    """The tokens that a chunk without logprobs is counted as: 1 where it brought something, else 0."""
    written = field(chunk, "delta") or field(field(chunk, "additional_kwargs"), "thinking_delta")
    choices = field(field(chunk, "raw"), "choices")
    first = choices[0] if is_sequence(choices) and choices else None
    return int(bool(written or field(field(first, "delta"), "tool_calls")))


def _count(place: object, *names: str) -> int | None:
    number = field(place, *names)
    return number if isinstance(number, int) and number >= 0 else None
