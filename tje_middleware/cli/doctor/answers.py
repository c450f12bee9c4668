"""What the answers of a live model say about it: pure functions, each gives one finding."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from ...calibration.key import same_model
from ...errors import MissingLogprobs, UnreadableLogprobs
from ...logprobs import SequenceLogprobs
from ...logprobs.arrays import FloatArray
from ...logprobs.entropy import mean_entropy
from ...logprobs.evidence import without_advice
from .endpoint import Answer
from .finding import Finding

# Rounding of alternatives' probabilities that are summed, and of one logprob that is given twice (nats).
_ROUNDING = 2e-3
# Batches and caches change logprobs of the same prompt by about this much (nats).
_NOISE = 0.25
# Of the alternatives that two answers are compared by: those further down are lost in rounding.
_COMPARED = 5
_NO_BITS = 1e-9

NO_LOGPROBS = "serve or choose a model with logprobs; every draft goes by on_missing meanwhile"
_LONGEST_NAME = 100  # characters

WHOLE = 'let such drafts come whole: mode="hold", not "abort" or "annotate"'
UNKNOWN_CALLS = (
    "matters to agents only: a call that logprobs do not cover goes deeper by default, and is then paid for twice; "
    'tool_calls="pass" accepts calls unjudged'
)
NO_FORMAT = "leave response_format out of drafts"

_NO_TEMPERATURE = "set none on the model, and name none in the profile's key"
#: Of a model that takes no temperature of 0.
NO_TEMPERATURE = Finding("temperature", "warn", "a temperature of 0 is refused", _NO_TEMPERATURE)


def logprobs_of(answer: Answer) -> Finding:
    """Whether a whole answer comes with logprobs that can be read."""
    found = answer.evidence
    if isinstance(found, SequenceLogprobs):
        return Finding("logprobs", "ok", f"{len(found)} tokens came with logprobs")
    if isinstance(found, MissingLogprobs):
        missing = _unmeasured("logprobs", found, NO_LOGPROBS)
        return replace(missing, found=f"the model was asked for logprobs, but {missing.found}")
    return Finding("logprobs", "fail", f"logprobs came that cannot be read: {found}", "report this to the provider")


def alternatives_of(sequence: SequenceLogprobs, asked: int) -> Finding:
    """How many alternatives come at a position, of how many that were asked for."""
    given, least = sequence.top_k, int(sequence.counts.min())
    words = f"{given} of {asked} alternatives a position"
    if least < given:
        words += f", at some {least}"
    if given >= asked:
        return Finding("alternatives", "ok", words)
    remedy = f"calibrate with top_k={given}: entropies over fewer are lower"
    if given == 1:
        remedy = (
            'one is no distribution: calibrate with top_k=1 and a signal of the sampled tokens (signal="mean_nll")'
        )
    return Finding("alternatives", "warn", words, remedy)


def fewer_of(sequence: SequenceLogprobs, asked: int) -> Finding:
    """Whether a request for fewer alternatives is heeded."""
    words = f"{sequence.top_k} alternatives came where {asked} were asked for"
    if sequence.top_k == asked:
        return Finding("fewer alternatives", "ok", words)
    remedy = "the number is the server's: calibrate with the top_k that it gives"
    return Finding("fewer alternatives", "warn", words, remedy)


def is_certain(sequence: SequenceLogprobs) -> bool:
    """Whether every alternative but one has probability 0, which no model is as certain as to give."""
    return sequence.top_k > 1 and mean_entropy(sequence) < _NO_BITS


def numbers_of(sequence: SequenceLogprobs, warm: SequenceLogprobs | None = None) -> Finding:
    """Whether the numbers are logprobs of one distribution: their sum, and the token that was sampled.

    ``warm`` is of an answer to the same question at temperature 1, where there is one.
    """
    mass = np.exp(sequence.top_logprobs).sum(axis=1).max()
    if mass > 1 + _ROUNDING:
        words = f"the alternatives' probabilities add up to {mass:.3f}: no distribution"
        return Finding("numbers", "fail", words, "entropies of it mean nothing; report this to the provider")
    if is_certain(sequence):
        words = "at temperature 0 every token has probability 1: the logprobs are those after sampling"
        if warm is None or is_certain(warm):
            return Finding("numbers", "fail", words, "have the server return logprobs from before sampling")
        remedy = "ask for drafts at a temperature above 0, and name it in the profile's key"
        return Finding("numbers", "warn", words, remedy)
    words = f"finite, at most {mass:.3f} together, mean entropy {mean_entropy(sequence):.3g} bits"
    if sequence.sampled_logprobs is None:
        return Finding("numbers", "ok", f"{words}; the sampled tokens' own logprobs are not given")
    nearest = np.abs(_finite(sequence.top_logprobs) - _finite(sequence.sampled_logprobs)[:, None]).min(axis=1)
    absent = int((nearest > _ROUNDING).sum())
    if absent:
        words += f"; at {absent} of {len(sequence)} positions the sampled token is not among the alternatives"
        remedy = "entropies hold; prefer them to signals of the sampled tokens (mean_nll, worst_nll)"
        return Finding("numbers", "warn", words, remedy)
    return Finding("numbers", "ok", f"{words}; the sampled token is among the alternatives")


def cover_of(answer: Answer, sequence: SequenceLogprobs) -> Finding:
    """Whether the tokens spell the answer."""
    spelled = sequence.text
    if spelled is None:
        return Finding("text", "warn", "the tokens are not named, so what they cover cannot be checked")
    texts = {_plain(spelled), _plain(sequence.answer.text or "")}
    if _plain(answer.text) in texts:
        return Finding("text", "ok", "the tokens spell the answer")
    if _plain(answer.text) in _plain(spelled):
        extra = len(_plain(spelled)) - len(_plain(answer.text))
        return Finding("text", "warn", f"the tokens spell the answer and {extra} characters beside it")
    words = "the tokens do not spell the answer (are they bytes, or another tokenizer's?)"
    remedy = (
        "signals that read the text (@thinking, answer_entropy, number_entropy) may go wrong; mean_entropy does not"
    )
    return Finding("text", "warn", words, remedy)


def thinking_of(answer: Answer) -> Finding:
    """Whether the model thinks, and whether its logprobs show that."""
    found = answer.evidence
    marked = int(found.thinking_mask.sum()) if isinstance(found, SequenceLogprobs) else 0
    if marked and isinstance(found, SequenceLogprobs):
        words = f"{marked} of the {len(found)} logprobs are of thinking"
        remedy = 'signals can be taken over one part: signal="mean_entropy@answer" or "@thinking"'
        return Finding("thinking", "ok", words, remedy)
    counted = answer.reasoning_tokens or 0
    if not (answer.reasoning or counted or "<think" in answer.text):
        return Finding("thinking", "ok", "no thinking was seen")
    words = f"the model thinks{f' ({counted} tokens are counted)' if counted else ''}, and no logprobs cover that"
    return Finding("thinking", "warn", words, "signals see the answer alone, in calibration as in use")


def temperature_of(cold: SequenceLogprobs, warm: SequenceLogprobs | None) -> Finding:
    """Whether temperature 0 takes the likeliest token, and whether logprobs depend on the temperature.

    ``cold`` is of an answer at temperature 0, ``warm`` of one to the same question at 1, where there is one.
    """
    others = _likelier_elsewhere(cold)
    if others > max(1, len(cold) // 10):
        words = f"at temperature 0 another token was likelier at {others} of {len(cold)} positions"
        remedy = "the server samples otherwise than it was asked to: name no temperature in the profile's key"
        return Finding("temperature", "warn", words, remedy)
    if warm is None:
        return Finding("temperature", "ok", "at temperature 0 the likeliest tokens are taken")
    one, two = (np.sort(each.top_logprobs[0])[::-1][:_COMPARED] for each in (cold, warm))
    size = min(len(one), len(two))
    if np.abs(_finite(one[:size]) - _finite(two[:size])).max() <= _NOISE:
        return Finding("temperature", "ok", "logprobs are those from before the temperature is applied")
    remedy = "calibrate at the temperature that you use, and name it in the key: --temperature"
    return Finding("temperature", "warn", "logprobs change with the temperature", remedy)


def name_of(answer: Answer, asked: str) -> Finding:
    """Whether answers come under the name that was asked for."""
    if answer.model is None:
        return Finding("model name", "warn", "answers do not name their model")
    if answer.model == asked:
        return Finding("model name", "ok", f"answers come under the name {asked!r}")
    named = repr(answer.model[:_LONGEST_NAME])
    if same_model(asked, answer.model):
        return Finding("model name", "ok", f"{asked!r} answers as {named}, which a gate takes for the same")
    words = f"asked for {asked!r}, the server answers as another model: {named}; what is found holds for that one"
    remedy = (
        "check --model; if it is right, the model in the profile's key has to be the name that the server answers "
        "with, or have it as an alias (tje registry alias), or no draft can be judged"
    )
    return Finding("model name", "warn", words, remedy)


def stream_of(answer: Answer) -> Finding:
    """Whether a stream's chunks bring logprobs of all its text."""
    found = answer.evidence
    if isinstance(found, SequenceLogprobs):
        return Finding("streamed", "ok", f"{len(found)} tokens came with logprobs, {found.top_k} alternatives each")
    return _unmeasured("streamed", found, WHOLE)


