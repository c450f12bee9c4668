"""What answers say that were asked for in another way: streamed, with tools, by a schema; one finding each."""

from __future__ import annotations

import json

from ..errors import MissingLogprobs, UnreadableLogprobs
from ..logprobs import SequenceLogprobs
from .endpoint import Answer
from .finding import Finding, Outcome
from .reading import likelier_elsewhere, why_missing

WHOLE = 'let such drafts come whole: mode="hold", not "abort" or "annotate"'
UNKNOWN_CALLS = (
    "matters to agents only: a call that logprobs do not cover goes deeper by default, and is then paid for twice; "
    'tool_calls="pass" accepts calls unjudged'
)
NO_CALL = "the model called no tool when it was asked to, so nothing is known of its calls' logprobs"
NO_FORMAT = "leave response_format out of drafts"


def stream_of(answer: Answer) -> Finding:
    """Whether a stream's chunks bring logprobs of all its text."""
    found = answer.evidence
    if isinstance(found, SequenceLogprobs):
        return Finding("streamed", "ok", f"{len(found)} tokens came with logprobs, {found.top_k} alternatives each")
    return Finding("streamed", _missing_or_failed(found), why_missing(found), WHOLE)


def usage_of_stream(answer: Answer, refusal: str) -> Finding:
    """Whether a stream says what it cost.

    Args:
        answer: The stream's.
        refusal: What was said to a request that asks for that; empty where it was not refused.
    """
    if answer.has_usage:
        return Finding("usage streamed", "ok", "streams say what they cost")
    words = refusal or "streams do not say what they cost"
    return Finding("usage streamed", "missing", words, "their tokens are known as a lower bound only")


def completion_of(answer: Answer) -> Finding:
    """Whether the model answers as a completion model too, with logprobs."""
    if isinstance(answer.evidence, SequenceLogprobs):
        return Finding("completions", "ok", f"{answer.evidence.top_k} alternatives a position")
    return Finding("completions", "missing", why_missing(answer.evidence))


def tool_call_of(answer: Answer, check: str) -> Finding:
    """Whether the logprobs of a turn that calls a tool cover the call."""
    found, arguments = answer.evidence, answer.arguments
    if arguments is None:
        return Finding(check, "missing", NO_CALL, UNKNOWN_CALLS)
    if isinstance(found, UnreadableLogprobs):
        return Finding(check, _missing_or_failed(found), why_missing(found), UNKNOWN_CALLS)
    if _compact(arguments) in _compact(found.text or ""):
        return Finding(check, "ok", f"{len(found)} logprobs cover the call and its arguments")
    return Finding(check, "limited", "logprobs came, but do not spell the call's arguments", UNKNOWN_CALLS)


def structured_of(answer: Answer) -> Finding:
    """Whether an answer that has to follow a JSON schema does so, with logprobs."""
    found, check = answer.evidence, "structured output"
    if isinstance(found, UnreadableLogprobs):
        return Finding(check, _missing_or_failed(found), why_missing(found), NO_FORMAT)
    try:
        json.loads(answer.text)
    except ValueError:
        return Finding(
            check, "limited", "the answer is not JSON: response_format is ignored, or the model failed at it"
        )
    others = likelier_elsewhere(found)
    if others:
        return Finding(
            check,
            "limited",
            f"{len(found)} tokens came with logprobs; another token was likelier at {others} of them, so these are "
            "the model's own and not those under the schema",
            "calibrate structured drafts as a task of their own",
        )
    return Finding(check, "ok", f"JSON; {len(found)} tokens came with logprobs")


def _missing_or_failed(error: UnreadableLogprobs) -> Outcome:
    return "missing" if isinstance(error, MissingLogprobs) else "failed"


def _compact(text: str) -> str:
    return "".join(text.split())
