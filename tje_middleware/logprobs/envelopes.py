"""Envelopes: where each provider's or framework's payload keeps the block of logprobs, and the text beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from ..errors import MissingLogprobs, UnknownShape, UnreadableLogprobs
from .blocks import ASK, read_block
from .fields import describe, field, has, is_sequence, text_of
from .sequence import SequenceLogprobs, refuse_partial_cover, refuse_silent_tool_call, thinking_mask, without_end

KNOWN_SHAPES = (
    "OpenAI chat completions, completions and Responses (objects or dicts, streamed chunks as a list), "
    "LangChain AIMessage, LLMResult and response_metadata, LlamaIndex ChatResponse, Ollama, LiteLLM, vLLM, "
    "llama.cpp, Google's logprobs_result, records with top_logprobs, an array (positions x alternatives)"
)
# Enough for the deepest nesting in use (LLMResult -> generation -> message -> metadata -> block).
_DEEPEST = 8


@dataclass(frozen=True)
class Located:
    """A payload's block, and what the payload says about the text that the block belongs to.

    Attributes:
        block: The block; None where the payload has none.
        text: The text that the block should cover; of a streamed chunk the text that the chunk adds.
        reasoning: The thinking, where the provider returns it as a text of its own.
        tokens: The sampled tokens' texts, where they stand outside the block.
        message: The text of the whole message so far, where the payload is one chunk of it.
        fallback: A second block to read where ``block`` is missing; it lacks the sampled tokens.
        kind: The payload in a few words, for error messages.
        calls_tools: Whether the message calls tools.
    """

    block: object | None
    text: str | None = None
    reasoning: str | None = None
    tokens: tuple[str, ...] | None = None
    message: str | None = None
    fallback: object | None = None
    kind: str = ""
    calls_tools: bool = False

    def require_cover(self, sequence: SequenceLogprobs) -> None:
        """Refuse logprobs that cover too little of the message.

        Raises:
            UnreadableLogprobs: they cover less than half of its text.
            MissingLogprobs: the message calls tools, and they cover its text alone.
        """
        refuse_partial_cover(sequence, self.length)
        if self.calls_tools:
            refuse_silent_tool_call(sequence, self.length)

    @property
    def length(self) -> int:
        """How long the message is (characters)."""
        return max(len(self.text or ""), len(self.message or ""))


def read_payload(payload: object, choice: int) -> SequenceLogprobs:
    """Read one whole payload; ``parse_logprobs`` documents what it takes and what it raises."""
    if isinstance(payload, SequenceLogprobs):
        return payload
    located = locate(payload, choice)
    sequence = read_located(located)
    located.require_cover(sequence)
    return without_end(sequence)


def locate(payload: object, choice: int, depth: int = 0) -> Located:
    """Find the block in a payload.

    Raises:
        UnknownShape: the payload has no known shape.
        UnreadableLogprobs: it has no such choice.
    """
    if isinstance(payload, (SequenceLogprobs, np.ndarray)) or is_sequence(payload):
        return Located(payload)
    if depth > _DEEPEST:
        raise UnknownShape(f"{describe(payload)} is nested too deeply to be a payload of logprobs")
    if field(payload, "raw") is not None and field(payload, "response_metadata") is None:
        return _llama_index(payload, choice, depth)
    for inner in _WRAPPERS:
        content = inner(payload, choice)
        if content is not None:
            return locate(content, choice, depth + 1)
    for envelope in _ENVELOPES:
        located = envelope(payload, choice)
        if located is not None:
            return located if located.block is not None else replace(located, kind=describe(payload))
    raise UnknownShape(f"found {describe(payload)}; known are: {KNOWN_SHAPES}")


def read_located(located: Located) -> SequenceLogprobs:
    """Read the block, with the tokens and the marks of thinking that its envelope adds.

    Raises:
        MissingLogprobs: the payload came without logprobs.
        UnreadableLogprobs: as ``read_block``.
    """
    try:
        sequence = read_block(_block(located))
    except (MissingLogprobs, UnknownShape):  # a block with wrong numbers still raises: the fallback would hide that
        if not located.fallback:
            raise
        sequence = read_block(located.fallback)
    if located.tokens is not None and sequence.tokens is None:
        sequence = replace(sequence, tokens=located.tokens)
    if located.reasoning and sequence.marked_thinking is None and sequence.tokens is not None:
        marks = thinking_mask(sequence.tokens, located.reasoning)
        sequence = replace(sequence, marked_thinking=marks)
    return sequence


def _block(located: Located) -> object:
    if located.block is None:
        raise MissingLogprobs(f"{located.kind} came without logprobs; {ASK}")
    return located.block


def _llama_index(payload: object, choice: int, depth: int) -> Located:
    """LlamaIndex responses: ``raw`` is the provider's payload; ``.logprobs`` lacks the sampled tokens.

    LangChain's ``include_raw=True`` and LlamaIndex's agents also keep the provider's payload in ``raw``.
    """
    fallback = field(payload, "logprobs")
    fallback = fallback if is_sequence(fallback) else None
    answer = field(payload, "message", "response", "text")
    message = text_of(answer) or text_of(field(answer, "content"))
    try:
        located = locate(field(payload, "raw"), choice, depth + 1)
    except UnknownShape:
        if not fallback:
            raise
        located = Located(block=None)
    return replace(located, message=message, fallback=fallback)


# Wrappers: payloads that hold another payload, in which the logprobs are.


def _llm_result(payload: object, choice: int) -> object | None:
    """LangChain ``LLMResult``/``ChatResult``: the generations of one prompt."""
    generations = field(payload, "generations")
    if not is_sequence(generations) or not generations:
        return None
    if not is_sequence(generations[0]):
        return _chosen(generations, choice)
    if len(generations) > 1:
        raise UnreadableLogprobs(
            f"a result of {len(generations)} prompts: pass one prompt's answer, such as generations[0][0]"
        )
    return _chosen(generations[0], choice)


def _generation(payload: object, _choice: int) -> object | None:
    """LangChain ``ChatGeneration``: its message, which holds more than ``generation_info`` does."""
    if not has(payload, "generation_info"):
        return None
    message, info = field(payload, "message"), field(payload, "generation_info")
    if message is not None and field(field(message, "response_metadata"), "logprobs", "logprobs_result") is not None:
        return message
    return info if isinstance(info, Mapping) and has(info, "logprobs", "logprobs_result") else message


_WRAPPERS: tuple[Callable[[object, int], object | None], ...] = (_llm_result, _generation)


def _chosen(answers: Sequence[object], choice: int) -> object:
    if not 0 <= choice < len(answers):
        raise UnreadableLogprobs(f"choice {choice} was asked for, but the payload holds {len(answers)}")
    return answers[choice]


# Envelopes: payloads that hold the block.


def _langchain_message(payload: object, _choice: int) -> Located | None:
    """LangChain ``AIMessage``: ``response_metadata["logprobs"]``, or Vertex AI's ``logprobs_result``."""
    if not has(payload, "response_metadata"):
        return None
    return Located(
        block=field(field(payload, "response_metadata"), "logprobs", "logprobs_result"),
        text=text_of(field(payload, "content")),
        reasoning=_reasoning(field(payload, "additional_kwargs")),
        calls_tools=bool(field(payload, "tool_calls")),
    )


