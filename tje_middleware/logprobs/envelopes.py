"""One payload, in whatever envelope it came, down to the block that holds the numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..errors import MissingLogprobs, UnreadableLogprobs
from .blocks import ASK, read_block
from .fields import describe, field, has, is_sequence, text_of
from .sequence import SequenceLogprobs
from .thinking import thinking_mask

KNOWN_SHAPES = (
    "OpenAI chat completions, completions and Responses (objects or dicts, streamed chunks as a list), "
    "LangChain AIMessage, LLMResult and response_metadata, LlamaIndex ChatResponse, Ollama, LiteLLM, vLLM, "
    "llama.cpp, Google's logprobs_result, records with top_logprobs, an array (positions x alternatives)"
)
# Enough for the deepest nesting in use (LLMResult -> generation -> message -> metadata -> block).
_DEEPEST = 8
# Tokens may lack some characters of the text (a token that is part of one character); a lost chunk lacks more.
_TOLERATED_GAP = 8


def read_payload(payload: object, choice: int, depth: int = 0) -> SequenceLogprobs:
    """Read one payload; ``parse_logprobs`` documents what it takes and what it raises."""
    if isinstance(payload, SequenceLogprobs):
        return payload
    if depth > _DEEPEST:
        raise UnreadableLogprobs(f"{describe(payload)} is nested too deeply to be a payload of logprobs")
    if isinstance(payload, np.ndarray) or is_sequence(payload):
        return read_block(payload)
    for inner in _WRAPPERS:
        content = inner(payload, choice)
        if content is not None:
            return read_payload(content, choice, depth + 1)
    for envelope in _ENVELOPES:
        located = envelope(payload, choice)
        if located is not None:
            return _read(located, payload)
    raise UnreadableLogprobs(f"found {describe(payload)}; known are: {KNOWN_SHAPES}")


@dataclass(frozen=True)
class Located:
    """Where an envelope keeps its block, and what it says of the text around it."""

    block: object | None
    text: str | None = None
    reasoning: str | None = None
    tokens: tuple[str, ...] | None = None


def _read(located: Located, payload: object) -> SequenceLogprobs:
    if located.block is None:
        raise MissingLogprobs(f"{describe(payload)} came without logprobs; {ASK}")
    sequence = read_block(located.block)
    if located.tokens is not None and sequence.tokens is None:
        sequence = replace(sequence, tokens=located.tokens)
    _refuse_partial_cover(sequence, located.text)
    if located.reasoning and sequence.marked_thinking is None and sequence.tokens is not None:
        marks = thinking_mask(sequence.tokens, located.reasoning)
        sequence = replace(sequence, marked_thinking=marks)
    return sequence


def _refuse_partial_cover(sequence: SequenceLogprobs, text: str | None) -> None:
    """A merge that keeps only a stream's last chunk leaves logprobs that look sound and measure one token."""
    if text is None or sequence.tokens is None:
        return
    covered = sum(map(len, sequence.tokens))
    if covered < len(text) / 2 and len(text) - covered > _TOLERATED_GAP:
        raise UnreadableLogprobs(
            f"the logprobs cover {covered} of {len(text)} characters of the text, so some were lost on the way; "
            "collect them chunk by chunk with LogprobsAccumulator, or do not stream this call"
        )


# Wrappers: payloads whose logprobs are in an inner payload of its own shape.


def _llm_result(payload: object, choice: int) -> object | None:
    """LangChain ``LLMResult``/``ChatResult``: the generations of the first prompt."""
    generations = field(payload, "generations")
    if not is_sequence(generations) or not generations:
        return None
    return generations[0][choice] if is_sequence(generations[0]) else generations[choice]


def _generation(payload: object, _choice: int) -> object | None:
    """LangChain ``ChatGeneration``: the message knows more than ``generation_info``."""
    if not has(payload, "generation_info"):
        return None
    message, info = field(payload, "message"), field(payload, "generation_info")
    if message is not None and field(field(message, "response_metadata"), "logprobs", "logprobs_result"):
        return message
    return info if isinstance(info, Mapping) and has(info, "logprobs", "logprobs_result") else message


def _llama_index_raw(payload: object, _choice: int) -> object | None:
    """LlamaIndex responses: ``raw`` is the provider's own; ``.logprobs`` has lost the sampled tokens."""
    raw = field(payload, "raw")
    if raw is None or field(payload, "response_metadata") is not None:
        return None
    fallback = field(payload, "logprobs")
    if is_sequence(fallback) and fallback and not _carries_logprobs(raw):
        return fallback
    return raw


def _carries_logprobs(payload: object) -> bool:
    try:
        read_payload(payload, choice=0)
    except UnreadableLogprobs:
        return False
    return True


