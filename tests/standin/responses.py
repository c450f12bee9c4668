"""Answers in the form of OpenAI's ``/v1/responses``."""

from __future__ import annotations

from uuid import uuid4

from .answers import Answer

LOGPROBS = "message.output_text.logprobs"  # what ``include`` says of a request that wants them


def as_chat(request: dict) -> dict:
    """The same request in the form of chat completions."""
    given = request["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    choice = request.get("tool_choice", "auto")
    wanted = dict((request.get("text") or {}).get("format") or {})
    kind = wanted.pop("type", "text")
    return {
        "model": request["model"],
        "messages": [_message(item) for item in items],
        "tools": [
            {"type": "function", "function": tool}
            for tool in request.get("tools") or []
            if tool["type"] == "function"
        ],
        "tool_choice": {"function": {"name": choice["name"]}} if isinstance(choice, dict) else choice,
        "response_format": {"type": kind, "json_schema": wanted},
        "logprobs": wants_logprobs(request),
        "top_logprobs": request.get("top_logprobs"),
    }


def wants_logprobs(request: dict) -> bool:
    return LOGPROBS in (request.get("include") or [])


def response(answer: Answer) -> dict:
    """The whole answer at once."""
    # An agent's messages replace one another when their ids are the same, so that these must differ.
    number = uuid4().hex
    return _response(answer, number, [_item(answer, number)], "completed")


def frames(answer: Answer) -> list[tuple[dict, int]]:
    """A stream's events, each with the number of tokens it brings."""
    number = uuid4().hex
    item = _item(answer, number)
    begun, completed = _response(answer, number, [], "in_progress"), _response(answer, number, [item], "completed")
    opening, deltas, closing = (_call_events if answer.call else _text_events)(answer, item)
    events: list[tuple[dict, int]] = [
        ({"type": "response.created", "response": begun}, 0),
        ({"type": "response.in_progress", "response": begun}, 0),
        *[(event, 0) for event in opening],
        *[(event, len(piece.positions)) for event, piece in zip(deltas, answer.pieces, strict=True)],
        *[(event, 0) for event in closing],
        ({"type": "response.output_item.done", "output_index": 0, "item": item}, 0),
        ({"type": "response.completed", "response": completed}, 0),
    ]
    return [({**event, "sequence_number": index}, tokens) for index, (event, tokens) in enumerate(events)]


def _text_events(answer: Answer, item: dict) -> tuple[list[dict], list[dict], list[dict]]:
    place = {"item_id": item["id"], "output_index": 0, "content_index": 0}
    (part,) = item["content"]
    empty = {**part, "text": "", "logprobs": []}
    done = {"type": "response.output_text.done", **place, "text": answer.text, "logprobs": part["logprobs"]}
    deltas = [
        {
            "type": "response.output_text.delta",
            **place,
            "delta": piece.text,
            "logprobs": _logprobs(answer, list(piece.positions)),
        }
        for piece in answer.pieces
    ]
    return (
        [_added({**item, "content": []}), {"type": "response.content_part.added", **place, "part": empty}],
        deltas,
        [done, {"type": "response.content_part.done", **place, "part": part}],
    )


def _call_events(answer: Answer, item: dict) -> tuple[list[dict], list[dict], list[dict]]:
    place = {"item_id": item["id"], "output_index": 0}
    kind = "response.function_call_arguments"
    deltas = [{"type": f"{kind}.delta", **place, "delta": piece.text} for piece in answer.pieces]
    done = {"type": f"{kind}.done", **place, "name": item["name"], "arguments": answer.text}
    return [_added({**item, "arguments": ""})], deltas, [done]


def _added(item: dict) -> dict:
    return {"type": "response.output_item.added", "output_index": 0, "item": {**item, "status": "in_progress"}}


def _message(item: dict) -> dict:
    if item.get("type") == "function_call_output":
        return {"role": "tool", "content": item["output"]}
    if item.get("type") == "function_call":
        return {"role": "assistant", "tool_calls": [{"function": {"name": item["name"]}}]}
    return {"role": item.get("role", "assistant"), "content": item.get("content")}


def _item(answer: Answer, number: str) -> dict:
    if answer.call:
        names = {"call_id": answer.call.id, "name": answer.call.name, "arguments": answer.text}
        return {"type": "function_call", "id": f"fc_{number}", "status": "completed", **names}
    part = {
        "type": "output_text",
        "text": answer.text,
        "annotations": [],
        "logprobs": _logprobs(answer, answer.positions),
    }
    return {"type": "message", "id": f"msg_{number}", "status": "completed", "role": "assistant", "content": [part]}


def _logprobs(answer: Answer, positions: list[dict]) -> list[dict]:
    return positions if answer.shows_logprobs else []


def _response(answer: Answer, number: str, output: list[dict], status: str) -> dict:
    tokens = len(answer.positions)
    usage = {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 10 + tokens,
    }
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 0,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": answer.model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage if status == "completed" else None,
    }