def _choices(payload: object, choice: int) -> Located | None:
    """OpenAI-compatible chat completions, completions and their streamed chunks."""
    choices = field(payload, "choices")
    if not is_sequence(choices):
        return None
    if not choices:  # the usage chunk that ends a stream
        return Located(block=None)
    chosen = _chosen(choices, choice)
    message = field(chosen, "message", "delta")
    text = field(message, "content") if message is not None else field(chosen, "text")
    calls_tools = bool(field(message, "tool_calls"))
    return Located(field(chosen, "logprobs"), text_of(text), _reasoning(message), calls_tools=calls_tools)


def _responses(payload: object, _choice: int) -> Located | None:
    """OpenAI Responses: the ``logprobs`` of every ``output_text`` part of every message."""
    output = field(payload, "output")
    if not is_sequence(output):
        return None
    parts = [
        part
        for item in output
        for part in _sequence_or_empty(field(item, "content"))
        if has(part, "logprobs") or field(part, "type") == "output_text"
    ]
    texts = [text_of(field(part, "text")) or "" for part in parts]
    covers = [_sequence_or_empty(field(part, "logprobs")) for part in parts]
    if any(covers) and any(text and not cover for text, cover in zip(texts, covers, strict=True)):
        raise UnreadableLogprobs("some parts of the output have logprobs and others have none")
    return Located([*chain.from_iterable(covers)] or None, text="".join(texts))


