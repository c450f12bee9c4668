"""What was found out about a live model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ...calls.capabilities import is_refused_request, may_refuse, sentence_that_refuses

#: ``limited``: there, with something to know about it. ``missing``: not given. ``failed``: given in a form that is of
#: no use, or not found out.
Outcome = Literal["ok", "limited", "missing", "failed"]


@dataclass(frozen=True)
class Finding:
    """The answer to one question about a model.

    Attributes:
        check: What was looked at, in a word or three.
        outcome: How that stands.
        words: What was seen, as a sentence without its full stop.
        advice: What to do about it; empty where nothing is to be done.
    """

    check: str
    outcome: Outcome
    words: str
    advice: str = ""


@dataclass(frozen=True)
class LiveModel:
    """What a model behind an endpoint really returns.

    Attributes:
        model: Its name, as it was asked for.
        endpoint: Where it was asked, without credentials.
        findings: One for each question, in the order in which they were asked.
        top_k: Alternatives a position that the gate can have of it; None where it cannot be gated.
        verdict: Whether it can be gated, in words: ``yes``, ``with top_k=5``, ``no``, ...
        requests: How many requests that took.
    """

    model: str
    endpoint: str
    findings: tuple[Finding, ...]
    top_k: int | None
    verdict: str
    requests: int

    @property
    def can_be_gated(self) -> bool:
        """Whether a gate has anything to measure."""
        return self.top_k is not None

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, fit for JSON."""
        return {**asdict(self), "findings": [*map(asdict, self.findings)], "can_be_gated": self.can_be_gated}


PLAIN = "What is 17 + 26? Answer with one short sentence."
PROMPT = "17 + 26 ="
FOR_TOOL = "What is the weather in Paris now? Use the tool get_weather."

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city now.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}

_SCHEMA = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "sum", "strict": True, "schema": _SCHEMA}}

#: The fewest alternatives that are asked for before a model counts as one that refuses.
FEW = 5
_LONGEST = 512  # tokens of an answer, thinking included

#: The options of a request.
Manner = Mapping[str, Any]


def full_manner(top_k: int) -> Manner:
    """With all that the gate would like to have.

    Args:
        top_k: Alternatives a position.
    """
    return {"logprobs": True, "top_logprobs": top_k, "temperature": 0, "max_tokens": _LONGEST}


def asks_for_logprobs(manner: Manner) -> bool:
    """Whether logprobs are still asked for."""
    return "logprobs" in manner


def asking_for_less(manner: Manner, error: Exception) -> Manner | None:
    """The options without what an error refuses of them; None where nothing that it refuses can be left out.

    Each is left out once, so that this comes to an end whatever errors say. They may quote the whole request: a
    sentence that refuses logprobs counts before the mere name of an option.
    """
    refuses_logprobs = is_refused_request(error) and bool(sentence_that_refuses(error))
    if refuses_logprobs and asks_for_logprobs(manner):
        return _with_fewer_logprobs(manner)
    if may_refuse("max_tokens", error) and "max_tokens" in manner:  # OpenAI's reasoning models want the newer name
        return {**without(manner, "max_tokens"), "max_completion_tokens": _LONGEST}
    if may_refuse("temperature", error) and "temperature" in manner:
        return without(manner, "temperature")
    if may_refuse("logprob", error) and asks_for_logprobs(manner):
        return _with_fewer_logprobs(manner)
    return None


def without(manner: Manner, *names: str) -> Manner:
    """The other options."""
    return {name: value for name, value in manner.items() if name not in names}


def _with_fewer_logprobs(manner: Manner) -> Manner:
    if manner["top_logprobs"] > FEW:
        return {**manner, "top_logprobs": FEW}
    return without(manner, "logprobs", "top_logprobs")