def usage_of_stream(answer: Answer, refusal: str) -> Finding:
    """Whether a stream says what it cost; ``refusal`` is empty unless a request that asks for that is refused."""
    if answer.has_usage:
        return Finding("usage streamed", "ok", "streams say what they cost")
    words = refusal or "streams do not say what they cost"
    return Finding("usage streamed", "missing", words, "their tokens are known as a lower bound only")


def completion_of(answer: Answer) -> Finding:
    """Whether the model answers as a completion model too, with logprobs."""
    if isinstance(answer.evidence, UnreadableLogprobs):
        return _unmeasured("completions", answer.evidence)
    return Finding("completions", "ok", f"{answer.evidence.top_k} alternatives a position")


def tool_call_of(answer: Answer, name: str) -> Finding:
    """Whether the logprobs of a turn that calls a tool cover the call."""
    found, arguments = answer.evidence, answer.arguments
    if arguments is None:
        words = "the model called no tool when it was asked to, so nothing is known of its calls' logprobs"
        return Finding(name, "missing", words, UNKNOWN_CALLS)
    if isinstance(found, UnreadableLogprobs):
        return _unmeasured(name, found, UNKNOWN_CALLS)
    if "".join(arguments.split()) in "".join((found.text or "").split()):
        return Finding(name, "ok", f"{len(found)} logprobs cover the call and its arguments")
    return Finding(name, "warn", "logprobs came, but do not spell the call's arguments", UNKNOWN_CALLS)


