"""What a LlamaIndex response says that it cost."""

from __future__ import annotations

from typing import NamedTuple

from tje_middleware import TokenUsage
from tje_middleware.logprobs.fields import field, is_sequence
from tje_middleware.usage import usage_of

# What providers call the two numbers: OpenAI (chat, completions), its Responses and Anthropic, Google, Ollama.
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
    """What a streamed chunk counts for where it has no logprobs: 1 where it brought something, else 0 (tokens)."""
    written = field(chunk, "delta") or field(field(chunk, "additional_kwargs"), "thinking_delta")
    choices = field(field(chunk, "raw"), "choices")
    first = choices[0] if is_sequence(choices) and choices else None
    return int(bool(written or field(field(first, "delta"), "tool_calls")))


def _count(place: object, *names: str) -> int | None:
    number = field(place, *names)
    return number if isinstance(number, int) and number >= 0 else None
