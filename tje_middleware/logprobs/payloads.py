"""Any provider's or framework's payload, whole or as streamed chunks, becomes a SequenceLogprobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

from ..errors import MissingLogprobs, UnreadableLogprobs
from .envelopes import locate, read_located, read_payload
from .fields import field, has, is_sequence, reading
from .sequence import SequenceLogprobs, covered_characters, refuse_partial_cover, without_end

_RESPONSES_DELTA = "response.output_text.delta"


def parse_logprobs(payload: object, *, choice: int = 0) -> SequenceLogprobs:
    """Read the log-probabilities out of any provider's or framework's payload.

    Args:
        payload: What came back: an SDK object or a dict, in any of the shapes that the error names.
        choice: Which one, where the payload holds several answers to one prompt (``n > 1``).

    Returns:
        The sequence, (T, K) natural-log probabilities with tokens and sampled logprobs where known.

    Raises:
        MissingLogprobs: the shape is known, but the provider sent no logprobs in it.
        UnreadableLogprobs: the shape is unknown (the message names what was found and what is known), a
            number is NaN, +inf or above 0, or the logprobs cover only part of the text.
    """
    with reading(payload):
        if _is_stream(payload):
            _refuse_several_answers(payload)
            accumulator = LogprobsAccumulator(choice=choice)
            for chunk in payload:
                accumulator.add(chunk)
            return accumulator.result()
        return read_payload(payload, choice)


class LogprobsAccumulator:
    """Collect the logprobs of one streamed answer.

    Holds numbers and token texts, never the chunks. Chunks without logprobs (the first, the last, usage)
    add nothing; a chunk with text but without logprobs is remembered, so that a hole is never overlooked.

    Example:
        >>> accumulator = LogprobsAccumulator()
        >>> chunk = {"choices": [{"delta": {"content": "Hi"}, "logprobs": {"content": [
        ...     {"token": "Hi", "logprob": -0.1, "top_logprobs": [{"token": "Hi", "logprob": -0.1}]}]}}]}
        >>> accumulator.add(chunk)
        1
        >>> accumulator.result()
        SequenceLogprobs(1 tokens x 1 alternatives)

    Args:
        choice: Which answer to collect, where the stream interleaves several (``n > 1``).
    """

    def __init__(self, *, choice: int = 0) -> None:
        self._choice = choice
        self._parts: list[SequenceLogprobs] = []
        self._characters = 0
        self._holes = False

    def __len__(self) -> int:
        """Positions collected so far (tokens)."""
        return sum(map(len, self._parts))

    def add(self, chunk: object) -> int:
        """Take one chunk as it came; returns how many positions it brought (tokens).

        Raises:
            UnreadableLogprobs: the chunk's logprobs are there but cannot be read.
        """
        with reading(chunk):
            return self._add(chunk)

    def _add(self, chunk: object) -> int:
        event = _provider_chunk(chunk)
        if _is_responses_event(event) and field(event, "type") != _RESPONSES_DELTA:
            return 0  # the closing events of the Responses API repeat the logprobs of the deltas
        choice, choices = self._choice, field(event, "choices")
        if is_sequence(choices):
            # With n > 1 a chunk carries one choice and its index, not all of them.
            chosen = [item for item in choices if (field(item, "index") or 0) == self._choice]
            if not chosen:
                return 0
            choice, chunk = 0, {"choices": chosen[:1]}
        located = locate(chunk, choice)
        self._characters += len(located.text or "")
        try:
            part = read_located(located)
        except MissingLogprobs:
            self._holes = self._holes or bool(located.text)
            return 0
        self._parts.append(part)
        return len(part)

    def result(self) -> SequenceLogprobs:
        """The whole sequence so far.

        Raises:
            MissingLogprobs: no chunk had logprobs.
            UnreadableLogprobs: some chunks had logprobs, others had text without them.
        """
        if not self._parts:
            raise MissingLogprobs("no chunk of the stream had logprobs; ask for logprobs=True and top_logprobs=20")
        sequence = SequenceLogprobs.concatenate(self._parts)
        # A server that looks ahead for a stop string sends text later than its tokens, the last of it in a chunk
        # without tokens. That is no hole as long as the tokens spell the whole text.
        uncovered = self._characters - (covered_characters(sequence) or 0)
        if self._holes and uncovered > 0:
            raise UnreadableLogprobs(
                f"{uncovered} characters of the stream came without logprobs, so the sequence has holes"
            )
        refuse_partial_cover(sequence, self._characters)
        return without_end(sequence)


def _is_stream(payload: object) -> TypeGuard[Sequence[object]]:
    """Whether the payload is a list of a stream's chunks rather than of one sequence's positions."""
    if not is_sequence(payload) or not payload:
        return False
    begins_with_position = is_sequence(payload[0]) or has(payload[0], "top_logprobs")
    return not begins_with_position and any(map(_is_chunk, payload))


def _refuse_several_answers(payload: Sequence[object]) -> None:
    """Refuse a batch: it is a list as well, and its answers would be joined like the chunks of one stream.

    Raises:
        UnreadableLogprobs: the list holds a whole answer beside others.
    """
    if len(payload) > 1 and any(map(_is_whole_answer, payload)):
        raise UnreadableLogprobs(
            f"a list of {len(payload)} answers: pass one at a time (streamed chunks may be a list)"
        )


def _is_whole_answer(item: object) -> bool:
    choices = field(item, "choices")
    return field(item, "type") == "ai" or bool(
        is_sequence(choices) and choices and field(choices[0], "message") is not None
    )


def _is_chunk(item: object) -> bool:
    return not is_sequence(item) and (has(item, *_CHUNK_FIELDS) or _is_responses_event(item))


_CHUNK_FIELDS = (
    "choices",
    "response_metadata",
    "generation_info",
    "raw",
    "delta",
    "candidates",
    "done",
    "completion_probabilities",
)


def _is_responses_event(item: object) -> bool:
    kind = field(item, "type")
    return isinstance(kind, str) and kind.startswith("response.")


def _provider_chunk(chunk: object) -> object:
    """The provider's own chunk, also where LlamaIndex has wrapped it."""
    raw = field(chunk, "raw")
    return chunk if raw is None or field(chunk, "response_metadata") is not None else raw
