"""LlamaIndex's responses as payloads of logprobs: parts of a stream, and its end."""

from __future__ import annotations

from tje_middleware.logprobs.fields import field, is_sequence, text_of


def payload_of_chunk(chunk: object) -> object:
    """What a chunk adds: its message is all that came so far, and stands for what it adds where ``raw`` does not."""
    if field(chunk, "raw") is not None:
        return chunk
    return {"logprobs": field(chunk, "logprobs"), "delta": field(chunk, "delta")}


def payload_of_stream_end(last: object) -> object:
    """The last chunk for the whole answer: its ``raw`` does not know of the tools that earlier chunks call."""
    message = field(last, "message")
    calls = _tool_calls(message)
    if not calls:
        return last
    return {"content": text_of(field(message, "content")), "response_metadata": {}, "tool_calls": calls}


def _tool_calls(message: object) -> list[object]:
    blocks, noted = field(message, "blocks"), field(field(message, "additional_kwargs"), "tool_calls")
    found = [block for block in blocks if field(block, "block_type") == "tool_call"] if is_sequence(blocks) else []
    return found or (list(noted) if is_sequence(noted) else [])
