"""A model is asked a few questions, and each answer is looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ...calls.capabilities import LogprobsCapabilities, is_refused_request, may_refuse, sentence_that_refuses
from ...gate.request import DraftRequest
from ...logprobs import SequenceLogprobs
from . import finding as questions
from . import findings as reading
from . import findings as ways
from .endpoint import Answer, Endpoint, shown, trouble
from .finding import FEW, Finding, LiveModel, Manner, asking_for_less, asks_for_logprobs, full_manner

#: More requests than this are never made.
MOST_REQUESTS = 11
# A key that is shorter than this is none, and its letters are those of common words.
_SHORTEST_KEY = 6

_ADVICE = {
    "streamed": ways.WHOLE,
    "tool calls": ways.UNKNOWN_CALLS,
    "tool calls streamed": ways.WHOLE,
    "structured output": ways.NO_FORMAT,
}


def examine(base_url: str, model: str, *, api_key: str, top_k: int = 20, timeout: float = 60.0) -> LiveModel:
    """Ask a live model what it returns, in at most ``MOST_REQUESTS`` short requests.

    Args:
        base_url: Of an OpenAI-compatible API.
        model: The model's name.
        api_key: The key; it is sent to the endpoint and appears in nothing that is returned.
        top_k: Alternatives a position to ask for.
        timeout: What one whole answer may take (seconds).

    Raises:
        ImportError: the package ``openai`` is not installed.
    """
    endpoint = Endpoint(base_url, model, api_key, timeout)
    try:
        examination = _Examination(endpoint, top_k)
        examination.run()
    finally:
        endpoint.close()
    given, verdict = examination.verdict()
    findings = tuple(_without_key(finding, api_key) for finding in examination.findings)
    return LiveModel(model, shown(base_url), findings, given, verdict, endpoint.requests)


class _Examination:
    """The questions in their order, and what came of them so far."""

    def __init__(self, endpoint: Endpoint, top_k: int) -> None:
        self.findings: list[Finding] = []
        self._endpoint = endpoint
        self._top_k = top_k
        # How this model lets itself be asked; found out with the first answer.
        self._manner = full_manner(top_k)
        self._whole: SequenceLogprobs | None = None
        self._warm: SequenceLogprobs | None = None
        self._streamed: SequenceLogprobs | None = None

    def run(self) -> None:
        """Ask."""
        answer = self._first_answer(DraftRequest(LogprobsCapabilities(), self._endpoint.model))
        if answer is None:
            return
        if isinstance(answer.evidence, SequenceLogprobs):
            self._whole = answer.evidence
            self._look_at_whole(answer, answer.evidence)
        self._add(reading.thinking_of(answer), reading.name_of(answer, self._endpoint.model))
        if asks_for_logprobs(self._manner):
            self._ask_streamed()
        if self._whole is not None:
            self._ask_for_tools()
            self._ask_structured()
            self._ask_completions()

    def verdict(self) -> tuple[int | None, str]:
        """Alternatives a position that can be gated by, and whether it can, in words."""
        sequence = self._whole or self._streamed
        unsound = any(each.check == "numbers" and each.outcome == "failed" for each in self.findings)
        if sequence is None or unsound:
            return None, "no"
        conditions = []
        if sequence.top_k < self._top_k:
            conditions.append(f"top_k={sequence.top_k}")
        if sequence.top_k == 1:
            conditions.append('signal="mean_nll"')
        elif reading.is_certain(sequence):
            conditions.append("a temperature above 0")
        words = f"with {' and '.join(conditions)}" if conditions else "yes"
        return min(sequence.top_k, self._top_k), words if self._whole is not None else f"{words}, streamed"

    # The questions

    def _first_answer(self, request: DraftRequest) -> Answer | None:
        """The first answer, asked for less each time that something is refused; None where there is none."""
        try:
            answer = self._endpoint.chat(questions.PLAIN, self._manner)
        except Exception as error:
            less = asking_for_less(self._manner, error)
            if less is None:
                self._add(Finding("answer", "failed", *trouble(error, self._endpoint.timeout)))
                return None
            if asks_for_logprobs(self._manner) and not asks_for_logprobs(less):
                request.note_refusal(error)
            self._manner = less
            return self._first_answer(request)
        refusal = request.answered(request.capabilities).refusal(request.model)
        self._add(reading.refused(refusal) if refusal else reading.logprobs_of(answer))
        return answer

    def _look_at_whole(self, answer: Answer, sequence: SequenceLogprobs) -> None:
        self._add(reading.alternatives_of(sequence, self._top_k))
        self._ask_again()
        self._add(
            reading.numbers_of(sequence, self._warm),
            reading.cover_of(answer, sequence),
            reading.temperature_of(sequence, self._warm) if "temperature" in self._manner else reading.NO_TEMPERATURE,
        )

    def _ask_again(self) -> None:
        """The same question for fewer alternatives, and with the temperature up."""
        fewer = min(FEW, self._manner["top_logprobs"])
        manner = {**self._manner, "top_logprobs": fewer}
        if "temperature" in manner:
            manner["temperature"] = 1
        if manner == self._manner:
            return
        answer = self._asked("fewer alternatives", self._endpoint.chat, questions.PLAIN, manner)
        if answer is None or not isinstance(answer.evidence, SequenceLogprobs):
            return
        self._warm = answer.evidence if "temperature" in manner else None
        if fewer < self._manner["top_logprobs"]:
            self._add(reading.fewer_of(answer.evidence, fewer))

    def _ask_streamed(self) -> None:
        manner: Manner = {**self._manner, "stream_options": {"include_usage": True}}
        refusal = ""
        try:
            answer: Answer | None = self._endpoint.chat_streamed(questions.PLAIN, manner)
        except Exception as error:
            if not may_refuse("stream_options", error):
                self._add(self._of_error("streamed", error))
                return
            refusal = "stream_options is refused"
            answer = self._asked("streamed", self._endpoint.chat_streamed, questions.PLAIN, self._manner)
        if answer is None:
            return
        self._add(ways.stream_of(answer))
        if isinstance(answer.evidence, SequenceLogprobs):
            self._streamed = answer.evidence
            if self._whole is None:
                self._add(reading.alternatives_of(answer.evidence, self._top_k), reading.numbers_of(answer.evidence))
        self._add(ways.usage_of_stream(answer, refusal))

    def _ask_for_tools(self) -> None:
        manner: Manner = {**self._manner, "tools": [questions.TOOL]}
        answer = self._asked("tool calls", self._endpoint.chat, questions.FOR_TOOL, manner)
        if answer is None:
            return
        if answer.arguments is None:  # small models speak of the tool instead
            manner = {**manner, "tool_choice": "required"}
            answer = self._asked(None, self._endpoint.chat, questions.FOR_TOOL, manner) or answer
        self._add(ways.tool_call_of(answer, "tool calls"))
        check = "tool calls streamed"
        streamed = self._asked(check, self._endpoint.chat_streamed, questions.FOR_TOOL, manner)
        if streamed is not None and not (answer.arguments is None and streamed.arguments is None):
            self._add(ways.tool_call_of(streamed, check))

    def _ask_structured(self) -> None:
        manner = {**self._manner, "response_format": questions.FORMAT}
        answer = self._asked("structured output", self._endpoint.chat, questions.PLAIN, manner)
        if answer is not None:
            self._add(ways.structured_of(answer))

    def _ask_completions(self) -> None:
        manner = {"logprobs": min(FEW, self._top_k), "max_tokens": 8}
        answer = self._asked("completions", self._endpoint.complete, questions.PROMPT, manner)
        if answer is not None:
            self._add(ways.completion_of(answer))

    # How they are asked

    def _asked(
        self, check: str | None, ask: Callable[[str, Manner], Answer], question: str, manner: Manner
    ) -> Answer | None:
        """The answer; None where there is none, which is a finding unless the check has no name."""
        try:
            return ask(question, manner)
        except Exception as error:
            if check is not None:
                self._add(self._of_error(check, error))
            return None

    def _of_error(self, check: str, error: Exception) -> Finding:
        """What an error says about one way of asking, by a model that answers when it is asked plainly."""
        words, advice = trouble(error, self._endpoint.timeout)
        if not is_refused_request(error):
            return Finding(check, "missing" if check == "completions" else "failed", words, advice)
        if sentence_that_refuses(error):
            said = LogprobsCapabilities()
            said.remember(self._endpoint.model, error)
            words = said.refusal(self._endpoint.model) or words
        return Finding(check, "missing", words, _ADVICE.get(check, advice))

    def _add(self, *findings: Finding) -> None:
        self.findings.extend(findings)


def _without_key(finding: Finding, api_key: str) -> Finding:
    """Servers quote the key that they do not like."""
    if len(api_key) < _SHORTEST_KEY:
        return finding
    return replace(finding, words=finding.words.replace(api_key, "***"))