def _vllm_request(payload: object, choice: int) -> Located | None:
    """VLLM offline ``RequestOutput``: ``outputs[i].logprobs`` and the sampled ``token_ids``."""
    outputs = field(payload, "outputs")
    if not is_sequence(outputs):
        return None
    completion = _chosen(outputs, choice)
    block, ids = field(completion, "logprobs"), field(completion, "token_ids")
    tokens = None
    if is_sequence(block) and is_sequence(ids) and len(ids) == len(block):
        sampled = [
            row.get(token) if isinstance(row, Mapping) else None for row, token in zip(block, ids, strict=True)
        ]
        texts = [field(item, "decoded_token") for item in sampled]
        if all(isinstance(text, str) for text in texts):
            tokens = tuple(map(str, texts))
    return Located(block, text_of(field(completion, "text")), tokens=tokens)


def _google_response(payload: object, choice: int) -> Located | None:
    """Google ``GenerateContentResponse``: ``candidates[i].logprobs_result`` (``logprobsResult`` in REST)."""
    candidates = field(payload, "candidates")
    if not is_sequence(candidates):  # the chunk of a stream that only counts tokens has none
        return Located(None) if has(payload, "usage_metadata", "usageMetadata") else None
    candidate = _chosen(candidates, choice)
    parts = _sequence_or_empty(field(field(candidate, "content"), "parts"))
    answer = [text_of(field(part, "text")) or "" for part in parts if not field(part, "thought")]
    return Located(field(candidate, "logprobs_result", "logprobsResult"), "".join(answer))


def _llama_cpp_native(payload: object, _choice: int) -> Located | None:
    """llama.cpp ``/completion``, and its streamed chunks, the last of which has no probabilities."""
    if not has(payload, "completion_probabilities", "tokens_predicted"):
        return None
    return Located(field(payload, "completion_probabilities"), text_of(field(payload, "content")))


def _holder(payload: object, _choice: int) -> Located | None:
    """Anything with a ``logprobs`` field: a choice, response metadata, Ollama's response, a delta event."""
    if not has(payload, "logprobs", "logprobs_result", "logprobsResult", "done"):  # Ollama leaves logprobs out
        return None
    message = field(payload, "message", "delta")
    text = text_of(message) or text_of(field(message, "content")) or text_of(field(payload, "response", "text"))
    return Located(field(payload, "logprobs", "logprobs_result", "logprobsResult"), text, _reasoning(message))


def _generation_without(payload: object, _choice: int) -> Located | None:
    """LangChain ``Generation`` of a text model, whose info has no logprobs."""
    return Located(None, text_of(field(payload, "text"))) if has(payload, "generation_info") else None


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
    _generation_without,
    _bare_block,
)


def _reasoning(message: object) -> str | None:
    """The text of the thinking, under any of the names that providers give it."""
    text = field(message, "reasoning_content", "reasoning", "thinking")
    return text if isinstance(text, str) else None


def _sequence_or_empty(value: object) -> tuple[Any, ...]:
    return tuple(value) if is_sequence(value) else ()
