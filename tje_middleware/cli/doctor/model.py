"""A live model is asked a few questions, and each answer is looked at.

Providers differ in that more than their documentation says, and change it. ``examine`` asks the model itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeAlias

from ...calls.refusal import is_refused_request, may_refuse, sentence_that_refuses
from ...calls.request import LogprobsCapabilities
from ...logprobs import SequenceLogprobs
from . import answers
from .endpoint import Answer, Endpoint, StatusError, shown, trouble
from .finding import Check, Finding, findings_of

#: More requests than this are never made.
MOST_REQUESTS = 11
# A key that is shorter than this is none, and its letters are those of common words.
_SHORTEST_KEY = 6
# The fewest alternatives that are asked for before a model counts as one that refuses.
_FEW = 5
_LONGEST = 512  # tokens of an answer, thinking included

_PLAIN = "What is 17 + 26? Answer with one short sentence."
_PROMPT = "17 + 26 ="
_FOR_TOOL = "What is the weather in Paris now? Use the tool get_weather."
_TOOL = {
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
_FORMAT = {"type": "json_schema", "json_schema": {"name": "sum", "strict": True, "schema": _SCHEMA}}
_REMEDIES = {
    "streamed": answers.WHOLE,
    "tool calls": answers.UNKNOWN_CALLS,
    "tool calls streamed": answers.WHOLE,
    "structured output": answers.NO_FORMAT,
}

#: The options of a request.
Manner: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class LiveModel:
    """What a model behind an endpoint really returns.

    Attributes:
        model: Its name, as it was asked for.
        endpoint: Where it was asked, without credentials.
        findings: In the order in which the questions were asked.
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
        return {**asdict(self), "can_be_gated": self.can_be_gated}


def examine(base_url: str, model: str, *, api_key: str, top_k: int = 20, timeout: float = 60.0) -> LiveModel:
    """Ask a live model what it returns, in at most ``MOST_REQUESTS`` short requests.

    Never raises; what cannot be found out is a finding.

    Args:
        base_url: Of an OpenAI-compatible API.
        model: The model's name.
        api_key: The key; it is sent to the endpoint and appears in nothing that is returned.
        top_k: Alternatives a position to ask for.
        timeout: What one whole answer may take (seconds).
    """
    endpoint = Endpoint(base_url, model, api_key, timeout)
    examination = _Examination(endpoint, top_k)
    findings = findings_of(examination.checks, examination.explained)
    given, verdict = examination.verdict(findings)
    if len(api_key) >= _SHORTEST_KEY:  # servers quote the key that they do not like
        findings = [replace(each, found=each.found.replace(api_key, "***")) for each in findings]
    return LiveModel(model, shown(base_url), tuple(findings), given, verdict, endpoint.requests)