_WRAPPERS: tuple[Callable[[object, int], object | None], ...] = (_llm_result, _generation, _llama_index_raw)


# Envelopes: payloads that hold the block itself.


def _langchain_message(payload: object, _choice: int) -> Located | None:
    """LangChain ``AIMessage``: ``response_metadata["logprobs"]``, or Vertex AI's ``logprobs_result``."""
    if not has(payload, "response_metadata"):
        return None
    return Located(
        block=field(field(payload, "response_metadata"), "logprobs", "logprobs_result"),
        text=text_of(field(payload, "content")),
        reasoning=_reasoning(field(payload, "additional_kwargs")),
    )


def _choices(payload: object, choice: int) -> Located | None:
    """OpenAI-compatible chat completions, completions and their streamed chunks."""
    choices = field(payload, "choices")
    if not is_sequence(choices):
        return None
    if not choices:  # the usage chunk that ends a stream
        return Located(block=None)
    if choice >= len(choices):
        raise UnreadableLogprobs(f"choice {choice} was asked for, but the payload holds {len(choices)}")
    chosen = choices[choice]
    message = field(chosen, "message", "delta")
    text = field(message, "content") if message is not None else field(chosen, "text")
    return Located(field(chosen, "logprobs"), text_of(text), _reasoning(message))


def _responses(payload: object, _choice: int) -> Located | None:
    """OpenAI Responses: the ``logprobs`` of every ``output_text`` part of every message."""
    output = field(payload, "output")
    if not is_sequence(output):
        return None
    parts = [
        part for item in output for part in (_sequence_or_empty(field(item, "content"))) if has(part, "logprobs")
    ]
    positions = [entry for part in parts for entry in _sequence_or_empty(field(part, "logprobs"))]
    return Located(positions or None, text="".join(text_of(field(part, "text")) or "" for part in parts))


def _vllm_request(payload: object, choice: int) -> Located | None:
    """VLLM offline ``RequestOutput``: ``outputs[i].logprobs`` and the sampled ``token_ids``."""
    outputs = field(payload, "outputs")
    if not is_sequence(outputs) or choice >= len(outputs):
        return None
    completion = outputs[choice]
    block, ids = field(completion, "logprobs"), field(completion, "token_ids")
    tokens = None
    if is_sequence(block) and ids is not None and len(ids) == len(block):  # type: ignore[arg-type]
        sampled = [field(row, token) for row, token in zip(block, ids, strict=True)]  # type: ignore[call-overload]
        texts = [field(item, "decoded_token") for item in sampled]
        if all(isinstance(text, str) for text in texts):
            tokens = tuple(map(str, texts))
    return Located(block, text_of(field(completion, "text")), tokens=tokens)


def _google_response(payload: object, choice: int) -> Located | None:
    """Google ``GenerateContentResponse``: ``candidates[i].logprobs_result`` (``logprobsResult`` in REST)."""
    candidates = field(payload, "candidates")
    if not is_sequence(candidates) or choice >= len(candidates):
        return None
    return Located(field(candidates[choice], "logprobs_result", "logprobsResult"))


def _llama_cpp_native(payload: object, _choice: int) -> Located | None:
    """llama.cpp ``/completion``."""
    if not has(payload, "completion_probabilities"):
        return None
    return Located(field(payload, "completion_probabilities"), text_of(field(payload, "content")))


def _holder(payload: object, _choice: int) -> Located | None:
    """Anything with a ``logprobs`` field: a choice, response metadata, Ollama's response, a delta event."""
    if not has(payload, "logprobs", "logprobs_result", "logprobsResult"):
        return None
    message = field(payload, "message")
    text = field(message, "content") if message is not None else field(payload, "response", "delta")
    return Located(
        field(payload, "logprobs", "logprobs_result", "logprobsResult"), text_of(text), _reasoning(message)
    )


def _bare_block(payload: object, _choice: int) -> Located | None:
    """A block by itself: the ``logprobs`` of a choice, Google's result, one of our records."""
    if has(payload, "top_logprobs", "top_candidates", "topCandidates") or is_sequence(field(payload, "content")):
        return Located(payload)
    return None


_ENVELOPES: tuple[Callable[[object, int], Located | None], ...] = (
    _langchain_message,
    _choices,
    _responses,
    _vllm_request,
    _google_response,
    _llama_cpp_native,
    _holder,
    _bare_block,
)


def _reasoning(message: object) -> str | None:
    """The text of the thinking, under any of the names that providers give it."""
    text = field(message, "reasoning_content", "reasoning", "thinking")
    return text if isinstance(text, str) else None


def _sequence_or_empty(value: object) -> tuple[object, ...]:
    return tuple(value) if is_sequence(value) else ()
