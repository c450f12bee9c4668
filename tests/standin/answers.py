"""What the stand-in answers to a request: text or the call of a tool, in tokens of known entropy."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from functools import lru_cache

from scipy.optimize import brentq

from .questions import Question, text_of
from .schemas import example


@dataclass(frozen=True)
class Piece:
    """What one event of a stream brings: its text, and the positions (of OpenAI's form) of the tokens behind it."""

    text: str
    positions: tuple[dict, ...]


@dataclass(frozen=True)
class Call:
    """Of which tool; the arguments are the text of the answer."""

    id: str
    name: str


@dataclass(frozen=True)
class Answer:
    """An answer, whichever form it is sent in."""

    model: str
    pieces: tuple[Piece, ...]
    call: Call | None
    shows_logprobs: bool
    pace: float  # seconds before each streamed token
    thought: int  # tokens, which are counted and never shown

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)

    @property
    def positions(self) -> list[dict]:
        return [position for piece in self.pieces for position in piece.positions]


def answer_to(request: dict) -> Answer:
    """The answer to a request in the form of chat completions.

    Raises:
        ValueError: the question asks for what cannot be, such as an entropy that 20 alternatives cannot have.
    """
    model = request["model"]
    question, replies = _question(request["messages"])
    name = _tool_to_call(request, question, replies)
    asked = bool(request.get("logprobs")) and _gives_logprobs(model, streamed=bool(request.get("stream")))
    if name is None:
        pieces = [[token] for token in _tokens(request, question)]
        texts, bits = [piece[0] for piece in pieces], question.bits
    else:
        asked = asked and model.endswith("-toollogprobs")
        arguments = _json_tokens(json.dumps(_arguments(request, name, question)))
        # A model writes the name as well; the arguments' first and last event bring the tokens around them.
        head = _json_tokens(f'{{"name": {json.dumps(name)}, "arguments": ')
        pieces = [head, *[[token] for token in arguments[:-1]], [arguments[-1], "}"]]
        texts, bits = ["", *arguments], question.call_bits or question.bits
    alternatives = min(int(request.get("top_logprobs") or 0), _most_alternatives(model))
    positions = iter(_positions([token for piece in pieces for token in piece], bits, alternatives))
    return Answer(
        model="dated-2026-01-01" if model == "dated" else model,
        pieces=tuple(
            Piece(text, tuple(next(positions) for _ in piece)) for text, piece in zip(texts, pieces, strict=True)
        ),
        call=None if name is None else Call(f"call_{_tool_messages(request['messages']) + 1}", name),
        shows_logprobs=asked,
        pace=question.pace,
        thought=7 if model == "reasons" else 0,
    )


def _question(messages: list[dict]) -> tuple[Question, list[dict]]:
    """What the last user message asks, and the messages that follow it."""
    users = [index for index, message in enumerate(messages) if message["role"] == "user"]
    at = users[-1] if users else len(messages) - 1
    return Question.of_text(text_of(messages[at].get("content"))), messages[at + 1 :]


def _tool_messages(messages: list[dict]) -> int:
    return sum(message["role"] == "tool" for message in messages)


def _tool_to_call(request: dict, question: Question, replies: list[dict]) -> str | None:
    offered = [tool["function"]["name"] for tool in request.get("tools") or []]
    choice = request.get("tool_choice", "auto")
    if not offered or choice == "none":
        return None
    if isinstance(choice, dict):
        return choice["function"]["name"]
    if question.call is not None and _tool_messages(replies) < question.calls:
        return question.call
    if choice not in {"required", "any"}:
        return None
    called = {call["function"]["name"] for message in replies for call in message.get("tool_calls") or []}
    return next((name for name in offered if name not in called), offered[-1])


def _arguments(request: dict, name: str, question: Question) -> object:
    """``args`` are of the call that the question names; any other call, and a forced one, satisfies its schema."""
    if name == question.call and question.args is not None:
        return question.args
    named = [tool["function"] for tool in request["tools"] if tool["function"]["name"] == name]
    forced = request.get("tool_choice", "auto") != "auto"
    return (
        example(named[0].get("parameters") or {"type": "object"}, _word(request, question))
        if forced and named
        else {}
    )


def _word(request: dict, question: Question) -> str:
    return request["model"] if question.says_model else "yes"


def _tokens(request: dict, question: Question) -> list[str]:
    if question.says is not None:
        return re.findall(r"\s*\S+\s*|\s+", question.says)
    wanted = request.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        schema = wanted["json_schema"].get("schema") or {}
        return _json_tokens(json.dumps(example(schema, _word(request, question))))
    if wanted.get("type") == "json_object":
        return _json_tokens(json.dumps({"answer": _word(request, question)}))
    stem = f"{request['model']}-" if question.says_model else "w"
    return [f"{stem}{number} " for number in range(question.tokens)]


def _json_tokens(text: str) -> list[str]:
    return re.findall(r'": |\w+|(?:(?!": )\W)+', text)


def _gives_logprobs(model: str, *, streamed: bool) -> bool:
    return model not in {"ignores-logprobs", "whole-only" if streamed else "streams-only"}


def _most_alternatives(model: str) -> int:
    found = re.fullmatch(r"top(\d+)", model)
    return int(found[1]) if found else 20


def _positions(tokens: list[str], bits: tuple[float, ...], alternatives: int) -> list[dict]:
    rows = [distribution(bits[min(index, len(bits) - 1)]) for index in range(len(tokens))]
    return [
        {
            "token": token,
            "logprob": row[0],
            "bytes": list(token.encode()),
            "top_logprobs": [
                {"token": token if rank == 0 else f"x{rank}", "logprob": logprob, "bytes": None}
                for rank, logprob in enumerate(row[:alternatives])
            ],
        }
        for token, row in zip(tokens, rows, strict=True)
    ]


@lru_cache(maxsize=1024)
def distribution(bits: float, alternatives: int = 20) -> tuple[float, ...]:
    """Natural logprobs of one likely and 19 equally unlikely alternatives, ``bits`` of entropy together."""
    others = alternatives - 1

    def excess(top: float) -> float:
        rest = 1 - top
        return -top * math.log2(top) - rest * math.log2(rest / others) - bits

    if not 0 < bits < math.log2(alternatives):
        raise ValueError(f"an entropy between 0 and {math.log2(alternatives):.3f} bits, not {bits}")
    top = brentq(excess, 1 / alternatives, 1 - 1e-12, xtol=1e-15)
    return (math.log(top), *[math.log((1 - top) / others)] * others)
