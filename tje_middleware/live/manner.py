"""How a model lets itself be asked: for less each time that it refuses something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..capability import is_refused_request, may_refuse, sentence_that_refuses

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
