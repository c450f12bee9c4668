"""Answers in the form of OpenAI's ``/v1/completions``, in which completion models are asked."""

from __future__ import annotations

from .answers import Answer


def as_chat(request: dict) -> dict:
    """The request as chat completions would have it: one number stands for both settings of logprobs."""
    asked = request.get("logprobs")
    messages = [{"role": "user", "content": request["prompt"]}]
    return {**request, "messages": messages, "logprobs": bool(asked), "top_logprobs": asked}


def completion(answer: Answer) -> dict:
    """The whole answer at once."""
    tokens = len(answer.positions)
    usage = {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens}
    return {**_body(answer, answer.text, answer.positions, "stop"), "usage": usage}


def frames(answer: Answer) -> list[tuple[dict, int]]:
    """A stream's chunks, each with the number of tokens it brings."""
    pieces = [(_body(answer, each.text, list(each.positions), None), len(each.positions)) for each in answer.pieces]
    return [*pieces, (_body(answer, "", [], "stop"), 0)]


def _body(answer: Answer, text: str, positions: list[dict], finish: str | None) -> dict:
    logprobs = {
        "tokens": [each["token"] for each in positions],
        "token_logprobs": [each["logprob"] for each in positions],
        "top_logprobs": [{top["token"]: top["logprob"] for top in each["top_logprobs"]} for each in positions],
        "text_offset": [0] * len(positions),
    }
    choice = {
        "index": 0,
        "text": text,
        "finish_reason": finish,
        "logprobs": logprobs if answer.shows_logprobs and positions else None,
    }
    return {
        "id": "cmpl-standin",
        "object": "text_completion",
        "created": 0,
        "model": answer.model,
        "choices": [choice],
    }
