"""The stand-in provider with ``/v1/completions``, the legacy form that completion models are asked in."""

from __future__ import annotations

import json

from tests.standin import StandIn
from tests.standin.answers import Answer, answer_to
from tests.standin.server import _Handler


class CompletionStandIn(StandIn):
    """A stand-in that also answers prompts; they are in the question language as the messages are."""

    def __init__(self) -> None:
        super().__init__()
        self._server.RequestHandlerClass = _CompletionHandler


class _CompletionHandler(_Handler):
    def do_POST(self) -> None:  # noqa: N802  # the name that http.server asks for
        if self.path.endswith("/chat/completions") or not self.path.endswith("/completions"):
            super().do_POST()
            return
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.standin.requests.append(request)
        if self.server.standin.fails(request["model"]):
            self._refuse(500, "the server is broken", "server_error")
            return
        asked = request.get("logprobs")
        messages = [{"role": "user", "content": request["prompt"]}]
        answer = answer_to(
            {"model": request["model"], "messages": messages, "logprobs": bool(asked), "top_logprobs": asked}
        )
        if request.get("stream"):
            self._stream(answer, _frames(answer), ending=b"data: [DONE]\n\n")
        else:
            tokens = len(answer.positions)
            usage = {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens}
            self._send(200, {**_body(answer, answer.text, answer.positions, "stop"), "usage": usage})


def _frames(answer: Answer) -> list[tuple[dict, int]]:
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