def structured_of(answer: Answer) -> Finding:
    """Whether an answer that has to follow a JSON schema does so, with logprobs."""
    found, name = answer.evidence, "structured output"
    if isinstance(found, UnreadableLogprobs):
        return _unmeasured(name, found, NO_FORMAT)
    try:
        json.loads(answer.text)
    except ValueError:
        return Finding(name, "warn", "the answer is not JSON: response_format is ignored, or the model failed at it")
    others = _likelier_elsewhere(found)
    came = f"{len(found)} tokens came with logprobs"
    if others:
        words = f"{came}; another token was likelier at {others} of them, so these are the model's own and not those "
        return Finding(name, "warn", f"{words}under the schema", "calibrate structured drafts as a task of their own")
    return Finding(name, "ok", f"JSON; {came}")


def _unmeasured(name: str, error: UnreadableLogprobs, remedy: str = "") -> Finding:
    """Of an answer that came without logprobs, or with some that cannot be read."""
    if not isinstance(error, MissingLogprobs):
        return Finding(name, "fail", str(error), remedy)
    return Finding(name, "missing", without_advice(error).replace("the draft", "the answer"), remedy)


def _likelier_elsewhere(sequence: SequenceLogprobs) -> int:
    """At how many positions another token than the sampled one was likelier; 0 where that is not known."""
    if sequence.sampled_logprobs is None:
        return 0
    return int((sequence.top_logprobs.max(axis=1) > sequence.sampled_logprobs + _ROUNDING).sum())


def _plain(text: str) -> str:
    return " ".join(text.split())


def _finite(logprobs: FloatArray) -> FloatArray:
    """Without -inf, which cannot be subtracted from itself."""
    return np.maximum(logprobs, -1e4)
