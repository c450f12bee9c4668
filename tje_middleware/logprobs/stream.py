"""Log-probabilities that arrive chunk by chunk."""

from __future__ import annotations

from ..errors import MissingLogprobs, UnreadableLogprobs
from .envelopes import read_payload
from .fields import field, has, is_sequence, text_of
from .sequence import SequenceLogprobs

_RESPONSES_DELTA = "response.output_text.delta"


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
        self._uncovered = 0

    def __len__(self) -> int:
        """Positions collected so far (tokens)."""
        return sum(map(len, self._parts))

    def add(self, chunk: object) -> int:
        """Take one chunk as it came; returns how many positions it brought (tokens).

        Raises:
            UnreadableLogprobs: the chunk's logprobs are there but cannot be read.
        """
        kind = field(chunk, "type")
        if isinstance(kind, str) and kind.startswith("response.") and kind != _RESPONSES_DELTA:
            return 0  # the closing events of the Responses API repeat what the deltas brought
        choices = field(chunk, "choices")
        if is_sequence(choices):
            # With n > 1 a chunk carries one choice and its index, not all of them.
            chosen = [item for item in choices if (field(item, "index") or 0) == self._choice]
            if not chosen:
                return 0
            chunk = {"choices": [chosen[0]]}
        try:
            part = read_payload(chunk, choice=0)
        except MissingLogprobs:
            self._uncovered += len(_chunk_text(chunk) or "")
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
        if self._uncovered:
            raise UnreadableLogprobs(
                f"{self._uncovered} characters of the stream came without logprobs, so the sequence has holes"
            )
        return SequenceLogprobs.concatenate(self._parts)


def is_chunk(item: object) -> bool:
    """Whether the item is one message of a stream rather than one position of a sequence."""
    return not is_sequence(item) and has(item, "choices", "response_metadata", "raw", "delta", "candidates", "done")


def _chunk_text(chunk: object) -> str | None:
    """The text that a chunk adds, wherever its shape keeps it."""
    choices = field(chunk, "choices")
    if is_sequence(choices) and choices:
        delta = field(choices[0], "delta", "message")
        return text_of(field(delta, "content") if delta is not None else field(choices[0], "text"))
    raw = field(chunk, "raw")
    if raw is not None:
        return _chunk_text(raw)
    message = field(chunk, "message")
    return text_of(field(message, "content") if message is not None else field(chunk, "content", "response", "delta"))
