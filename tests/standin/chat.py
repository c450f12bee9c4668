"""Answers in the form of OpenAI's ``/v1/chat/completions``."""

from __future__ import annotations

from .answers import Answer, Call, Piece


def completion(answer: Answer) -> dict:
    """The whole answer at once."""
    message: dict = {"role": "assistant", "content": answer.text, "refusal": None}
    if answer.call:
        message |= {"content": None, "tool_calls": [_call(answer.call, answer.text)]}
    choice = {
        "index": 0,
        "finish_reason": _finish(answer),
        "message": message,
        "logprobs": _logprobs(answer, answer.positions),
    }
    return {**_envelope(answer, "chat.completion"), "choices": [choice], "usage": _usage(answer)}


def frames(answer: Answer, request: dict) -> list[tuple[dict, int]]:
    """A stream's chunks, each with the number of tokens it brings: a first one without content, then the pieces."""
    asked_for_usage = (request.get("stream_options") or {}).get("include_usage")

    def chunk(delta: dict, piece: Piece | None = None, finish: str | None = None) -> tuple[dict, int]:
        logprobs = _logprobs(answer, list(piece.positions)) if piece else None
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        body = {**_envelope(answer, "chat.completion.chunk"), "choices": [choice]}
        return body | ({"usage": None} if asked_for_usage else {}), len(piece.positions) if piece else 0

    opening = {"role": "assistant", "content": None if answer.call else ""}
    stream = [
        chunk(opening),
        *[chunk(delta, piece) for delta, piece in _deltas(answer)],
        chunk({}, None, _finish(answer)),
    ]
    if asked_for_usage:
        stream.append(({**stream[0][0], "choices": [], "usage": _usage(answer)}, 0))
    return stream


def _deltas(answer: Answer) -> list[tuple[dict, Piece]]:
    if answer.call is None:
        return [({"content": piece.text}, piece) for piece in answer.pieces]
    first, *rest = answer.pieces
    return [
        ({"tool_calls": [{"index": 0, **_call(answer.call, first.text)}]}, first),
        *[({"tool_calls": [{"index": 0, "function": {"arguments": piece.text}}]}, piece) for piece in rest],
    ]


def _call(call: Call, arguments: str) -> dict:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _finish(answer: Answer) -> str:
    return "tool_calls" if answer.call else "stop"


def _logprobs(answer: Answer, positions: list[dict]) -> dict | None:
    return {"content": positions, "refusal": None} if answer.shows_logprobs else None


def _envelope(answer: Answer, kind: str) -> dict:
    return {"id": "chatcmpl-standin", "object": kind, "created": 0, "model": answer.model}


def _usage(answer: Answer) -> dict:
    tokens = len(answer.positions) + answer.thought
    details = {"completion_tokens_details": {"reasoning_tokens": answer.thought}} if answer.thought else {}
    return {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens, **details}
