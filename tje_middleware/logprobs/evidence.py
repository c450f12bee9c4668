"""Evidence about an answer, streamed or whole: its logprobs, or the error that says why there are none."""

from __future__ import annotations

from ..errors import MissingLogprobs, UnreadableLogprobs
from . import LogprobsAccumulator, SequenceLogprobs, parse_logprobs
from .blocks import ASK
from .envelopes import Located, locate
from .fields import reading
from .sequence import covered_characters

#: An error among these was never raised: the frames in its traceback would keep the payload in memory.
Evidence = SequenceLogprobs | UnreadableLogprobs


def read(payload: object) -> Evidence:
    """The logprobs of a payload, or the error that says why there are none."""
    try:
        return parse_logprobs(payload)
    except UnreadableLogprobs as error:
        return _unraised(error)


def without_advice(missing: MissingLogprobs) -> str:
    """Why there are no logprobs, without the advice to ask for them: for a model that was asked for them."""
    said, _, _ = str(missing).partition(f"; {ASK}")
    # The class of the payload, with which such a message begins, means nothing to the user of a chain.
    return "the draft came without logprobs" if said.endswith("came without logprobs") else said


class StreamedEvidence:
    """The logprobs of an answer that may be streamed: chunks as they come, then the whole.

    A message that a framework merges from a stream may hold the logprobs of its last chunk only, and nothing in it
    shows that. So the logprobs of the chunks are used where there are any. Logprobs that cover only a part of the
    answer are never returned.
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
        """The evidence about the whole answer, once the stream has ended."""
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
        sequence = stream.result()
        _located(whole).require_cover(sequence)
    except UnreadableLogprobs as error:
        return _unraised(error)
    return sequence


def _spells_all(evidence: Evidence, whole: object) -> bool:
    """Whether the merged message's logprobs cover all of its text, although chunks of the stream lacked some."""
    if isinstance(evidence, UnreadableLogprobs):
        return False
    return (covered_characters(evidence) or 0) >= _located(whole).length


def _located(payload: object) -> Located:
    with reading(payload):
        return locate(payload, 0)


def _unraised(error: UnreadableLogprobs) -> UnreadableLogprobs:
    return type(error)(*error.args)