class _Examination:
    """The questions in their order, and what the answers to earlier ones were."""

    def __init__(self, endpoint: Endpoint, top_k: int) -> None:
        self._endpoint = endpoint
        self._top_k = top_k
        # How this model lets itself be asked; found out with the first answer.
        self._manner: Manner = {"logprobs": True, "top_logprobs": top_k, "temperature": 0, "max_tokens": _LONGEST}
        # What it said when it refused to be asked for logprobs; empty where it did not.
        self._refusal = ""
        self._answer: Answer | None = None
        self._whole: SequenceLogprobs | None = None
        self._warm: SequenceLogprobs | None = None
        self._streamed: SequenceLogprobs | None = None
        # What made the model call a tool, and the answer that it then gave.
        self._calling: tuple[Manner, Answer] | None = None

    def checks(self, _: Sequence[Finding]) -> Iterator[tuple[str, Check]]:
        """The questions that are worth asking, after what was found so far."""
        yield "answer", self._ask_plainly
        answer, whole = self._answer, self._whole
        if answer is None:
            return
        if whole is not None:
            yield "fewer alternatives", self._ask_again
            yield "numbers", partial(self._look_at_numbers, answer, whole)
        yield "thinking", lambda: (answers.thinking_of(answer), answers.name_of(answer, self._endpoint.model))
        if "logprobs" in self._manner:
            yield "streamed", self._ask_streamed
        if whole is not None:
            yield "tool calls", self._ask_for_tools
            if self._calling is not None:
                yield "tool calls streamed", partial(self._ask_for_tools_streamed, *self._calling)
            structured = {**self._manner, "response_format": _FORMAT}
            yield "structured output", lambda: [answers.structured_of(self._endpoint.chat(_PLAIN, structured))]
            brief = {"logprobs": min(_FEW, self._top_k), "max_tokens": 8}
            yield "completions", lambda: [answers.completion_of(self._endpoint.complete(_PROMPT, brief))]

    def explained(self, name: str, error: Exception) -> Finding:
        """What an error says about one way of asking."""
        found, remedy = trouble(error, self._endpoint.timeout)
        if name == "answer" or not is_refused_request(error):
            return Finding(name, "missing" if name == "completions" else "fail", found, remedy)
        # The model answers when it is asked plainly, so this way of asking is what it refuses.
        if sentence_that_refuses(error):
            found = _refusal(error)
        return Finding(name, "missing", found, _REMEDIES.get(name, remedy))

    def verdict(self, findings: Sequence[Finding]) -> tuple[int | None, str]:
        """Alternatives a position that can be gated by, and whether it can, in words."""
        sequence = self._whole or self._streamed
        unsound = any(each.name == "numbers" and each.status == "fail" for each in findings)
        if sequence is None or unsound:
            return None, "no"
        conditions = [f"top_k={sequence.top_k}"] if sequence.top_k < self._top_k else []
        if sequence.top_k == 1:
            conditions.append('signal="mean_nll"')
        elif answers.is_certain(sequence):
            conditions.append("a temperature above 0")
        words = f"with {' and '.join(conditions)}" if conditions else "yes"
        return min(sequence.top_k, self._top_k), words if self._whole is not None else f"{words}, streamed"

    def _ask_plainly(self) -> Iterator[Finding]:
        self._answer = answer = self._first_answer()
        if self._refusal:
            yield Finding("logprobs", "missing", self._refusal, answers.NO_LOGPROBS)
        else:
            yield answers.logprobs_of(answer)
        if isinstance(answer.evidence, SequenceLogprobs):
            self._whole = answer.evidence
            yield answers.alternatives_of(self._whole, self._top_k)

    def _first_answer(self) -> Answer:
        """The answer to the first question, which is asked for less each time that something is refused."""
        try:
            return self._endpoint.chat(_PLAIN, self._manner)
        except StatusError as error:
            less = _asking_for_less(self._manner, error)
            if less is None:
                raise
            if "logprobs" in self._manner and "logprobs" not in less:
                self._refusal = _refusal(error)
            self._manner = less
        return self._first_answer()

    def _ask_again(self) -> Iterator[Finding]:
        """The same question for fewer alternatives, and with the temperature up."""
        fewer = min(_FEW, self._manner["top_logprobs"])
        manner = {**self._manner, "top_logprobs": fewer}
        if "temperature" in manner:
            manner["temperature"] = 1
        if manner == self._manner:
            return
        found = self._endpoint.chat(_PLAIN, manner).evidence
        if not isinstance(found, SequenceLogprobs):
            return
        self._warm = found if "temperature" in manner else None
        if fewer < self._manner["top_logprobs"]:
            yield answers.fewer_of(found, fewer)

    def _look_at_numbers(self, answer: Answer, whole: SequenceLogprobs) -> Iterator[Finding]:
        yield answers.numbers_of(whole, self._warm)
        yield answers.cover_of(answer, whole)
        takes_temperature = "temperature" in self._manner
        yield answers.temperature_of(whole, self._warm) if takes_temperature else answers.NO_TEMPERATURE

    def _ask_streamed(self) -> Iterator[Finding]:
        manner = {**self._manner, "stream": True}
        refusal = ""
        try:
            answer = self._endpoint.chat(_PLAIN, {**manner, "stream_options": {"include_usage": True}})
        except StatusError as error:
            if not may_refuse("stream_options", error):
                raise
            refusal = "stream_options is refused"
            answer = self._endpoint.chat(_PLAIN, manner)
        yield answers.stream_of(answer)
        if isinstance(answer.evidence, SequenceLogprobs):
            self._streamed = answer.evidence
            if self._whole is None:
                yield answers.alternatives_of(answer.evidence, self._top_k)
                yield answers.numbers_of(answer.evidence)
        yield answers.usage_of_stream(answer, refusal)

    def _ask_for_tools(self) -> Iterator[Finding]:
        manner: Manner = {**self._manner, "tools": [_TOOL]}
        answer = self._endpoint.chat(_FOR_TOOL, manner)
        if answer.arguments is None:  # small models speak of the tool instead
            manner = {**manner, "tool_choice": "required"}
            with suppress(Exception):
                answer = self._endpoint.chat(_FOR_TOOL, manner)
        self._calling = manner, answer
        yield answers.tool_call_of(answer, "tool calls")

    def _ask_for_tools_streamed(self, manner: Manner, whole: Answer) -> Iterator[Finding]:
        answer = self._endpoint.chat(_FOR_TOOL, {**manner, "stream": True})
        if not (whole.arguments is None and answer.arguments is None):
            yield answers.tool_call_of(answer, "tool calls streamed")


def _asking_for_less(manner: Manner, error: Exception) -> Manner | None:
    """The options without what an error refuses of them; None where nothing that it refuses can be left out.

    Each is left out once, so that this comes to an end whatever errors say. They may quote the whole request: a
    sentence that refuses logprobs counts before the mere name of an option.
    """
    if "logprobs" in manner and is_refused_request(error) and sentence_that_refuses(error):
        return _with_fewer_logprobs(manner)
    if may_refuse("max_tokens", error) and "max_tokens" in manner:  # OpenAI's reasoning models want the newer name
        return {**_without(manner, "max_tokens"), "max_completion_tokens": _LONGEST}
    if may_refuse("temperature", error) and "temperature" in manner:
        return _without(manner, "temperature")
    if may_refuse("logprob", error) and "logprobs" in manner:
        return _with_fewer_logprobs(manner)
    return None


def _with_fewer_logprobs(manner: Manner) -> Manner:
    if manner["top_logprobs"] > _FEW:
        return {**manner, "top_logprobs": _FEW}
    return _without(manner, "logprobs", "top_logprobs")


def _without(manner: Manner, *names: str) -> Manner:
    return {name: value for name, value in manner.items() if name not in names}


def _refusal(error: Exception) -> str:
    """What a refusal of logprobs says, without what it may quote."""
    capabilities = LogprobsCapabilities()
    capabilities.remember("", error)
    return capabilities.refusal("") or ""
