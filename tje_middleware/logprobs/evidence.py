"""The logprobs that speak for a whole answer, however it came; or the reason why there are none."""

from __future__ import annotations

from ..errors import MissingLogprobs, UnreadableLogprobs
from . import LogprobsAccumulator, SequenceLogprobs, parse_logprobs
from .blocks import ASK
from .envelopes import Located, locate
from .fields import reading
from .sequence import covered_characters, refuse_partial_cover, refuse_silent_tool_call

#: Errors among these were never raised: a traceback's frames would hold the payload.
Evidence = SequenceLogprobs | UnreadableLogprobs


def read(payload: object) -> Evidence:
    """The logprobs of a payload, or the error that says why there are none."""
    try:
        return parse_logprobs(payload)
    except UnreadableLogprobs as error:
        return _unraised(error)


def without_advice(missing: MissingLogprobs) -> str:
    """Why there are no logprobs, without the advice to ask for them: of a model that was asked."""
    said, _, _ = str(missing).partition(f"; {ASK}")
    # Of a shape that says nothing to whoever gates a chain.
    return "the draft came without logprobs" if said.endswith("came without logprobs") else said


class StreamedEvidence:
    """The logprobs of an answer that may be streamed: chunks as they come, then the whole.

    What a framework merges of a stream may keep the last chunk's logprobs alone and still look sound, so the chunks'
    own count; and what covers only a part of the answer is never given out.
    """

    def __init__(self) -> None:
        self._stream: LogprobsAccumulator | None = None
        self._fault: UnreadableLogprobs | None = None

    def add(self, chunk: object) -> int:
        """Take one chunk; returns how many positions it brought (tokens)."""
        if self._stream is None:
            self._stream = LogprobsAccumulator()
        try:
            return self._stream.add(chunk)
        except UnreadableLogprobs as error:
            self._fault = self._fault or _unraised(error)
            return 0

    def of(self, whole: object) -> Evidence:
        """What speaks for the whole answer, now that it is here."""
        if self._stream is None:
            return read(whole)
        streamed = self._fault or _collected(self._stream, whole)
        if isinstance(streamed, SequenceLogprobs):
            return streamed
        merged = read(whole)
        if isinstance(streamed, MissingLogprobs) and not len(self._stream):
            return merged
        return merged if _spells_all(merged, whole) else streamed


def _collected(stream: LogprobsAccumulator, whole: object) -> Evidence:
    try:
        sequence, answer = stream.result(), _located(whole)
        refuse_partial_cover(sequence, _length(answer))
        if answer.calls_tools:
            refuse_silent_tool_call(sequence, _length(answer))
    except UnreadableLogprobs as error:
        return _unraised(error)
    return sequence


def _spells_all(evidence: Evidence, whole: object) -> bool:
    """Whether logprobs that were merged from a stream with a hole in it lack nothing themselves."""
    if isinstance(evidence, UnreadableLogprobs):
        return False
    return (covered_characters(evidence) or 0) >= _length(_located(whole))


def _located(payload: object) -> Located:
    with reading(payload):
        return locate(payload, 0)


def _length(answer: Located) -> int:
    return max(len(answer.text or ""), len(answer.message or ""))


def _unraised(error: UnreadableLogprobs) -> UnreadableLogprobs:
    return type(error)(*error.args)
